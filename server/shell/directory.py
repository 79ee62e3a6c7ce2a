"""The data directory of a node, and `node.json` in it, which says who the node is.

The file has the node's identity (id, name, address, zone, weight), its engine and its fsync policy, so that `--dir` alone
starts the node again. The id is drawn at the first start. Which value counts:

    the id                                      node.json, else the option `--id`, else a new one
    name, address, zone, weight                 the option, else node.json, else the default
    secret_file, config (the file of settings)  the option, else node.json
    engine, fsync                               see settings.py, where node.json is one of several sources

Settings of the configuration file are not written to node.json. `--config /dev/null` makes it forget the file.

`address` is the one that the node listens on. `advertise`, if it was ever given, is the one that others connect to. If it
was never given, it is computed at each start (addresses.py) and not stored, because the machine may have another address
at the next start.

Nothing in a directory is changed before it is known that no other process uses it: `open_directory` only reads,
`check_unused` is called before a store is moved away, and `save_identity` after the engine has locked the store.

If the store is there but `node.json` is missing, the id of its node is unknown. With a new id the node would not be a
member of its own cluster any more. So the node does not start unless the operator gives the id.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.core.base.config import is_address
from server.core.ring.layout import Member
from server.core.ring.layout_faults import name_faults

log = logging.getLogger("dyn")
PRIVATE = 0o700  # of a new directory: it holds records, the log, and secrets


class DirectoryError(Exception):
    """The data directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class IdentityOptions:
    """The options of the command line that node.json remembers. None stands for the value in node.json, or the default.

    `id` is needed if the directory or its `node.json` was lost: with it the node is the same member as before.
    """

    id: str | None = None
    name: str | None = None
    listen: str | None = None
    zone: str | None = None
    weight: int | None = None
    advertise: str | None = None
    seeds: Sequence[str] = ()
    engine: str | None = None
    fsync: str | None = None
    secret_file: str | None = None
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The address to listen on, the address to advertise if one was ever given, addresses of other members (seeds), and the
    files of the secret and of settings if these were ever given."""

    listen: str
    advertise: str
    seeds: tuple[str, ...]
    secret_file: str = ""
    config: str = ""


def open_directory(path: Path, given: IdentityOptions) -> tuple[Member, Endpoints, dict[str, str]]:
    """Returns the node of the directory `path`, its endpoints, and its engine and fsync if they were ever given.

    The address of the returned member is the one that it listens on. A new directory gives a new node. A missing directory
    is made; nothing else is written. Raises DirectoryError.
    """
    try:
        path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        known = _read(path / "node.json")
        if not known and given.id is None and _holds_files(path / "data"):
            raise DirectoryError(
                f"{path / 'node.json'} is missing, and {path / 'data'} holds the data of a node: restore node.json, or "
                f"start the node with `dyn node start --dir {path} --id ID`, where ID is the id that it had (`dyn cluster "
                f"status --json`, asked of another node, shows it); to begin as a new node, move {path} away"
            )
    except OSError as error:
        raise _unusable(path, error) from error
    member = Member(
        id=known.get("id") or given.id or secrets.token_hex(20),
        name=given.name or known.get("name") or path.name,
        address=given.listen or known.get("address") or "127.0.0.1:7001",
        zone=given.zone or known.get("zone") or "default",
        weight=given.weight or known.get("weight") or 1,
    )
    if not known or given.id or given.name:
        for fault in name_faults(member.id, member.name):
            raise DirectoryError(f"{fault}: give another one with --id or --name")
    seeds = given.seeds or known.get("seeds") or ()
    advertise = given.advertise or known.get("advertise") or ""
    _check_addresses(path, {"listen": [member.address], "advertise": [advertise or member.address], "seeds": seeds})
    settings = {"engine": given.engine or known.get("engine"), "fsync": given.fsync or known.get("fsync")}
    secret_file = given.secret_file or known.get("secret_file") or ""
    config = str(known.get("config") or "") if given.config is None else given.config
    config = "" if config == os.devnull else config
    endpoints = Endpoints(member.address, advertise, tuple(map(str, seeds)), secret_file, config)
    return member, endpoints, {name: value for name, value in settings.items() if value}


def _check_addresses(path: Path, by_option: Mapping[str, Sequence[object]]) -> None:
    """Raises DirectoryError if one is no address. Options are checked before, so it stands in node.json."""
    for option, addresses in by_option.items():
        for address in addresses:
            if not is_address(str(address)):
                raise DirectoryError(
                    f"{path / 'node.json'} has {address!r}, which is not HOST:PORT: restore it, or give --{option}"
                )


def save_identity(path: Path, member: Member, endpoints: Endpoints, settings: dict[str, str]) -> None:
    """Writes `node.json`. The caller knows that no other process uses the directory.

    If the disk is full, an existing file stays as it is. Raises DirectoryError.
    """
    try:
        _write(path / "node.json", member, endpoints, settings)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not (path / "node.json").exists():
            raise _unusable(path, error) from error
        log.warning("no space left to change %s: it stays as it is", path / "node.json")


def check_unused(data: Path) -> None:
    """Raises DirectoryError if a process has the store in `data` open. RocksDB locks its file LOCK by fcntl."""
    try:
        with (data / "LOCK").open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise DirectoryError(
            f"the store in {data} is open in another process: stop that node first, then start it with --rebuild"
        ) from None
    except OSError as error:
        raise _unusable(data, error) from error


def refuse_hidden_store(data: Path, engine: str, place: str) -> None:
    """Raises DirectoryError if the engine is memory and the directory holds a store: the node would begin empty beside it.

    `place` is where the engine was chosen.
    """
    if engine == "memory" and _holds_files(data):
        raise DirectoryError(
            f"{data} holds the data of this node, and engine memory ({place}) would begin empty and hide it: leave the "
            f"engine out there to serve this data (engine rocksdb), or move {data} away to begin empty"
        )


def set_store_aside(data: Path, reason: str = "damaged") -> Path | None:
    """Renames a store to data.REASON-NUMBER, and returns its new path; None if there is no store."""
    if not data.exists():
        return None
    numbers = (number for number in range(1, 10_000))
    aside = next(path for number in numbers if not (path := data.with_name(f"{data.name}.{reason}-{number}")).exists())
    try:
        data.rename(aside)
        _sync_directory(data.parent)
    except OSError as error:
        raise DirectoryError(f"cannot move {data} to {aside}: {error.strerror}") from error
    return aside


def _unusable(path: Path, error: OSError) -> DirectoryError:
    return DirectoryError(f"cannot use data directory {path}: {error.strerror}")


def _holds_files(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


_TYPES = {
    **dict.fromkeys(("id", "name", "address", "zone", "advertise", "engine", "fsync", "secret_file"), str),
    "weight": int, "seeds": list,
}  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise DirectoryError(
            f"{path} is not JSON ({_damage(error)}): restore it, or move the directory away and start the node anew"
        ) from error
    if not isinstance(document, dict):
        raise DirectoryError(f"{path} does not hold a node's identity: restore it, or move the directory away")
    for name, kind in _TYPES.items():
        if name in document and type(document[name]) is not kind:
            raise DirectoryError(
                f"{path}: '{name}' must be {kind.__name__}, not {document[name]!r}: restore it, or move the directory away"
            )
    return document


def _damage(error: Exception) -> str:
    """Why a text is not JSON, in words for somebody who does not know Python."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return "a number in it is too long" if isinstance(error, ValueError) else "too many brackets within brackets"


def _write(path: Path, member: Member, endpoints: Endpoints, settings: dict[str, str]) -> None:
    """Writes a new file, syncs it, and renames it over the old one: after a crash one of the two is there, whole."""
    fields = {name: getattr(member, name) for name in ("id", "name", "address", "zone", "weight")} | settings
    fields |= {"advertise": endpoints.advertise} if endpoints.advertise else {}
    fields |= {"seeds": endpoints.seeds} if endpoints.seeds else {}
    fields |= {name: value for name in ("secret_file", "config") if (value := getattr(endpoints, name))}
    text = json.dumps(fields, indent=2) + "\n"
    if path.exists() and path.read_text() == text:
        return
    beside = path.with_suffix(".new")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
