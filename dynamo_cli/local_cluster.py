"""A whole cluster on this machine, one process a node: starts, watches and stops it.

`up` is idempotent. It finds out which nodes of the directory run, starts the others, and waits until every node says that
all are up and every key is served. Only then the cluster is ready. Each step before that can fail. After a failure the
command stops every node that it started, says which node failed, and shows the end of its log. It never touches nodes
that ran before.

A lock on the directory keeps two commands from starting or stopping the same nodes at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dynamo_cli import processes
from dynamo_cli.cluster_file import LocalCluster, LocalNode, load
from dynamo_cli.failures import Failure, WrongUsage
from dynamo_cli.local_tls import setting_of
from dynamo_cli.node_settings import stronger_sources
from dynamo_cli.processes import NodeProcess
from dynamo_cli.startup import Startup
from dynamo_cli.stop_signals import StopSignals

WAIT_S_DEFAULT = 30.0
STOP_PATIENCE_S = 15.0  # the time to flush and close before a node is killed; a kill loses nothing (P1), but costs time

ArgvOf = Callable[[LocalCluster, LocalNode], Sequence[str]]
Tell = Callable[[str], None]


def server_argv(*options: str) -> list[str]:
    """The command line of a node. With `-P` a folder `server` in the current directory is not imported."""
    return [sys.executable, "-P", "-m", "server", *options]


def node_argv(cluster: LocalCluster, node: LocalNode) -> list[str]:
    """The command line that starts `node`."""
    options = {
        "--dir": str(cluster.node_directory(node)),
        "--name": node.name,
        "--listen": str(node.address),
        "--zone": node.zone,
        "--weight": str(node.weight),
    }
    options |= {"--fsync": str(cluster.fsync)} if cluster.fsync else {}
    options |= {"--engine": str(cluster.engine)} if cluster.engine else {}
    others = [str(other.address) for other in cluster.nodes if other is not node]
    if others:  # in case all nodes have other ports than before
        options["--seeds"] = ",".join(others)
    if node.id:
        options["--id"] = node.id
    if cluster.config is not None:
        options["--config"] = str(cluster.config)
    words = [word for option in options.items() for word in option]
    if "log_to" not in cluster.settings and not stronger_sources(("log_to",), cluster.config):
        words += ["--set", f"log_to={cluster.node_directory(node) / processes.LOG_FILE}"]  # so that the node rotates it
    for name, value in cluster.settings.items():
        words += ["--set", f"{name}={setting_of(cluster, node, name, value)}"]
    return server_argv(*words)


@dataclass(frozen=True, slots=True)
class Up:
    """A ready cluster: the processes of all nodes in order, and those that this command started."""

    cluster: LocalCluster
    running: list[NodeProcess]
    started: list[NodeProcess]


@dataclass(frozen=True, slots=True)
class Down:
    """The names of the nodes that ended after SIGTERM, that had to be killed, and that did not run."""

    stopped: list[str]
    killed: list[str]
    not_running: list[str]


def up(cluster: LocalCluster, detached: bool, wait_s: float, signals: StopSignals, tell: Tell, argv_of: ArgvOf) -> Up:
    """Starts the nodes that do not run, by the command lines of `argv_of`, and waits until the cluster is ready.

    Raises Failure; then every node that it started is stopped again.
    """
    from dynamo_cli import secret_files  # its imports (cryptography) take longer than most commands

    _make_directory(cluster.directory)
    with _lock(cluster.directory):
        found = {node.name: processes.find(node.name, cluster.node_directory(node)) for node in cluster.nodes}
        missing = [node for node in cluster.nodes if found[node.name] is None]
        if len(missing) < len(cluster.nodes):
            _refuse_other_settings(cluster)
        for node in missing:
            _check_port(node)
        before = load(cluster.directory)
        cluster.save()
        secret_files.provide(cluster)
        if missing:
            tell(f"starting {' '.join(node.name for node in missing)} in {cluster.directory}")
        started: list[NodeProcess] = []
        is_ready = False
        try:
            for node in missing:
                directory = cluster.node_directory(node)
                started.append(processes.start(node.name, directory, argv_of(cluster, node), detached))
                found[node.name] = started[-1]
            running = [process for process in found.values() if process is not None]
            startup = Startup(cluster, running, signals, wait_s)
            startup.run()
            is_ready = True
        finally:
            if not is_ready:
                _stop(started, tell)
                _store_former_settings(cluster, before)
    for name in startup.left:
        tell(f"{name} has left the cluster and serves no requests")
    return Up(cluster, running, started)


def watch(started: Sequence[NodeProcess], signals: StopSignals, tell: Tell) -> bool:
    """Waits for a signal, then stops the nodes. Reports each node that ends by itself, and goes on with the others.

    Returns False if all nodes ended by themselves and at least one of them failed.
    """
    running = list(started)
    ended_well = True
    while running and not signals.requested:
        processes.wait_any([signals.descriptor, *(process.pidfd for process in running)], None)
        for process in [process for process in running if process.has_ended()]:
            running.remove(process)
            ended_well = ended_well and process.ended_well()
            tell(f"{process.name} has ended: {process.exit_text()}; its log: {process.log}")
            process.forget()
    if running:
        tell(f"stopping {' '.join(process.name for process in running)}")
        _stop(running, tell)
        return True
    return ended_well


def down(directory: Path, tell: Tell) -> Down:
    """Stops all nodes that run in `directory`. Raises Failure if it holds no cluster."""
    cluster = load(directory)
    if cluster is None:
        raise Failure(f"there is no cluster in {directory}", "name the directory of the cluster: dyn down --dir DIR")
    with _lock(cluster.directory):
        found = [processes.find(node.name, cluster.node_directory(node)) for node in cluster.nodes]
        running = [process for process in found if process is not None]
        killed = _stop(running, tell)
    names = [process.name for process in running]
    stopped = [name for name in names if name not in killed]
    return Down(stopped, killed, [node.name for node in cluster.nodes if node.name not in names])


def _stop(running: Sequence[NodeProcess], tell: Tell) -> list[str]:
    """Stops the processes; reports and returns the names of those that had to be killed."""
    _, killed = processes.stop(running, STOP_PATIENCE_S)
    for process in killed:
        tell(
            f"{process.name} did not end within {STOP_PATIENCE_S:g} s of SIGTERM and was killed; its log: {process.log}"
        )
    return [process.name for process in killed]


def _check_port(node: LocalNode) -> None:
    """Raises Failure if the node could not listen at its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may be in TIME_WAIT
        try:
            probe.bind(node.address)
        except OSError as error:
            port = node.address.port
            if error.errno == errno.EADDRINUSE:
                what = f"port {port}, which {node.name} needs, is in use by another program"
                hint = f"ss -ltnp 'sport = :{port}' shows which; for a new cluster, choose other ports with --base-port"
                raise Failure(what, hint) from None
            raise Failure(f"{node.name} cannot listen on {node.address}: {error.strerror}") from None


def _refuse_other_settings(cluster: LocalCluster) -> None:
    stored = load(cluster.directory)
    if stored is None:
        return
    message = ""
    if stored.fsync and cluster.fsync and stored.fsync != cluster.fsync:
        message = f"nodes in {cluster.directory} run with --fsync {stored.fsync}, not {cluster.fsync}"
    elif (stored.config, stored.fsync, stored.settings) != (cluster.config, cluster.fsync, cluster.settings):
        message = f"nodes in {cluster.directory} run with other settings"
    if message:
        raise WrongUsage(message, f"stop them first: dyn down --dir {cluster.directory}")


def _store_former_settings(cluster: LocalCluster, before: LocalCluster | None) -> None:
    """After a failure the settings are as before, since they may be what has failed."""
    if before is None:
        before = replace(cluster, config=None, settings={})
    former = replace(cluster, config=before.config, settings=before.settings, fsync=before.fsync, engine=before.engine)
    if former != cluster:
        former.save()


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot make the directory {directory}: {error.strerror}") from None


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failure(f"another dyn up or dyn down is at work in {directory}", "wait until it is done") from None
    else:
        yield
    finally:
        os.close(descriptor)
