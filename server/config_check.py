"""`python -m server.config_check FILE`: what is wrong with a file of settings, as JSON; for `dyn config check`.

Prints {"settings": how many there are, "mistakes": [{"line", "name", "message"}, ...]}. A line or name is null if none is
known. The file is checked by itself: what the environment or options give a node beside it is unknown here. A setting that
only an earlier version had is no mistake, as a node ignores it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.core.base.config import Config, ConfigError, value_faults
from server.shell.settings import read_file, without_retired
from server.shell.settings_text import lines_of


def check(path: Path) -> dict[str, Any]:
    """The document that is printed."""
    try:
        found = without_retired(read_file(path))
    except ConfigError as error:
        message = str(error).replace(f"{path} ", "the file ", 1)  # whoever shows it names the file
        line = re.search(r"at line (\d+)", message)
        return {"settings": 0, "mistakes": [_mistake(None, message, int(line[1]) if line else None)]}
    except OSError as error:
        return {"settings": 0, "mistakes": [_mistake(None, f"cannot read the file: {error.strerror}", None)]}
    lines = lines_of(path.read_text(encoding="utf-8"))
    mistakes = [_mistake(name, fault, lines.get(name)) for name, fault in value_faults(found)]
    mistakes = mistakes or _misfits(found, lines)
    return {"settings": len(found), "mistakes": sorted(mistakes, key=lambda each: each["line"] or 0)}


def _misfits(found: Mapping[str, object], lines: Mapping[str, int]) -> list[dict[str, Any]]:
    """Settings that are right by themselves and do not go together."""
    try:
        Config.of(found)
    except ConfigError as error:
        named = [name for name in re.findall(r"'(\w+)'", str(error)) if name in lines]
        return [_mistake(named[0] if named else None, str(error), lines[named[0]] if named else None)]
    return []


def _mistake(name: str | None, message: str, line: int | None) -> dict[str, Any]:
    return {"line": line, "name": name, "message": message}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(check(Path(sys.argv[1]))) + "\n")
