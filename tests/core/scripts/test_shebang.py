"""The first line of a script: its flags, its errors in Redis' words, and the lines that errors name."""

from __future__ import annotations

import pytest

from server.core.scripts.engine import ScriptError
from server.core.scripts.shebang import script_in


@pytest.mark.parametrize(
    ("text", "body", "flags"),
    [
        (b"return 1", b"return 1", None),
        (b"", b"", None),
        (b"#!lua\nreturn 1", b"\nreturn 1", ()),
        (b"#!lua flags=no-writes\nreturn 1", b"\nreturn 1", ("no-writes",)),
        (b"#!lua flags=no-writes,allow-oom,\n", b"\n", ("no-writes", "allow-oom")),
        (b"#!lua flags=\n", b"\n", ()),
    ],
)
def test_the_first_line_of_a_script(text: bytes, body: bytes, flags: tuple[str, ...] | None) -> None:
    script = script_in(text)
    assert (script.body, script.flags) == (body, flags)
    assert script.writes() == (flags is None or "no-writes" not in flags)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"#!lua", b"ERR Invalid script shebang"),
        (b"#!\n", b"ERR Unexpected engine in script shebang: #!"),
        (b"#!luax\nreturn 1", b"ERR Unexpected engine in script shebang: #!luax"),
        (b"#!lua foo\n", b"ERR Unknown lua shebang option: foo"),
        (b"#!lua name=foo\n", b"ERR Unknown lua shebang option: name=foo"),
        (b"#!lua flags=no-writes,bad\n", b"ERR Unexpected flag in script shebang: bad"),
        (b"#!lua flags=\xff\n", b"ERR Unexpected flag in script shebang: \xff"),
    ],
)
def test_a_wrong_first_line_of_a_script(text: bytes, error: bytes) -> None:
    with pytest.raises(ScriptError) as raised:
        script_in(text)
    assert raised.value.args[0] == error
