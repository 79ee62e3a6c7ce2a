"""Redis' glob patterns (util.c, stringmatchlen) in time linear in the key: * ? [abc] [^a] [a-z] and \\x for a literal x.

Theory. Between two stars the leftmost place where a segment fits is as good as any later one, so no star is ever tried
twice. In a regular expression that is an atomic group per segment, `(?>.*?segment)`: the classic two-pointer matcher,
run by `re`. It costs at most pattern * key steps of some 5 ns. That is nothing for patterns that people write, and too
much for a pattern of 64 KiB, which takes `re` a second to compile and ten to match. So what is beyond `SLICE_STEPS`
is matched by bits: bit i of an integer says that the pattern so far can end at place i of the key. A character, or
class, is a mask of the places where it stands and costs one AND and one shift (3 us for a key of 64 KiB); a star sets
all bits from the lowest one on. That work is done in slices, so that no match holds a turn.

The oddities of Redis hold here, too: the bytes of a range are signed, `[a-]` is a range that ends with the bracket, an
unclosed class ends with the pattern, and of all patterns only `*` and the empty one match the empty key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from functools import lru_cache
from typing import Final

from server.core.base.config import Config
from server.core.base.errors import CommandError

_STAR: Final = b"*"  # among tokens; all others are tables: for each byte b"1" if it fits, else b"0"
_ANY: Final = b"1" * 256
_LITERALS: Final = [b"0" * byte + b"1" + b"0" * (255 - byte) for byte in range(256)]
_NEGATE: Final = bytes.maketrans(b"01", b"10")
_SMALL_BYTES: Final = 256  # longer patterns are not worth compiling by `re`
SLICE_STEPS: Final = 1_000_000  # of matching in one turn: at most 5 ms


class Glob:
    """A pattern. A step of its costs is some 5 ns."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self._tokens = _tokens(pattern)
        self._length_min = sum(token is not _STAR for token in self._tokens)
        self._quick = re.compile(_expression(self._tokens), re.DOTALL) if len(pattern) <= _SMALL_BYTES else None

    def matches(self, key: bytes) -> bool:
        """Whether the pattern matches, as in Redis; in one go."""
        if not key:
            return self._pattern in (b"", b"*")
        if len(key) < self._length_min:
            return False
        if self._quick is not None and len(self._tokens) * len(key) <= SLICE_STEPS:
            return self._quick.fullmatch(key) is not None
        slices = self._match_by_bits(key)
        while True:
            try:
                next(slices)
            except StopIteration as end:
                return bool(end.value)

    def steps_max(self, key: bytes) -> int:
        """The most that `matches` may cost."""
        return len(self._tokens) * (len(key) + 1)

    def match_in_slices(self, key: bytes) -> Generator[None, None, bool]:
        """`matches`, with a pause after each SLICE_STEPS."""
        if self.steps_max(key) <= SLICE_STEPS or len(key) < self._length_min:
            return self.matches(key)
        return (yield from self._match_by_bits(key))

    def matching(self, names: Iterable[bytes]) -> Generator[None, None, list[bytes]]:
        """Those names that match, with a pause after each SLICE_STEPS."""
        found: list[bytes] = []
        steps = 0
        for name in names:
            steps += self.steps_max(name)
            if steps > SLICE_STEPS:
                steps = 0
                yield
            if (yield from self.match_in_slices(name)):
                found.append(name)
        return found

    def _match_by_bits(self, key: bytes) -> Generator[None, None, bool]:
        backwards = key[::-1]  # so that the first byte makes the lowest bit
        everywhere = (2 << len(key)) - 1
        step = 30 + len(key) // 100
        masks: dict[bytes, int] = {}
        reached = 1
        spent = 0
        for token in self._tokens:
            spent += step
            if token is _STAR:
                reached = everywhere ^ ((reached & -reached) - 1)
            else:
                mask = masks.get(token)
                if mask is None:
                    spent += len(key)
                    mask = masks[token] = int(backwards.translate(token), 2)
                reached = (reached & mask) << 1
            if not reached:
                return False
            if spent >= SLICE_STEPS:
                spent = 0
                yield
        return bool(reached >> len(key))


def glob_of(pattern: bytes, config: Config) -> Glob:
    """Compiles a client's pattern. Raises CommandError if it is longer than the limit."""
    if len(pattern) > config.pattern_bytes_max:
        raise CommandError(f"ERR pattern of {len(pattern)} bytes exceeds pattern_bytes_max={config.pattern_bytes_max}")
    return _small_glob(pattern) if len(pattern) <= _SMALL_BYTES else Glob(pattern)


def channel_matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """What tells whether a pattern matches a channel. Where it matches keys, Redis never asks for `*`, so only there this
    matches the empty name."""
    return bool if pattern == b"*" else Glob(pattern).matches


@lru_cache(maxsize=256)
def _small_glob(pattern: bytes) -> Glob:
    return Glob(pattern)


def _tokens(pattern: bytes) -> list[bytes]:
    tokens: list[bytes] = []
    index = 0
    while index < len(pattern):
        byte = pattern[index]
        index += 1
        if byte == 0x2A:  # *
            if not tokens or tokens[-1] is not _STAR:
                tokens.append(_STAR)
        elif byte == 0x3F:  # ?
            tokens.append(_ANY)
        elif byte == 0x5B:  # [
            table, index = _class(pattern, index)
            tokens.append(table)
        elif byte == 0x5C and index < len(pattern):  # backslash
            tokens.append(_LITERALS[pattern[index]])
            index += 1
        else:
            tokens.append(_LITERALS[byte])
    return tokens


def _class(pattern: bytes, index: int) -> tuple[bytes, int]:
    """The table of the class that begins at `index`, behind its bracket, and where it ends."""
    negated = pattern[index : index + 1] == b"^"
    index += negated
    signed = bytearray(b"0" * 256)  # in the order of signed bytes: from -128 on
    while index < len(pattern) and pattern[index] != 0x5D:  # ]
        low = high = pattern[index]
        if low == 0x5C and index + 1 < len(pattern):  # backslash
            index += 1
            low = high = pattern[index]
        elif index + 2 < len(pattern) and pattern[index + 1] == 0x2D:  # -
            index += 2
            high = pattern[index]
        first, last = sorted((low ^ 0x80, high ^ 0x80))
        signed[first : last + 1] = b"1" * (last + 1 - first)
        index += 1
    table = bytes(signed[128:] + signed[:128])
    return (table.translate(_NEGATE) if negated else table), index + 1


def _expression(tokens: list[bytes]) -> bytes:
    """The pattern as a regular expression that never backtracks over a star."""
    segments: list[list[bytes]] = [[]]
    for token in tokens:
        if token is _STAR:
            segments.append([])
        else:
            segments[-1].append(_byte_expression(token))
    parts = segments[0]
    if len(segments) == 1:
        return b"".join(parts)
    for segment in segments[1:-1]:
        parts += (b"(?>.*?", *segment, b")")
    last = segments[-1]
    if last:  # stands at the end of the key, behind all others
        parts += (b"(?=.{%d})(?>.*)(?<=" % len(last), *last, b")")
    else:
        parts.append(b".*")
    return b"".join(parts)


def _byte_expression(table: bytes) -> bytes:
    if table is _ANY:
        return b"."
    runs = [(match.start(), match.end() - 1) for match in re.finditer(b"1+", table)]
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return b"\\x%02x" % runs[0][0]
    return b"[" + b"".join(b"\\x%02x-\\x%02x" % run for run in runs) + b"]" if runs else b"(?!)"
