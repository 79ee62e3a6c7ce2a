r"""Reads commands from the bytes of one client connection.

The problem. hiredis was written for the replies of a trusted server. When it sees `*1000000000` it makes a list of that
size. It nests arrays, and waits forever for `$999999999999`. Inside a command it reads `+a`, `(1` and `=5` as bulk
strings. It knows no inline commands.

The idea. A walk over the headers reads `*count`, then each `$length`, and skips the values. So it costs per argument, not
per byte. There are two walks:

    quick   compiled. Finds all complete commands of a slice, and cuts their arguments out of the bytes on the way. It keeps
            no state, and stops before a command that is incomplete, malformed or too large.
    exact   begins where the quick walk stops. It raises the errors, and remembers its position in a command that is still
            arriving. `_leap`, compiled as well, skips the complete values that have arrived since: a command of a million
            arguments arrives in hundreds of parts, and a regular expression for each of its headers took a second. The
            arguments are cut out once the command is complete.

That takes 1190 instructions for a SET of 100 bytes, and took 2450 when hiredis cut the arguments out.

Both walks respect the limits, find the same commands wherever the stream is cut, and accept a number in its shortest form
only. Values may hold anything, also bytes that look like headers. As in Redis, the two bytes behind a value are not
checked, and an array of no items is ignored. Where Redis' networking.c has an error for a case, its text is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mypy_extensions import i64

from protocol.leftovers import joined
from protocol.native import native

_SLICE_BYTES: Final = 8192  # about this much is parsed at a time
_LARGE_BYTES: Final = 64 << 10  # of a command: its values are copied once only, for some time more an argument
_HEADER_BYTES_MAX = 32  # no sound header is longer: a type byte, a sign, 19 digits, CR LF
_ARGUMENTS_MAX = (1 << 31) - 1  # Redis' own limits: a number beyond them gets Redis' error
_BULK_BYTES_MAX = 512 << 20
_QUOTE, _APOSTROPHE = b"\"'"
_CR: Final = 0x0D  # as numbers, and final, for the compiler
_LF: Final = 0x0A
_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_ZERO: Final = 0x30
_NINE: Final = 0x39
_native_commands_at: Final = native("commands_at")  # None, or in C: `_read_quickly`
_OTHER_TYPES = b"$+-:_#,(!=%~>|"  # type bytes of RESP2 and RESP3: neither requests nor inline lines start with them

_match_array = re.compile(rb"\*([1-9]\d{0,18})\r\n").match
_match_ignored = re.compile(rb"(?:\*(?:0|-[1-9]\d{0,18})\r\n)+").match
_match_bulk = re.compile(rb"\$(0|[1-9]\d{0,18})\r\n").match
_match_blank_lines = re.compile(rb"(?:[ \t\r]{0,3}\n)+").match  # in one match, as a client may send any number of them
_match_argument = re.compile(
    rb"""\s*+(?:\Z|([^\s"']*+)(?:"((?:\\.|[^"\\])*+)"|'((?:\\'|[^'])*+)')?(?=\s|\Z))""", re.DOTALL
).match
_escape = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class ProtocolError(Exception):
    """The client broke the protocol: the caller sends it the message, and then closes the connection."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one client: bytes of one request, arguments of one request, bytes of one inline line."""

    request_bytes_max: int = 64 << 20
    arguments_max: int = 1 << 20
    inline_bytes_max: int = 64 << 10


def split_arguments(line: bytes) -> list[bytes]:
    r"""The arguments of an inline line, as Redis' sdssplitargs finds them. Raises ProtocolError for unbalanced quotes.

    White space separates them. "..." may hold \xHH \n \r \t \b \a, and '...' may hold \'. A closing quote ends its
    argument, and a NUL ends the line.
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


class RequestReader:
    """Reads commands from the bytes of one connection: `feed` what arrived, then `next` or `take` until there is none.

    A caller may stop in the middle of a pipeline and go on later, without new bytes. A ProtocolError is raised once all
    commands before it have been returned, and again with every further call.
    """

    __slots__ = (
        "_arguments_max",
        "_bytes_max",
        "_data",
        "_limits",
        "_missing",
        "_ready",
        "_start",
        "_vetted",
    )

    def __init__(self, limits: RequestLimits | None = None) -> None:
        self._limits = limits or RequestLimits()
        self._bytes_max: i64 = self._limits.request_bytes_max
        self._arguments_max: i64 = self._limits.arguments_max
        self._data: bytes | bytearray = b""
        self._start = 0  # in _data: the start of the first command that was not read yet
        self._vetted = 0  # from _start: the bytes of an incomplete command that the exact walk has passed
        self._missing = 0  # the arguments of that command whose headers the walk has not reached
        self._ready: list[list[bytes]] = []  # commands that were read and not returned yet, the last one first

    @property
    def pending_bytes(self) -> int:
        """The bytes that were fed and not yet returned as commands; of commands that were read only the arguments count."""
        unread = len(self._data) - self._start
        return unread + sum([sum(map(len, command)) for command in self._ready]) if self._ready else unread

    def feed(self, data: bytes) -> None:
        """HOT. Adds bytes as they came from the socket. A caller that stops reading commands should soon stop feeding."""
        if not self._data:
            self._data = data
            return
        self._data = joined(self._data, self._start, data)
        self._start = 0

    def next(self) -> list[bytes] | None:
        """HOT. Returns the next command (one argument at least), or None if there is none. ProtocolError: see the class."""
        if not self._ready:
            self._ready = self._read()
            self._ready.reverse()
        return self._ready.pop() if self._ready else None

    def next_batch(self, count_max: int) -> list[list[bytes]]:
        """HOT. Returns the next commands, 1 to `count_max`, or none if none is complete. ProtocolError: see the class.

        It costs less per command than `next`, because it returns all commands of a slice at once if they are not too many.
        """
        ready = self._ready
        if not ready:
            commands = self._read()
            if len(commands) <= count_max:
                return commands
            commands.reverse()
            self._ready = ready = commands
        taken = ready[-count_max:]
        del ready[-count_max:]
        taken.reverse()
        return taken

    def _read(self) -> list[list[bytes]]:
        """The next commands; empty if there is no complete one."""
        while data := self._data:
            start = self._start
            if self._vetted:
                commands = self._read_exactly()
            elif data[start] != _STAR:
                commands = self._read_inline()
            else:
                if not isinstance(data, bytes):
                    self._data = data = bytes(data[start:])
                    self._start = start = 0
                commands = self._read_quickly(data) if _native_commands_at is None else self._read_in_c(data)
                commands = commands or self._read_exactly()
            stop = self._start
            if stop == len(data):  # so an idle connection holds no memory
                self._data = b""
                self._start = 0
            if commands:
                return commands
            if stop == start:
                break
        return []

    def _read_in_c(self, data: bytes) -> list[list[bytes]]:
        """HOT. The same as `_read_quickly`."""
        stop = min(len(data), self._start + _SLICE_BYTES)
        found: tuple[list[list[bytes]], int] = _native_commands_at(
            data, self._start, stop, self._bytes_max, self._arguments_max
        )
        self._start = found[1]
        return found[0]

    def _read_quickly(self, data: bytes) -> list[list[bytes]]:
        """HOT. The quick walk: the next complete commands of about a slice; empty if the exact walk has to go on."""
        size: i64 = len(data)
        end: i64 = self._start  # of the last whole command
        stop: i64 = size if size - end < _SLICE_BYTES else end + _SLICE_BYTES
        scan: i64 = end
        missing: i64 = 0
        commands: list[list[bytes]] = []
        arguments: list[bytes] = []  # of the command that the walk is in
        try:
            while end < stop:
                number: i64 = data[scan + 1] - _ZERO
                if data[scan] != (_DOLLAR if missing else _STAR) or number < 0 or number > 9:
                    break
                scan += 2
                while 0 < number < size and _ZERO <= data[scan] <= _NINE:  # a number that begins with 0 ends there
                    number = number * 10 + data[scan] - _ZERO
                    scan += 1
                if data[scan] != _CR or data[scan + 1] != _LF:
                    break
                scan += 2
                if missing:
                    value: i64 = scan
                    scan += number + 2
                    if scan > size or scan - end > self._bytes_max:
                        break
                    arguments.append(data[value : value + number])
                    missing -= 1
                    if not missing:
                        commands.append(arguments)
                        end = scan
                elif 0 < number <= self._arguments_max:
                    missing = number
                    arguments = []
                else:
                    break
        except IndexError:
            pass  # the bytes end within a header
        self._start = int(end)
        return commands

    def _cut(self, end: int) -> list[list[bytes]]:
        """The next command, which reaches up to `end` in `_data` and which the exact walk has found to be sound."""
        start, self._start = self._start, end
        with memoryview(self._data) as whole:
            if end - start >= _LARGE_BYTES and whole[start + 2] == _CR:  # fewer than ten arguments
                return [_large_arguments(self._data, start, end)]
            return [_arguments_of(bytes(whole[start:end]))]

    def _read_exactly(self) -> list[list[bytes]]:
        """The exact walk: the next command; empty if it is incomplete."""
        data, start = self._data, self._start
        size, scan, missing = len(data), start + self._vetted, self._missing
        while missing or scan == start:
            if missing:
                scan, missing = self._leap(scan, missing)
                if not missing:
                    break
            header = (_match_bulk if missing else _match_array)(data, scan)
            if header is None:
                break
            number = int(header[1])
            if missing:
                value_end = header.end() + number + 2
                if value_end - start > self._limits.request_bytes_max:
                    break
                missing, scan = missing - 1, value_end
            elif number > self._limits.arguments_max:
                break
            else:
                missing, scan = number, header.end()
        if missing or scan == start or scan > size:
            self._vetted, self._missing = scan - start, missing
            self._check_header(scan)
            return []
        self._vetted = self._missing = 0
        return self._cut(scan)

    def _leap(self, first: int, missing: int) -> tuple[int, int]:
        """HOT. Skips the complete and correct values from `first` on, within the limit of a request.

        Returns the position of the next header, and how many arguments are still missing there.
        """
        # A copy of the new bytes as `bytes`: compiled code reads these without making an object of each byte.
        fresh = bytes(memoryview(self._data)[first:])
        left: i64 = missing
        room: i64 = self._bytes_max - (first - self._start)
        size: i64 = min(len(fresh), room)
        passed: i64 = 0
        try:
            while left:
                number: i64 = fresh[passed + 1] - _ZERO
                if fresh[passed] != _DOLLAR or number < 0 or number > 9:
                    break
                scan: i64 = passed + 2
                while 0 < number < size and _ZERO <= fresh[scan] <= _NINE:
                    number = number * 10 + fresh[scan] - _ZERO
                    scan += 1
                if fresh[scan] != _CR or fresh[scan + 1] != _LF or scan + number + 4 > size:
                    break
                passed = scan + number + 4
                left -= 1
        except IndexError:
            pass  # the bytes end within a header
        return first + int(passed), int(left)

    def _check_header(self, scan: int) -> None:
        """At `scan` there is no acceptable header: raises an error, skips an empty array, or waits for more bytes."""
        data = self._data
        if scan >= len(data):
            return
        if self._missing:
            complaint = "Protocol error: invalid bulk length"
            if data[scan] != _DOLLAR:
                raise ProtocolError(f"Protocol error: expected '$', got '{chr(data[scan])}'")
            header = _match_bulk(data, scan)
            if header and int(header[1]) <= max(_BULK_BYTES_MAX, self._limits.request_bytes_max):
                raise ProtocolError(
                    f"Protocol error: too big request: request_bytes_max is {self._limits.request_bytes_max}"
                )
        else:
            complaint = "Protocol error: invalid multibulk length"
            header = _match_array(data, scan)
            if header and int(header[1]) <= _ARGUMENTS_MAX:
                raise ProtocolError(
                    f"Protocol error: too many arguments: arguments_max is {self._limits.arguments_max}"
                )
            if ignored := _match_ignored(data, scan):
                self._start = ignored.end()
                return
        if len(data) - scan >= _HEADER_BYTES_MAX or data.find(b"\r\n", scan) >= 0:
            raise ProtocolError(complaint)

    def _read_inline(self) -> list[list[bytes]]:
        """The commands of inline lines, about a slice; empty if the first line is incomplete or all lines are blank."""
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
                # As in Redis, a carriage return before the line feed is no part of the line.
                line_end = position + line_bytes_max
                newline = data.find(b"\n", position, line_end + 1 + (data[line_end : line_end + 1] == b"\r"))
                if newline < 0:
                    if len(data) > line_end + (data[line_end : line_end + 1] == b"\r"):
                        raise ProtocolError("Protocol error: too big inline request")
                    break
                if arguments := split_arguments(bytes(data[position:newline])):
                    commands.append(arguments)
                position = newline + 1
        except ProtocolError:
            if not commands:
                raise
        self._start = position  # before an error, if there is one: the commands before it are answered first
        return commands


def _arguments_of(command: bytes) -> list[bytes]:
    """HOT. The arguments of a complete command whose headers were checked."""
    arguments: list[bytes] = []
    size: i64 = len(command)
    scan: i64 = command.find(b"\n") + 1
    while scan < size:
        number: i64 = 0
        scan += 1  # the dollar sign
        while command[scan] != _CR:
            number = number * 10 + command[scan] - _ZERO
            scan += 1
        scan += 2
        arguments.append(command[scan : scan + number])
        scan += number + 2
    return arguments


def _large_arguments(data: bytes | bytearray, start: int, end: int) -> list[bytes]:
    """The same for the command from `start` to `end` of some bytes."""
    arguments: list[bytes] = []
    scan = start + len(b"*1\r\n")
    while scan < end:
        header = _match_bulk(data, scan)
        assert header is not None, "the walk has found it"
        value = header.end()
        scan = value + int(header[1])
        with memoryview(data) as whole:
            arguments.append(bytes(whole[value:scan]))
        scan += 2
    return arguments
