r"""The bytes of one client connection, turned into commands.

Theory. hiredis reads RESP faster than any Python could, but it was written for the replies of a trusted server: it
makes a list of the announced size on sight of `*1000000000`, nests arrays, waits forever for `$999999999999`, takes
`+a`, `(1` and `=5` inside a command for bulk strings, and knows no inline commands. So the rule here is that *hiredis
is trusted with whole commands only*, and there are two ways to know that the bytes at hand are whole commands.

The quick way guesses, and proves the guess afterwards. A slice that starts at a boundary and seems to end at one goes
to hiredis. If one item comes out and nothing is left, the slice was that item; else an integer that no client can know
is fed behind it, and if that comes out last, the slice ended at a boundary. If all that came out are lists of bytes,
the slice held commands and nothing else. What could do harm before the proof or stay unseen after it is sought
beforehand: RESP3's aggregates and arrays of a hundred and more items go the exact way; where `+`, `(` or `=` occurs,
the commands, encoded again, have to equal the slice. (Smaller arrays nested in a slice cost some hundred times
their size, until the failed proof drops them with the parser.)

The exact way walks the headers alone: `*count`, then each `$length` and a leap over the value, which costs per argument
and not per byte, so it is the faster one for large values too. It holds the limits, it remembers how far it came in a
command that is still arriving, and it gives a command to hiredis when its last byte is there. Values may hold anything,
also bytes that look like headers.

Both ways agree on every stream, wherever it is cut. As in Redis, the two bytes behind a value are skipped unread and an
array of no items is ignored. Errors are worded as in Redis' networking.c where it has words for them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis

_SLICE_BYTES = 8192  # hiredis moves all that is left in its buffer after each KiB it consumed: keep that little
_LAST_COMMAND_BYTES = 2048  # a slice's last command is sought this far back; bigger ones suit the exact way
_LARGE_COMMAND_BITS = 10  # commands of more than a KiB on average are read faster the exact way
_QUICK_ARGUMENTS_MAX = 99  # in the quick way
_BUFFER_BYTES_KEPT = 16384  # a parser that has held more than this is replaced, to give its memory back
_HEADER_BYTES_MAX = 32  # no sound header is longer: a type byte, a sign, 19 digits, CR LF
_QUOTE, _APOSTROPHE = b"\"'"
_LF, _STAR, _DOLLAR, _PLUS, _PAREN, _EQUALS, _PERCENT, _TILDE, _GREATER, _BAR = b"\n*$+(=%~>|"
_OTHER_TYPES = b"$+-:_#,(!=%~>|"  # type bytes of RESP2 and RESP3: neither requests nor inline lines start with them
_PROOF = secrets.randbits(62)
_PROOF_WIRE = b":%d\r\n" % _PROOF
# What a parser answers when it holds no whole item. Lists are compared fastest with a list, and `*0` looks the same.
_NOT_YET: list[bytes] = []

_find_large_array = re.compile(rb"\*\d{3}").search
_find_map = re.compile(rb"%\d").search  # one regex each: those that begin with a letter are four times as fast
_find_set = re.compile(rb"~\d").search
_find_push = re.compile(rb">\d").search
_find_attribute = re.compile(rb"\|\d").search
_match_array = re.compile(rb"\*([1-9]\d{0,18})\r\n").match
_match_ignored = re.compile(rb"(?:\*(?:0|-[1-9]\d{0,18})\r\n)+").match
_match_bulk = re.compile(rb"\$(0|[1-9]\d{0,18})\r\n").match
_match_blank_lines = re.compile(rb"(?:[ \t\r]{0,3}\n)+").match  # in bulk, as nothing else bounds how many there are
_match_argument = re.compile(
    rb"""\s*+(?:\Z|([^\s"']*+)(?:"((?:\\.|[^"\\])*+)"|'((?:\\'|[^'])*+)')?(?=\s|\Z))""", re.DOTALL
).match
_escape = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_join = b"".join


class ProtocolError(Exception):
    """The client broke the protocol: tell it the message, then close the connection."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one client may send: bytes of one whole request, arguments of one request, bytes of one inline line."""

    request_bytes_max: int = 64 << 20
    arguments_max: int = 1 << 20
    inline_bytes_max: int = 64 << 10


def split_arguments(line: bytes) -> list[bytes]:
    r"""The arguments of an inline line, as Redis' sdssplitargs finds them; ProtocolError if quotes do not balance.

    White space parts them, "..." knows \xHH \n \r \t \b \a, '...' knows \', a closing quote ends its argument, a NUL
    ends the line.
    """
    line = line.partition(b"\0")[0]
    if _QUOTE not in line and _APOSTROPHE not in line:
        return line.split()
    arguments: list[bytes] = []
    position = 0
    while match := _match_argument(line, position):
        plain, double_quoted, single_quoted = match.groups(b"")
        position = match.end()
        if match[1] is None:
            return arguments
        arguments.append(plain + _escape.sub(_unescape, double_quoted) + single_quoted.replace(b"\\'", b"'"))
    raise ProtocolError("Protocol error: unbalanced quotes in request")


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes.fromhex(code[1:].decode()) if len(code) == 3 else _ESCAPES.get(code, code)


def _encode(commands: list[list[bytes]]) -> bytes:
    return _join([hiredis.pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]


class RequestReader:
    """Reads commands from the bytes of one connection: `feed` what arrived, then `next` (or `take`) until it runs dry.

    A caller may stop in the middle of a pipeline and go on later, without new bytes. A ProtocolError comes after all
    the commands before it, and comes again from every further call.
    """

    __slots__ = (
        "_data",
        "_exact_until",
        "_feed",
        "_gets",
        "_has_data",
        "_large",
        "_limits",
        "_missing",
        "_ready",
        "_slice_bytes",
        "_start",
        "_vetted",
    )
    _feed: Callable[..., None]
    _gets: Callable[[], Any]
    _has_data: Callable[[], bool]

    def __init__(self, limits: RequestLimits | None = None) -> None:
        self._limits = limits or RequestLimits()
        quick = self._limits.arguments_max >= _QUICK_ARGUMENTS_MAX
        self._slice_bytes = min(_SLICE_BYTES, self._limits.request_bytes_max) if quick else 0
        self._data: bytes | bytearray = b""
        self._start = 0  # in _data: where the first command not yet read begins
        self._vetted = 0  # from _start: the bytes of a still incomplete command that the exact way has passed
        self._missing = 0  # the arguments of that command whose headers it has not seen
        self._exact_until = 0  # in _data: up to here the quick way has failed
        self._large = False  # whether the last commands were
        self._ready: list[list[bytes]] = []  # commands read and not yet taken, the last one first
        self._renew_parser()

    @property
    def pending_bytes(self) -> int:
        """Bytes fed and not yet returned as commands; of commands read and not yet returned, those of the arguments."""
        unread = len(self._data) - self._start
        return unread + sum([sum(map(len, command)) for command in self._ready]) if self._ready else unread

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the socket. HOT. Whoever stops taking commands should soon stop feeding."""
        if not self._data:
            self._data = data
            return
        start = self._start
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data[start:])
        elif start:
            del self._data[:start]
        self._start = 0
        self._exact_until -= start
        self._data += data

    def next(self) -> list[bytes] | None:
        """The next command, at least one argument; None if there is no whole one. HOT. ProtocolError: see the class."""
        if self._ready:
            return self._ready.pop()
        if not self._data:
            return None
        self._read()
        return self._ready.pop() if self._ready else None

    def take(self, count_max: int) -> list[list[bytes]]:
        """The next commands, `count_max` at most; empty if there is no whole one. HOT. ProtocolError: see the class.

        Cheaper than `next` a command, as it hands out what one slice held, if that is not too much.
        """
        if not self._ready:
            self._read()
        ready = self._ready
        if len(ready) <= count_max:
            self._ready = []
        else:
            ready = ready[-count_max:]
            del self._ready[-count_max:]
        ready.reverse()
        return ready

    def _read(self) -> None:
        """Fill `_ready`, which is empty, from what was fed, if there is a whole command."""
        while data := self._data:
            start = self._start
            if self._vetted:
                commands = self._read_exactly()
            elif data[start] != _STAR:
                commands = self._read_inline()
            elif start < self._exact_until or not (commands := self._read_slice()):
                commands = self._read_exactly()
            stop = self._start
            if stop == len(data):  # an idle connection holds nothing
                self._data = b""
                self._start = self._exact_until = 0
            if commands:
                commands.reverse()
                self._ready = commands
                return
            if stop == start:
                return

    def _read_slice(self) -> list[list[bytes]]:
        """The quick way (HOT): the commands of the next slice, or none if it has to be read the exact way."""
        data, start = self._data, self._start
        if start or self._large or len(data) > self._slice_bytes or data[-1] != _LF:
            data = self._cut_slice()
            if not data:
                return []
        if (
            (_PERCENT in data and _find_map(data))
            or (_TILDE in data and _find_set(data))
            or (_GREATER in data and _find_push(data))
            or (_BAR in data and _find_attribute(data))
            # the first test is for the commonest slice, one command
            or ((data.rfind(b"*") or data[2:3] != b"\r") and _find_large_array(data))
        ):
            self._exact_until = start + len(data)
            return []
        self._feed(data)
        try:
            commands = [self._gets()]
            if not commands[0]:
                raise ValueError
            if self._has_data():
                self._feed(_PROOF_WIRE)
                commands += iter(self._gets, _NOT_YET)
                if commands.pop() != _PROOF or not all(commands):
                    raise ValueError
            for command in commands:
                _join(command)  # the cheapest way to learn whether all its items are bytes
            if (_PLUS in data or _PAREN in data or _EQUALS in data) and _encode(commands) != data:
                raise ValueError
        except (TypeError, ValueError, hiredis.ProtocolError):
            # no whole command, or one of more than bulks, or not RESP: the exact way finds out
            self._renew_parser()
            self._exact_until = start + len(data)
            return []
        self._large = len(data) > len(commands) << _LARGE_COMMAND_BITS
        self._start = start + len(data)
        return commands

    def _cut_slice(self) -> bytes | bytearray:
        """The next slice to try; empty if the exact way is the better one, or the end of a command cannot be guessed."""
        data, start = self._data, self._start
        if self._large:
            self._exact_until = start + _SLICE_BYTES
            return b""
        stop = min(start + self._slice_bytes, len(data))
        if stop == len(data) and data.endswith(b"\r\n"):
            return data[start:]
        mark = data.rfind(b"\r\n*", max(start, stop - _LAST_COMMAND_BYTES), stop)
        return data[start : mark + 2] if mark >= 0 else b""

    def _read_exactly(self) -> list[list[bytes]]:
        """The exact way: whole commands, about a slice of them; none if the first is incomplete."""
        data, start = self._data, self._start
        size, end, scan, missing = len(data), start, start + self._vetted, self._missing
        bytes_max, arguments_max = self._limits.request_bytes_max, self._limits.arguments_max
        while scan <= size:
            if missing:
                header = _match_bulk(data, scan)
                if header is None or (value_end := header.end() + int(header[1]) + 2) - end > bytes_max:
                    break
                missing, scan = missing - 1, value_end
            else:
                end = scan
                header = _match_array(data, scan)
                if header is None or int(header[1]) > arguments_max or start < end >= self._exact_until:
                    break
                missing, scan = int(header[1]), header.end()
        self._start, self._vetted, self._missing = end, scan - end, missing
        if end == start:
            self._check_header(scan)
            return []
        self._feed(data, start, end - start)
        commands: list[list[bytes]] = list(iter(self._gets, _NOT_YET))
        self._large = end - start > len(commands) << _LARGE_COMMAND_BITS
        if end - start > _BUFFER_BYTES_KEPT:
            self._renew_parser()
        return commands

    def _check_header(self, scan: int) -> None:
        """No header could be passed at `scan`: is there more to come, an array to ignore, or an error?"""
        data = self._data
        if scan >= len(data):
            return
        if self._missing:
            complaint = "Protocol error: invalid bulk length"
            if data[scan] != _DOLLAR:
                raise ProtocolError(f"Protocol error: expected '$', got '{chr(data[scan])}'")
            header = _match_bulk(data, scan)
            if header and int(header[1]) <= self._limits.request_bytes_max:
                raise ProtocolError("Protocol error: too big request")
        else:
            complaint = "Protocol error: invalid multibulk length"
            if ignored := _match_ignored(data, scan):
                self._start = ignored.end()
                return
        if len(data) - scan >= _HEADER_BYTES_MAX or data.find(b"\r\n", scan) >= 0:
            raise ProtocolError(complaint)

    def _read_inline(self) -> list[list[bytes]]:
        """Commands of inline lines, about a slice of them; none if the first line is incomplete, or all are empty."""
        data, start, line_bytes_max = self._data, self._start, self._limits.inline_bytes_max
        commands: list[list[bytes]] = []
        position = start
        try:
            while position < len(data) and data[position] != _STAR and position - start < _SLICE_BYTES:
                if blank := _match_blank_lines(data, position):
                    position = blank.end()
                    continue
                if data[position] in _OTHER_TYPES:
                    raise ProtocolError(f"Protocol error: expected '*', got '{chr(data[position])}'")
                newline = data.find(b"\n", position, position + line_bytes_max + 1)
                if newline < 0:
                    if len(data) - position > line_bytes_max:
                        raise ProtocolError("Protocol error: too big inline request")
                    break
                if arguments := split_arguments(bytes(data[position:newline])):
                    commands.append(arguments)
                position = newline + 1
        except ProtocolError:
            if not commands:
                raise
        self._start = position  # before an error, if there was one: what came before it is handed out first
        return commands

    def _renew_parser(self) -> None:
        parser = hiredis.Reader(notEnoughData=_NOT_YET)
        self._feed, self._gets, self._has_data = parser.feed, parser.gets, parser.has_data
