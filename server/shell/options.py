"""The options of the node process, as `dyn node start` and `dyn up` pass them on."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

from server.core.base.config import is_address
from server.core.ring.addresses import is_wildcard


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the options."""
    found = argparse.ArgumentParser(prog="python -m server", description="Runs one node (see `dyn node start`).")
    found.add_argument("--dir", type=Path, required=True, help="the node's data directory")
    found.add_argument("--id", help="the node's id, for a new directory of a node that has lost its own")
    found.add_argument("--name", help="the node's name (default: the directory's)")
    found.add_argument("--listen", metavar="HOST:PORT", type=_address, help="where to serve clients and other nodes")
    found.add_argument(
        "--advertise", metavar="HOST:PORT", type=_reachable, help="where clients and other nodes find it"
    )
    found.add_argument(
        "--seeds",
        metavar="HOST:PORT,...",
        type=_addresses,
        action="append",
        default=[],
        help="where to ask for members that have moved",
    )
    found.add_argument("--zone", help="the failure zone that the node is in")
    found.add_argument("--weight", type=int, help="the node's share, relative to the others'")
    found.add_argument("--secret-file", metavar="FILE", type=Path, help="the secret that the nodes of a cluster share")
    found.add_argument("--config", type=Path, help="a TOML file of settings")
    several: dict[str, Any] = {"action": "append", "default": []}
    found.add_argument(
        "--set", metavar="NAME=VALUE", type=_setting, help="a setting, over those of the file", **several
    )
    found.add_argument("--engine", choices=("memory", "rocksdb"))
    found.add_argument("--fsync", choices=("always", "everysec", "no"))
    found.add_argument(
        "--join", metavar="HOST:PORT", type=_address, help="a member that shall stage this node's join", **several
    )
    found.add_argument(
        "--rebuild",
        action="store_true",
        help="put a damaged store aside and begin an empty one, which other nodes fill",
    )
    return found


def _address(text: str) -> str:
    if not is_address(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _addresses(text: str) -> list[str]:
    return [_address(word) for word in text.split(",") if word]


def _setting(text: str) -> tuple[str, object]:
    """A setting and its value, which is read as TOML reads it, or else as a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _reachable(text: str) -> str:
    if is_wildcard(_address(text)):
        raise argparse.ArgumentTypeError(f"nobody can connect to {text!r}: advertise a host name or an IP address")
    return text
