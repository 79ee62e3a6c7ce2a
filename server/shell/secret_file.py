"""Where a node's secrets come from, and how it notices that they have changed.

    --secret-file FILE, or DYN_SECRET_FILE   a file elsewhere; the option is stored in node.json
    DYN_SECRET                               the text of such a file, as a container gets it; changes with a restart only
    DIR/secret                               if it exists; `dyn up` makes it

Never by an argument: everybody on the machine sees the arguments of a process. A file that others than its owner and group
may read is refused. A file is read again once its inode, size or time has changed, which is looked at once a second, and at
SIGHUP. If it cannot be read then, or holds no secrets, the node keeps those that it has, and logs why.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from protocol.handshake import BadSecret, decode_secrets, fingerprint
from server.shell.directory import DirectoryError

log = logging.getLogger("dyn")
FILE_NAME = "secret"
_FILE_VARIABLE, _VARIABLE = "DYN_SECRET_FILE", "DYN_SECRET"
_OTHERS = stat.S_IROTH | stat.S_IWOTH
Mark = tuple[int, int, int]


class SecretSource:
    """The file or variable of one node's secrets."""

    def __init__(self, directory: Path, file: str, environment: Mapping[str, str]) -> None:
        """`file` is that of --secret-file, or empty."""
        named = file or environment.get(_FILE_VARIABLE, "")
        self._text = "" if named else environment.get(_VARIABLE, "")
        self._is_named = bool(named)
        self.path = Path(named) if named else directory / FILE_NAME

    def mark(self) -> Mark | None:
        """What changes when the file is replaced or written; None if there is none."""
        if self._text:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read(self) -> tuple[bytes, ...]:
        """The secrets; none if neither file nor variable is there. Raises DirectoryError."""
        if self._text:
            return _decoded(self._text, f"the variable {_VARIABLE}")
        try:
            with self.path.open() as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096)
        except FileNotFoundError:
            if self._is_named:
                raise DirectoryError(f"the file of the secret, {self.path}, does not exist") from None
            return ()
        except OSError as error:
            raise DirectoryError(f"cannot read the file of the secret, {self.path}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise DirectoryError(f"{self.path} is not a file of secrets: it is no text") from None
        if mode & _OTHERS:
            raise DirectoryError(f"everybody on this machine may read or write {self.path}: chmod 600 {self.path}")
        return _decoded(text, str(self.path))


def _decoded(text: str, where: str) -> tuple[bytes, ...]:
    try:
        return decode_secrets(text)
    except BadSecret as error:
        raise DirectoryError(f"{where} does not hold the secret of a cluster: {error}") from None


class SecretWatch:
    """Gives a running node its secrets, now and whenever they have changed. `take` gets them."""

    def __init__(self, source: SecretSource, take: Callable[[Sequence[bytes]], None]) -> None:
        self._source = source
        self._take = take
        self._mark = source.mark()
        self._secrets: tuple[bytes, ...] = source.read()
        _log_at_start(self._secrets)
        take(self._secrets)

    def check(self) -> None:
        """Reads the file again if it has changed; meant to be called once a second."""
        mark = self._source.mark()
        if mark is not None and mark != self._mark:
            self._mark = mark
            self.read_again()

    def read_again(self) -> None:
        """Reads the file now (SIGHUP)."""
        try:
            secrets = self._source.read()
        except DirectoryError as error:
            log.error("%s; this node keeps the secrets that it has", error)
            return
        if not secrets:
            if self._secrets:
                log.error("%s is gone; this node keeps the secrets that it has", self._source.path)
            return
        if secrets != self._secrets:
            self._secrets = secrets
            log.info("new secrets: %s", shown(secrets))
            self._take(secrets)


def _log_at_start(secrets: Sequence[bytes]) -> None:
    """Logs whether this node can authenticate others."""
    if secrets:
        log.info("nodes prove the secret of the cluster to each other: this one %s", shown(secrets))
    else:
        log.warning(
            "nodes are not authenticated: this node has no secret, so whoever reaches its port may act as a node; `dyn "
            "secret make FILE` makes one for all nodes of the cluster, which get it by --secret-file FILE or as DIR/secret"
        )


def shown(secrets: Sequence[bytes]) -> str:
    """The secrets by their fingerprints."""
    accepted = "".join(f", accepts {fingerprint(secret)}, too" for secret in secrets[1:])
    return f"proves {fingerprint(secrets[0])}{accepted}"
