"""A node's data directory: who the node is, remembered in `node.json`.

The identity (id, name, address, zone, weight) is drawn once and kept, and so are the engine and the fsync policy, so that
`--dir` alone starts the node again. What the operator gives on the command line replaces what is remembered, but never
an id that is remembered. The configuration file, if one is given, is not remembered and gives way to both.

`address` is where the node listens; `advertise`, if it was ever given, where others connect to. What follows from the one
or the other at each start (addresses.py) is not remembered: the machine may have another address by then.

Nothing in a directory is changed before it is known that no other process uses it: `open_directory` only reads,
`check_unused` comes before a store is moved away, and `remember` after the engine has locked the store.

A store without its `node.json` has an owner that nobody knows here. With an id drawn anew the node would be a stranger to
the cluster in its own store, so it does not start unless it is told the id.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.core.ring.layout import Member
from server.core.ring.layout_faults import name_faults

log = logging.getLogger("dyn")


class DirectoryError(Exception):
    """The data directory cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says of the node; None keeps what the directory remembers, or the default.

    `id` is for a directory that has been lost, or its `node.json`: the node comes back as the member that it was.
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where the node listens, the address to advertise if one was ever given, and where to look for other members."""

    listen: str
    advertise: str
    seeds: tuple[str, ...]


def open_directory(path: Path, wishes: Wishes) -> tuple[Member, Place, dict[str, str]]:
    """The node that lives in `path`, a new one in a new directory; its place; and its engine and fsync where they were ever
    given. The node's address is where it listens.

    Writes nothing but a missing directory. Raises DirectoryError.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        known = _read(path / "node.json")
        if not known and wishes.id is None and _holds_files(path / "data"):
            raise DirectoryError(
                f"{path / 'node.json'} is missing, and {path / 'data'} holds the data of a node: restore node.json, or "
                f"start the node with `dyn node start --dir {path} --id ID`, where ID is the id that it had (`dyn cluster "
                f"status --json`, asked of another node, shows it); to begin as a new node, move {path} away"
            )
    except OSError as error:
        raise _unusable(path, error) from error
    member = Member(
        id=known.get("id") or wishes.id or secrets.token_hex(20),
        name=wishes.name or known.get("name") or path.name,
        address=wishes.listen or known.get("address") or "127.0.0.1:7001",
        zone=wishes.zone or known.get("zone") or "default",
        weight=wishes.weight or known.get("weight") or 1,
    )
    if not known or wishes.id or wishes.name:
        for fault in name_faults(member.id, member.name):
            raise DirectoryError(f"{fault}: give another one with --id or --name")
    given = {"engine": wishes.engine or known.get("engine"), "fsync": wishes.fsync or known.get("fsync")}
    seeds = wishes.seeds or known.get("seeds") or ()
    place = Place(member.address, wishes.advertise or known.get("advertise") or "", tuple(map(str, seeds)))
    return member, place, {name: value for name, value in given.items() if value}


def remember(path: Path, member: Member, place: Place, settings: dict[str, str]) -> None:
    """Writes down who the node in `path` is. The caller knows that no other process uses the directory.

    On a full disk what was remembered before is enough. Raises DirectoryError.
    """
    try:
        _write(path / "node.json", member, place, settings)
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


def put_raw(data: Path, reason: str = "damaged") -> Path | None:
    """Moves a store out of the way, and answers where it is now, `reason` in its name; None if there is none."""
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


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DirectoryError(
            f"{path} is not JSON ({error}): restore it, or move the directory away and start the node anew"
        ) from error
    if not isinstance(document, dict):
        raise DirectoryError(f"{path} does not hold a node's identity: restore it, or move the directory away")
    return document


def _write(path: Path, member: Member, place: Place, settings: dict[str, str]) -> None:
    """Replaces the file in one step, on disk before it counts, so that a crash leaves the old one or the new one."""
    fields = {name: getattr(member, name) for name in ("id", "name", "address", "zone", "weight")} | settings
    fields |= {"advertise": place.advertise} if place.advertise else {}
    fields |= {"seeds": place.seeds} if place.seeds else {}
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
