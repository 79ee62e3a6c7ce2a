"""Keeps the line of `return redis.call(…)` for the text of its errors.

Theory. An error says on which line of the script it was raised. Lua gives up the place of a caller that returns what a
function returns (a tail call), unless the function is one of C, as those of Redis are. Ours are functions of Lua. Written
as `return true and redis.call(…)` the same call is no tail call, and gives the same value, whatever stands behind it,
because these functions return a single one. Strings and comments stay as they are. One that does not end goes to the end of
the text, which does not compile anyway: so the time is linear whatever the text is.
"""

from __future__ import annotations

import re
from typing import Final

_CALL: Final = re.compile(rb"\breturn\b(?=[ \t]+(?:redis\.call|cjson\.encode|cjson\.decode)\b)")
_TOKENS: Final = re.compile(
    rb"--\[(=*)\[(?:.*?\]\1\]|.*)|--[^\n]*|\[(=*)\[(?:.*?\]\2\]|.*)"
    rb"|\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?"
    rb"|" + _CALL.pattern,
    re.DOTALL,
)
_TEXT_BYTES_MAX: Final = 16 << 10  # a text of this size takes 8 ms at worst, and longer ones do without


def without_tail_calls(text: bytes) -> bytes:
    """The text of a script in which these calls are no tail calls."""
    if len(text) > _TEXT_BYTES_MAX or _CALL.search(text) is None:
        return text
    return _TOKENS.sub(lambda found: b"return true and" if found[0] == b"return" else found[0], text)
