"""The node process: options, data directory, engine, event loop, signals.

Exit statuses: 0 stopped by SIGTERM or SIGINT; 1 the node could not start, or its disk failed; 2 wrong usage; 70 an
unexpected exception (crash.py). After 70 the log has the traceback; start the node again, as after any failure.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from server.core.base.config import Config, ConfigError
from server.core.base.state import DAMAGED, SET_BACK
from server.core.node import Node
from server.core.records.versions import ACTOR_BYTES, DamagedRecord
from server.core.ring.layout import LayoutError, Member
from server.scripting.runtime import Runtime
from server.shell import crash
from server.shell.addresses import AddressError, advertised_address
from server.shell.certificates import Certificates
from server.shell.directory import (
    DirectoryError,
    Endpoints,
    IdentityOptions,
    check_unused,
    open_directory,
    refuse_hidden_store,
    save_identity,
    set_store_aside,
)
from server.shell.disk import NOTHING_SHARE, has_room_to_open, release_reserve
from server.shell.files import FileShares, allow_files, room_for_clients
from server.shell.joining import Joining
from server.shell.local_operator import admit_local_operator
from server.shell.logs import begin_log, follow_settings
from server.shell.node_run import REBUILD, RESTART, WITHOUT_COMPACTION
from server.shell.options import parser
from server.shell.secret_file import SecretSource
from server.shell.server import Server
from server.shell.settings import Given, SettingsFile, forget_overruled, read_given, resolve
from server.storage.chunked import ChunkedEngine
from server.storage.engine import Engine, StorageDamaged, StorageError, StorageFull
from server.storage.engines import open_encrypted, open_engine

log = logging.getLogger("dyn")
STDERR = 2
_WHY = {
    SET_BACK: "this node came back with an older copy of its directory, which lacks its latest writes",
    DAMAGED: "this node could not read all of its store, and the other owners hold everything",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one node until a signal or a failure ends it; returns the exit status."""
    options = parser().parse_args(argv)
    begin_log()
    faulthandler.enable()  # when a watchdog aborts this process, the log gets the place where it stood
    _survive_signals()
    try:
        return _run(options)
    except (ConfigError, DirectoryError, AddressError, StorageError, LayoutError, DamagedRecord, OSError) as error:
        begin_log()  # to standard error, where whoever starts the node looks for it
        log.critical("node in %s does not start: %s", options.dir, error)
        return 1
    except Exception:  # outside of the event loop, whose handler ends the node in order
        log.critical("the node in %s stops after an unexpected exception", options.dir, exc_info=True)
        return crash.EXIT_STATUS


def _survive_signals() -> None:
    """By default these signals would end the node. SIGUSR1 writes where each thread is into the log."""
    faulthandler.register(signal.SIGUSR1, file=STDERR)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _run(options: argparse.Namespace) -> int:
    """Runs the node of a directory, on a new store when it asks for one; returns the exit status."""
    member, endpoints, saved_settings = open_directory(options.dir, identity_options(options))
    member = replace(member, address=advertised_address(endpoints.listen, endpoints.advertise))
    has_secret = bool(SecretSource(options.dir, endpoints.secret_file, os.environ).read())
    given = given_settings(options, endpoints.config, saved_settings)
    config, known = resolve(given)
    if not options.rebuild:
        refuse_hidden_store(options.dir / "data", config.engine, given.place("engine"))
    settings_file = SettingsFile(given, known)
    follow_settings(config, member.name)
    files = allow_files(config.clients_max, config.peers_max)
    peers_max, handshakes_max = min(config.peers_max, files.peers // 2), min(config.handshakes_max, files.handshakes)
    config = replace(config, clients_max=files.clients, peers_max=peers_max, handshakes_max=handshakes_max)
    certificates = Certificates(config)
    check_ports(config, endpoints.listen)
    if options.rebuild:
        _rebuild(options.dir / "data", endpoints.listen)
    engine = _open(config, options.dir, files)
    try:
        node = make_node(member, engine, config)
        refuse_stranger(node, options.dir)
        refuse_without_secret(node, has_secret, options.dir)
        save_identity(options.dir, member, endpoints, remembered(given, saved_settings))
        status, reason = _run_on_store(member, endpoints, engine, config, options, "", certificates, settings_file)
        while status == REBUILD:
            _close(engine)
            aside = _set_aside(options.dir / "data", reason)
            engine = _open(config, options.dir, files)
            status, reason = _run_on_store(
                member, endpoints, engine, config, options, aside, certificates, settings_file
            )
        return status
    finally:
        _close(engine)


def _open(config: Config, directory: Path, files: FileShares) -> Engine:
    """Opens the engine of the directory; on a full disk the reserve is released first. Raises StorageError."""
    known = (directory / "data", config.block_cache_bytes, files.storage, config.compression)
    try:
        engine = open_engine(config.engine, *known)
    except StorageFull as error:
        if not release_reserve(directory):
            raise
        log.warning("%s; the reserve is given away", error)
        engine = open_engine(config.engine, *known)
    if config.engine == "memory":
        return engine
    key_file = Path(config.encryption_key_file) if config.encryption_key_file else None
    return ChunkedEngine(open_encrypted(engine, key_file, directory / "encryption"))


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
        aside = set_store_aside(data)
    if aside is not None:
        log.warning("the store is now %s: delete it once the node is whole again", aside)


def _set_aside(data: Path, reason: str) -> str:
    """Renames the store, for `reason` (SET_BACK or DAMAGED); returns its new name. Raises DirectoryError."""
    aside = set_store_aside(data, reason)
    log.critical("%s: the store is now %s, and the other owners fill an empty one; delete it once this node is whole",
                 _WHY[reason], aside)  # fmt: skip
    return aside.name if aside is not None else ""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if host.startswith("[") else socket.AF_INET


def identity_options(options: argparse.Namespace) -> IdentityOptions:
    """What the options of this start say of the node."""
    return IdentityOptions(
        id=options.id,
        name=options.name,
        listen=options.listen,
        zone=options.zone,
        weight=options.weight,
        advertise=options.advertise,
        seeds=[seed for seeds in options.seeds for seed in seeds],
        engine=options.engine,
        fsync=options.fsync,
        secret_file=None if options.secret_file is None else str(options.secret_file.absolute()),
        config=None if options.config is None else str(options.config.absolute()),
    )


def given_settings(options: argparse.Namespace, file: str, saved: Mapping[str, str]) -> Given:
    """What all sources give. `saved` is what node.json is to remember, options of this start included.

    Raises ConfigError.
    """
    own = {name: str(value) for name in ("engine", "fsync") if (value := getattr(options, name)) is not None}
    remembered = {name: value for name, value in saved.items() if name not in own}
    is_remembered = bool(file) and options.config is None
    path = Path(file) if file else None
    return read_given(path, {**dict(options.set), **own}, remembered, os.environ, is_remembered)


def remembered(given: Given, saved: dict[str, str]) -> dict[str, str]:
    """What node.json is to remember of engine and fsync."""
    kept = forget_overruled(given)
    return {name: value for name, value in saved.items() if name in kept or name not in given.directory}


def check_ports(config: Config, listen: str) -> None:
    """Raises ConfigError if no other node could connect here: the port takes TLS only, and links are made without."""
    if config.tls_port and listen.endswith(f":{config.tls_port}") and config.tls_peers != "yes":
        raise ConfigError(
            f"setting 'tls_port' is the port of --listen {listen}, so that port takes TLS only, and other nodes connect to "
            "it: set tls_peers to 'yes', or give another tls_port"
        )


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


def refuse_without_secret(node: Node, has_secret: bool, directory: Path) -> None:
    """Raises DirectoryError if the node has required proofs of others and has no secret any more: it would let anybody in,
    and no member would let it in."""
    if not has_secret and node.services.authentication.was_closed and node.state.config.peer_auth_required:
        raise DirectoryError(
            f"{directory / 'secret'} is missing, and the nodes of this cluster prove its secret to each other: copy the "
            "file from the directory of another node (mode 600), or name it with --secret-file. To go on without a secret, "
            "start all nodes with peer_auth_required=false"
        )


def _run_on_store(
    member: Member,
    endpoints: Endpoints,
    engine: Engine,
    config: Config,
    options: argparse.Namespace,
    aside: str,
    certificates: Certificates,
    settings_file: SettingsFile,
) -> tuple[int, str]:
    """Runs the node on its present store until it exits or needs another store.

    If its disk was full, or a compaction has met damage, another run follows in this process. `aside`: the present store
    begins empty, because the one of that name was set aside. Returns the exit status, or REBUILD and the reason to set
    the present store aside.
    """
    refuses = is_damaged = False
    while True:
        node = make_node(member, engine, config)
        config = node.state.config  # what CONFIG SET changes in this run holds in the next one, too
        node.state.store_is_damaged = is_damaged
        node.services.process.room_for_clients = partial(room_for_clients, peers_max=config.peers_max)
        settings_file.attach(node.services)
        follow_settings(config, member.name)
        if aside:  # noted once: the day until the next one counts from now
            node.services.rollback.set_aside(aside)
            aside = ""
        status = uvloop.run(_serve(node, endpoints, engine, config, options.dir, options.join, refuses, certificates))
        if status == WITHOUT_COMPACTION:
            is_damaged = True
            engine.reopen(compacts=False)
        elif status == RESTART:
            refuses = not _reopened(engine, config, options.dir, not is_damaged)
        else:
            return status, node.state.rebuild_reason


def _tame_garbage_collection() -> None:
    """Records are bytes, so there is little to find (see FACTS in the design)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _begin_tasks(
    loop: asyncio.AbstractEventLoop, work: Sequence[Coroutine[Any, Any, None]]
) -> list[asyncio.Task[None]]:
    """Begins what runs beside the turns. An exception of it ends the process."""
    tasks = [loop.create_task(each) for each in work]
    for task in tasks:
        task.add_done_callback(crash.watch_task)
    return tasks


def _where(endpoints: Endpoints, member: Member, config: Config) -> str:
    """Where a node serves, for the log."""
    here = f"{endpoints.listen} as {member.address}" if member.address != endpoints.listen else endpoints.listen
    return here + (f", TLS on port {config.tls_port}" if config.tls_port else "")


async def _serve(
    node: Node,
    endpoints: Endpoints,
    engine: Engine,
    config: Config,
    directory: Path,
    joined: Sequence[str],
    refuses: bool,
    certificates: Certificates,
) -> int:
    """Runs the node once. Returns its exit status, RESTART, REBUILD or WITHOUT_COMPACTION. `refuses`: its engine takes no
    writes."""
    loop = asyncio.get_running_loop()
    source = SecretSource(directory, endpoints.secret_file, os.environ)
    server = Server(node, engine, config, directory, loop, refuses, [*endpoints.seeds, *joined], certificates, source)
    node.services.process.started_ms = int(loop.time() * 1000)
    node.services.process.random_bytes = secrets.token_bytes
    admit_local_operator(node.services.users, directory)
    node.services.scripts.make_engine = lambda: Runtime(config.script_memory_bytes_max)
    member = node.state.member
    host, _, port = endpoints.listen.rpartition(":")
    loop.set_exception_handler(server.handle_unexpected)
    _tame_garbage_collection()  # before it serves: this one collection takes tens of milliseconds
    await server.listen(host.strip("[]"), int(port))
    for name, handler in server.signal_handlers().items():
        loop.add_signal_handler(name, handler)
    log.info("node %s (%s) serves on %s, engine %s, fsync %s", member.name, member.id[:8],
             _where(endpoints, member, config), config.engine, config.fsync)  # fmt: skip
    server.reports.log_left()
    work = [server.finding.run(), server.keys.run()]
    work += [Joining(node, joined, certificates).run()] if joined else []
    tasks = _begin_tasks(loop, work)
    status = await server.node_run.status
    for task in tasks:
        task.cancel()
    server.stop()
    if status not in (RESTART, REBUILD, WITHOUT_COMPACTION):
        log.info("node %s has stopped", member.name)
    return status
