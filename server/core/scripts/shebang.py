"""The first line of a script: `#!lua flags=no-writes,allow-oom`.

Theory. A script without such a line may do what the command that runs it may do. One with it says by flags what it does not
do, or needs. The interpreter does not see the line, but it counts, so that errors name the right lines.

Source: https://redis.io/docs/latest/develop/interact/programmability/lua-api/, and redis 7.0 eval.c.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from server.core.scripts.engine import FLAGS, NO_WRITES, ScriptError

_MARK: Final = b"#!"
_ENGINE: Final = b"lua"


class Script(NamedTuple):
    """A script: what the interpreter gets, and the flags of its first line; None if it has none."""

    body: bytes
    flags: tuple[str, ...] | None

    def writes(self) -> bool:
        """Whether the script may write, as far as its flags say."""
        return self.flags is None or NO_WRITES not in self.flags


def script_in(text: bytes) -> Script:
    """Reads the first line of a script. Raises ScriptError in Redis' words."""
    if not text.startswith(_MARK):
        return Script(text, None)
    line, newline, rest = text.partition(b"\n")
    if not newline:
        raise ScriptError(b"ERR Invalid script shebang")
    words = line.split()
    if words[0] != _MARK + _ENGINE:
        raise ScriptError(b"ERR Unexpected engine in script shebang: %b" % words[0])
    flags: list[str] = []
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise ScriptError(b"ERR Unknown lua shebang option: %b" % word)
        for flag in filter(None, word.removeprefix(b"flags=").split(b",")):
            if flag.decode("latin-1") not in FLAGS:
                raise ScriptError(b"ERR Unexpected flag in script shebang: %b" % flag)
            flags.append(flag.decode())
    return Script(b"\n" + rest, tuple(flags))
