"""The text of a file of settings: in which line each stands, and how one is changed while everything else stays.

Theory. A file of settings has one `name = value` a line, at the top level, since settings are numbers, words and switches.
`tomllib` reads the file; it tells no lines and writes nothing. A library that does (tomlkit) would be a dependency of every
node for these few lines, and does not tell lines either. So a line is found by its name, and what was written is read back
and compared: a text that hides settings from this search (in a string of several lines) is refused, and never damaged.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

_LINE = re.compile(r"""^\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")
_COMMENT = re.compile(r"""^(?:[^"'#]|"(?:\\.|[^"\\])*"|'[^']*')*?(\s*#.*)$""")


def lines_of(text: str) -> dict[str, int]:
    """The number of the line in which each setting stands."""
    return {match[1]: number for number, line in enumerate(text.split("\n"), 1) if (match := _LINE.match(line))}


def with_settings(text: str, changes: Mapping[str, object]) -> str:
    """The text with these settings changed, or added at its end. Raises ValueError if that cannot be done by lines."""
    expected = {**tomllib.loads(text), **changes}
    lines, numbers = text.rstrip("\n").split("\n") if text.strip() else [], lines_of(text)
    for name, value in changes.items():
        if name in numbers:
            comment = _COMMENT.match(lines[numbers[name] - 1])
            lines[numbers[name] - 1] = f"{name} = {_as_toml(value)}{comment[1] if comment else ''}"
        else:
            lines.append(f"{name} = {_as_toml(value)}")
    changed = "\n".join(lines) + "\n"
    if _read(changed) != expected:
        raise ValueError("it is not one setting a line: change it by hand")
    return changed


def _read(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _as_toml(value: object) -> str:
    """A number, a switch or a text, as TOML writes it: as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def write_file(path: Path, text: str) -> None:
    """Replaces a file as a whole, with the same mode: after a crash the old or the new one is there. Raises OSError."""
    target = path.resolve()  # a link stays a link
    beside = target.with_name(f"{target.name}.new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        shutil.copymode(target, beside)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, target)
