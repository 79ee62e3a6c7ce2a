"""The settings that `dyn up` and `dyn node start` pass to nodes: a file (--config), and single ones (--set).

A single setting of this start overrides the environment (DYN_NAME), and that the file. `dyn up` stores both in the
directory of its cluster. What is stored there is weaker than the file: where the file or the environment gives a setting of
an earlier --set, --fsync or --engine, that one is forgotten, and a note says so. Which settings there are, and which values
they take, only the node knows: it checks them when it starts, and refuses to start with a wrong one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dynamo_cli.failures import Failure, WrongUsage, unreadable

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPTIONS = {"fsync": "--fsync", "engine": "--engine"}  # settings that have options of their own, which take precedence
SECRET = ("requirepass",)


def parse_settings(words: Sequence[str]) -> dict[str, str]:
    """The settings of NAME=VALUE words, the last one of a name; "" for one that is to be forgotten. Raises WrongUsage."""
    settings: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise WrongUsage(f"--set {word}: this is not NAME=VALUE", "for example --set flushall=true")
        if name in _OPTIONS:
            raise WrongUsage(f"--set {word}: use {_OPTIONS[name]} {value}")
        if name in SECRET and value:
            raise WrongUsage(
                f"--set {name}=...: everybody on this machine can read a command line",
                "put it into the file of --config, or set it with CONFIG SET requirepass once the cluster is up",
            )
        settings[name] = value
    return settings


def change_settings(known: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """The stored settings after `changes`, of which the empty ones remove a setting."""
    return {name: value for name, value in {**known, **changes}.items() if value}


def stronger_sources(names: Iterable[str], config: Path | None) -> dict[str, str]:
    """What gives these settings and is stronger than a stored one, by setting: a variable, or the file. Raises Failure."""
    in_file = read_config(config) if config is not None else {}
    found = {name: str(config) for name in names if name in in_file}
    return found | {name: variable for name in names if (variable := f"DYN_{name.upper()}") in os.environ}


def check_config(path: Path) -> Path:
    """The absolute path of a file of settings, if it can be read. Raises Failure."""
    read_config(path)
    return path.resolve()


def read_config(path: Path) -> dict[str, Any]:
    """What a file of settings holds. Raises Failure."""
    import tomllib  # here, because most commands read no file of settings

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"the file of settings {path} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        hint = "restore it, or name another file with --config (an empty one for no settings)"
        raise Failure(f"cannot read the file of settings {path}: {unreadable(error)}", hint) from None
