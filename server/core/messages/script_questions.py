"""The questions by which nodes share scripts: SCRIPT asks for the text of one, SCRIPTS which of some are known,
SCRIPTFLUSH that all be forgotten, SCRIPTKILL that long ones be ended. Only nodes that have announced the capability
`scripts` are asked. Those of an earlier version give no answer to SCRIPTKILL: they run no long scripts."""

from __future__ import annotations

from typing import Final

from server.core.messages.asking import Items, Question, read_done, write_done
from server.core.messages.reader import Malformed, Reader

_SHA_BYTES: Final = 40
_TEXT_BYTES_MAX: Final = 64 << 20
_FUNCTIONS: Final = b"functions"
_SCRIPTS: Final = b"scripts"
KILL_OUTCOMES: Final = (b"none", b"other", b"unkillable", b"killed")  # the later one tells more


def _sha(items: Reader) -> bytes:
    return items.data(_SHA_BYTES, _SHA_BYTES)


def _shas(items: Reader) -> list[bytes]:
    return [_sha(items) for _ in range(items.left())]


def _flags(items: Reader, asked: Items) -> bytes:
    flags = items.data(len(asked), len(asked))
    if flags.strip(b"\0\1"):
        raise Malformed("a byte that is neither 0 nor 1")
    return flags


def _text(items: Reader, asked: Items) -> bytes:
    return items.data(_TEXT_BYTES_MAX)


SCRIPT: Final[Question[bytes, bytes]] = Question(b"SCRIPT", lambda sha: [sha], _sha, lambda text: [text], _text)
SCRIPTS: Final[Question[list[bytes], bytes]] = Question(
    b"SCRIPTS", lambda shas: shas, _shas, lambda flags: [flags], _flags
)
SCRIPTFLUSH: Final[Question[None, bool]] = Question(
    b"SCRIPTFLUSH", lambda _: [], lambda items: None, write_done, read_done
)
SCRIPTKILL: Final[Question[bool, bytes]] = Question(
    b"SCRIPTKILL",
    lambda functions: [_FUNCTIONS if functions else _SCRIPTS],
    lambda items: items.word((_FUNCTIONS, _SCRIPTS)) == _FUNCTIONS,
    lambda outcome: [outcome],
    lambda items, asked: items.word(KILL_OUTCOMES),
)
ALL: Final = (SCRIPT, SCRIPTS, SCRIPTFLUSH, SCRIPTKILL)
