"""The node process: options, data directory, engine, event loop, signals.

Exit statuses: 0 stopped by SIGTERM or SIGINT; 1 the node could not start, or its disk failed; 2 wrong usage; 70 an
unexpected exception (crash.py): the log has the traceback; start the node again, as after any failure.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import secrets
import shutil
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from server.core.base.config import Config, ConfigError
from server.core.base.state import DAMAGED, SET_BACK
from server.core.node import Node
from server.core.records.versions import ACTOR_BYTES, DamagedRecord
from server.core.ring.addresses import is_wildcard
from server.core.ring.layout import LayoutError, Member
from server.shell import crash
from server.shell.addresses import AddressError, advertised_address
from server.shell.caches import memory_bytes, with_caches
from server.shell.directory import DirectoryError, Place, Wishes, check_unused, open_directory, put_raw, remember
from server.shell.disk import NOTHING_SHARE, has_room_to_open, release_reserve
from server.shell.files import FileShares, allow_files
from server.shell.joining import Joining
from server.shell.life import REBUILD, RESTART, SPARE
from server.shell.server import Server
from server.storage.engine import Engine, StorageDamaged, StorageError, StorageFull
from server.storage.engines import open_engine

log = logging.getLogger("dyn")
_WHY = {
    SET_BACK: "this node came back with an older copy of its directory, which lacks what it had told the other members",
    DAMAGED: "this node could not read all of its store, and the other owners hold everything",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one node until it is told to stop; answers the exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        return _run(options)
    except (ConfigError, DirectoryError, AddressError, StorageError, LayoutError, DamagedRecord, OSError) as error:
        log.critical("node in %s does not start: %s", options.dir, error)
        return 1
    except Exception:  # outside of the event loop, whose handler ends the node in order
        log.critical("the node in %s stops, for this was not expected", options.dir, exc_info=True)
        return crash.STATUS


def _run(options: argparse.Namespace) -> int:
    """Runs the node of a directory, on a new store when it asks for one; answers the exit status."""
    wishes = Wishes(
        id=options.id,
        name=options.name,
        listen=options.listen,
        zone=options.zone,
        weight=options.weight,
        advertise=options.advertise,
        seeds=[seed for seeds in options.seeds for seed in seeds],
        engine=options.engine,
        fsync=options.fsync,
    )
    member, place, remembered = open_directory(options.dir, wishes)
    member = replace(member, address=advertised_address(place.listen, place.advertise))
    config = read_config(options.config, remembered)
    files = allow_files(config.clients_max)
    config = replace(config, clients_max=files.clients, peers_max=min(config.peers_max, files.peers // 2))
    if options.rebuild:
        _rebuild(options.dir / "data", place.listen)
    engine = _open(config, options.dir, files)
    try:
        refuse_stranger(make_node(member, engine, config), options.dir)
        remember(options.dir, member, place, remembered)
        status, reason = _live(member, place, engine, config, options, "")
        while status == REBUILD:
            _close(engine)
            aside = _set_aside(options.dir / "data", reason)
            engine = _open(config, options.dir, files)
            status, reason = _live(member, place, engine, config, options, aside)
        return status
    finally:
        _close(engine)


def _open(config: Config, directory: Path, files: FileShares) -> Engine:
    """Opens the engine of the directory; on a full disk the reserve is released first. Raises StorageError."""
    try:
        return open_engine(config.engine, directory / "data", config.block_cache_bytes, files.storage)
    except StorageFull as error:
        if not release_reserve(directory):
            raise
        log.warning("%s; the reserve is given away", error)
    return open_engine(config.engine, directory / "data", config.block_cache_bytes, files.storage)


def _reopened(engine: Engine, config: Config, directory: Path, compacts: bool) -> bool:
    """Opens an engine anew that has refused writes; False while there is no room for that. Raises StorageError."""
    release_reserve(directory)
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < config.disk_free_bytes_min // NOTHING_SHARE or not has_room_to_open(engine, directory):
        return False
    engine.reopen(compacts)
    return True


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except (StorageFull, StorageDamaged) as error:
        log.warning("all that was written is in the engine's log: %s", error)


def _rebuild(data: Path, address: str) -> None:
    """`--rebuild`: moves the store aside, after all other checks of the start have passed.

    Raises DirectoryError, OSError.
    """
    check_unused(data)
    host, _, port = address.rpartition(":")
    with socket.create_server((host.strip("[]"), int(port)), family=_family(host)):
        aside = put_raw(data)
    if aside is not None:
        log.warning("the store is now %s: delete it once the node is whole again", aside)


def _set_aside(data: Path, reason: str) -> str:
    """Moves the store away for `reason`, SET_BACK or DAMAGED; answers its name now. Raises DirectoryError."""
    aside = put_raw(data, reason)
    log.critical("%s: the store is now %s, and the other owners fill an empty one; delete it once this node is whole",
                 _WHY[reason], aside)  # fmt: skip
    return aside.name if aside is not None else ""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if host.startswith("[") else socket.AF_INET


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server", description="Runs one node (see `dyn node start`).")
    parser.add_argument("--dir", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--id", help="the node's id, for a new directory of a node that has lost its own")
    parser.add_argument("--name", help="the node's name (default: the directory's)")
    parser.add_argument("--listen", metavar="HOST:PORT", type=_address, help="where to serve clients and other nodes")
    parser.add_argument(
        "--advertise", metavar="HOST:PORT", type=_reachable, help="where clients and other nodes find it"
    )
    parser.add_argument(
        "--seeds",
        metavar="HOST:PORT,...",
        type=_addresses,
        action="append",
        default=[],
        help="where to ask for members that have moved",
    )
    parser.add_argument("--zone", help="the failure zone that the node is in")
    parser.add_argument("--weight", type=int, help="the node's share, relative to the others'")
    parser.add_argument("--config", type=Path, help="a TOML file of settings")
    parser.add_argument("--engine", choices=("memory", "rocksdb"))
    parser.add_argument("--fsync", choices=("always", "everysec", "no"))
    parser.add_argument(
        "--join",
        metavar="HOST:PORT",
        type=_address,
        action="append",
        default=[],
        help="a member that shall stage this node's join; may be given again",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="put a damaged store aside and begin an empty one, which other nodes fill",
    )
    return parser


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _addresses(text: str) -> list[str]:
    return [_address(word) for word in text.split(",") if word]


def _reachable(text: str) -> str:
    if is_wildcard(_address(text)):
        raise argparse.ArgumentTypeError(f"nobody can connect to {text!r}: advertise a host name or an IP address")
    return text


def read_config(path: Path | None, overrides: dict[str, str]) -> Config:
    """The settings of a TOML file with `overrides` over them, and the sizes of caches that fit this machine.

    Raises ConfigError, OSError.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
    return with_caches(Config.of(settings | overrides), settings, memory_bytes())


def make_node(member: Member, engine: Engine, config: Config) -> Node:
    """A node over its engine, with an actor that nobody has had before (P2)."""
    wall_ms = time.time_ns() // 1_000_000
    return Node(
        member,
        secrets.token_bytes(ACTOR_BYTES),
        incarnation=wall_ms,
        config=config,
        store=engine,
        rng=random.Random(secrets.randbits(64)),
        wall_ms=wall_ms,
        damage_error=StorageDamaged,
    )


def refuse_stranger(node: Node, directory: Path) -> None:
    """Raises DirectoryError if the store belongs to another member than this node: nobody would talk to it."""
    layout, me = node.state.layout, node.state.member
    if layout is None or any(member.id == me.id for member in layout.members):
        return
    alike = (member for member in layout.members if member.name == me.name or member.address == me.address)
    owner = next(alike, None)
    advice = f"; its member {owner.name} at {owner.address} has the id {owner.id}" if owner is not None else ""
    raise DirectoryError(
        f"{directory / 'data'} holds the data of a member of cluster {layout.cluster}, and this node's id {me.id} is none "
        f"of its members': restore node.json, or give the right one with --id{advice}"
    )


def _live(
    member: Member, place: Place, engine: Engine, config: Config, options: argparse.Namespace, aside: str
) -> tuple[int, str]:
    """The lives of the node on its present store, which begins empty if another one was set `aside`: another life begins
    when its disk was full, or a compaction has met damage. Answers the exit status, or REBUILD and why the store is to be
    set aside."""
    refuses = is_damaged = False
    while True:
        node = make_node(member, engine, config)
        node.state.store_is_damaged = is_damaged
        if aside:  # noted once: the day until the next one counts from now
            node.services.lives.set_aside(aside)
            aside = ""
        status = uvloop.run(_serve(node, place, engine, config, options.dir, options.join, refuses))
        if status == SPARE:
            is_damaged = True
            engine.reopen(compacts=False)
        elif status == RESTART:
            refuses = not _reopened(engine, config, options.dir, not is_damaged)
        else:
            return status, node.state.rebuild_reason


async def _serve(
    node: Node, place: Place, engine: Engine, config: Config, directory: Path, joined: Sequence[str], refuses: bool
) -> int:
    """One life of the node; its exit status, RESTART, REBUILD or SPARE. `refuses`: its engine takes no writes."""
    loop = asyncio.get_running_loop()
    server = Server(node, engine, config, directory, loop, refuses, [*place.seeds, *joined])
    node.services.process.started_ms = int(loop.time() * 1000)
    member = node.state.member
    host, _, port = place.listen.rpartition(":")
    loop.set_exception_handler(server.handle_unexpected)
    await server.listen(host.strip("[]"), int(port))
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.ask_to_stop)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # records are bytes, so there is little to find (see FACTS in the design)
    here = f"{place.listen} as {member.address}" if member.address != place.listen else place.listen
    log.info("node %s (%s) serves on %s, engine %s, fsync %s", member.name, member.id[:8], here, config.engine,
             config.fsync)  # fmt: skip
    server.reports.left()
    tasks = [loop.create_task(server.finding.run())]
    tasks += [loop.create_task(Joining(node, joined).run())] if joined else []
    for task in tasks:
        task.add_done_callback(crash.watch_task)
    status = await server.life.status
    for task in tasks:
        task.cancel()
    server.stop()
    if status not in (RESTART, REBUILD, SPARE):
        log.info("node %s has stopped", member.name)
    return status
