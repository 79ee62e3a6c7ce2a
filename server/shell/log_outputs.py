"""Where the lines of the log go: standard error, a file with rotation, or the journal of systemd.

stderr     the default, for service managers and containers that collect it
a path     the file is renamed to FILE.1, FILE.2, ... once it has `log_file_bytes_max`, and `log_files_kept` of them are
           kept. If somebody else renames or removes it (logrotate), the next line begins a new one. `dyn up` gives each
           node such a file, DIR/NODE/log, which is its standard error, too: what the interpreter writes goes there.
journal    entries with fields: MESSAGE, PRIORITY, DYN_NODE, DYN_AREA, DYN_EVENT, and the fields of the event (DYN_PEER,
           ...), so `journalctl DYN_EVENT=peer_state` finds them

A line that cannot be written (a full disk) is lost: the node must not stop for its log, and cannot say so.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
import struct
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path

from server.core.base.config import Config

JOURNAL = "/run/systemd/journal/socket"
FILE_MODE = 0o640
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def output_of(config: Config) -> logging.Handler:
    """The handler for the setting `log_to`. Raises OSError."""
    if config.log_to == "stderr":
        return logging.StreamHandler(sys.stderr)
    if config.log_to == "journal":
        return JournalOutput()
    return FileOutput(Path(config.log_to).absolute(), config)


class FileOutput(logging.handlers.RotatingFileHandler):
    """A file with rotation. Its limits are read from the config at each line, as they may change."""

    def __init__(self, path: Path, config: Config) -> None:
        self.config = config
        self._is_stderr = False
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        assert self.stream is not None
        self._is_stderr = os.path.sameopenfile(2, self.stream.fileno())

    def _open(self) -> TextIOWrapper:
        """Opens the file; standard error goes there from then on, if it went into the former one."""
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
        if self._is_stderr:
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
        return open(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, into a new file if this one is full or is not at its path any more."""
        self.maxBytes, self.backupCount = self.config.log_file_bytes_max, self.config.log_files_kept
        if self.stream is not None and not _is_at(self.stream.fileno(), self.baseFilename):
            self.stream.close()
            self.stream = None  # the next line opens it
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """A line that cannot be written is lost."""


def _is_at(descriptor: int, path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)


class JournalOutput(logging.Handler):
    """Entries of systemd's journal, by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise OSError(f'log_to is "journal", and there is no journal at {path}: {error.strerror}') from error
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends an entry; it is lost if the journal does not take it now."""
        fields: Mapping[str, object] = getattr(record, "fields", {})
        entry = {
            "MESSAGE": self.format(record),
            "PRIORITY": _PRIORITIES.get(record.levelno, 5),
            "SYSLOG_IDENTIFIER": "dyn",
        }
        entry |= {f"DYN_{name.upper()}": value for name, value in fields.items()}
        try:
            self._socket.send(b"".join([_journal_field(name, str(value)) for name, value in entry.items()]))
        except OSError:
            return

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()
        super().close()


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return b"%b=%b\n" % (name.encode(), data)
    return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(data)), data)
