"""`dyn up`, `dyn down`, `dyn node start`: processes of nodes on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from dynamo_cli import local_cluster
from dynamo_cli.addresses import parse_address
from dynamo_cli.cluster_file import FILE_NAME, Wanted, plan
from dynamo_cli.failures import Failure
from dynamo_cli.local_cluster import node_argv
from dynamo_cli.options import (
    JSON,
    Advertise,
    BasePort,
    ClusterDirectory,
    ConfigFile,
    Detach,
    EngineName,
    FsyncPolicy,
    Joined,
    Listen,
    NodeCount,
    NodeDirectory,
    NodeId,
    NodeName,
    Rebuild,
    Seeds,
    Wait,
    Weight,
    Zone,
)
from dynamo_cli.output import is_terminal, note, write_json, write_line
from dynamo_cli.stop_signals import StopSignals

DIRECTORY_DEFAULT = Path("dyn-data")
NODE_START = """Run one node in the foreground, for real machines and service managers.

The directory remembers its node: on later starts --dir alone is enough. A fresh node belongs to no cluster until
dyn cluster init or dyn cluster join makes it a member. With --join it asks the members at those addresses, in turn
until one has answered, to stage its join: then dyn cluster plan shows it and dyn cluster commit makes it a member.
Members that cannot be reached do not stop the start.

Clients and other nodes are told to find the node at the address that --advertise gives: a host name is handed on as it
is and resolved at each attempt. Without it that is the address of --listen, of which a host name is resolved. A node
that listens on all addresses (0.0.0.0 or [::]) is found at the one address that its machine has; if there are several
it does not start without --advertise.

A node that comes back at another address tells the members that it reaches, and they tell the others. Where all nodes
have come back at other addresses they find each other through the seeds, which --seeds names: host names or
addresses at which members can be asked, which may be those of the nodes themselves. One that answers is enough. The
addresses of --join are seeds, too. Without seeds use dyn cluster readdress.

A node whose store is damaged says so when it starts, or stops with that message. Start it once with --rebuild: the
store goes to DIR/data.damaged-1, and the other owners of its data fill a new one. Do not make --rebuild part of a
service file, for then every start would begin with nothing. A node that has lost DIR/node.json does not start on its
data: restore it, or give the id once with --id, as the status of the others (dyn cluster status --json) shows it.

The exit status is 0 after SIGTERM or SIGINT, 1 if the node could not start or its disk failed, 2 for wrong usage, and 70
if it met an internal error, which is in its log with a traceback. Nothing acknowledged is lost by that: let the service
manager start the node again (systemd: Restart=on-failure).
"""


def up(
    nodes: NodeCount = None,
    directory: ClusterDirectory = DIRECTORY_DEFAULT,
    base_port: BasePort = None,
    detach: Detach = False,
    fsync: FsyncPolicy = None,
    engine: EngineName = None,
    wait_s: Wait = local_cluster.WAIT_S_DEFAULT,
    as_document: JSON = False,
) -> None:
    """Run a whole cluster on this machine, one process a node.

    The nodes n1, n2, ... keep their data in DIR/n1, DIR/n2, ..., each with its log (log) and process number (pid). The
    cluster serves when the line "ready: ..." appears, or when --detach returns.

    Ctrl-C stops all nodes cleanly; a detached cluster is stopped by dyn down. Started again on the same DIR it comes
    back with its data: the number of nodes, their ports and the engine are remembered in DIR/cluster.json, so that
    dyn up --dir DIR is enough.

    If some of the nodes already run, only the others are started, and Ctrl-C stops only those.
    """
    cluster = plan(directory, Wanted(nodes, base_port, fsync, engine))
    if cluster.is_recovered:
        note(f"{cluster.directory / FILE_NAME} was missing: it is made anew from what the nodes remember")
    with StopSignals() as signals:
        ready = local_cluster.up(cluster, detach, wait_s, signals, note, node_argv)
        if not ready.started:
            note("already running")
        _show_ready(ready, as_document)
        if detach or not ready.started:
            return
        if not as_document and is_terminal():
            write_line("Ctrl-C stops the cluster")
        if not local_cluster.watch(ready.started, signals, note):
            raise Failure("all nodes have ended")


def down(directory: ClusterDirectory = DIRECTORY_DEFAULT, as_document: JSON = False) -> None:
    """Stop the cluster that dyn up runs in DIR.

    Each node is asked to end (SIGTERM), which saves all it holds; one that has not ended after 15 seconds is killed.
    The data stays: dyn up --dir DIR brings the cluster back.
    """
    outcome = local_cluster.down(directory, note)
    if as_document:
        write_json({"stopped": outcome.stopped, "killed": outcome.killed, "not_running": outcome.not_running})
        return
    for what, names in (("stopped", outcome.stopped), ("killed", outcome.killed), ("not running", outcome.not_running)):
        if names:
            write_line(f"{what}: {' '.join(names)}")


def node_start(
    directory: NodeDirectory,
    name: NodeName = None,
    listen: Listen = None,
    advertise: Advertise = None,
    zone: Zone = None,
    weight: Weight = None,
    config: ConfigFile = None,
    fsync: FsyncPolicy = None,
    engine: EngineName = None,
    joined: Joined = None,
    seeds: Seeds = None,
    rebuild: Rebuild = False,
    node_id: NodeId = None,
) -> None:
    """Run one node in the foreground; NODE_START is the help text."""
    given: dict[str, Any] = {
        "--dir": directory,
        "--name": name,
        "--listen": listen,
        "--advertise": advertise,
        "--zone": zone,
        "--weight": weight,
        "--config": config,
        "--fsync": fsync,
        "--engine": engine,
        "--id": node_id,
    }
    words = [str(word) for option, value in given.items() if value is not None for word in (option, value)]
    words += [word for seed in joined or () for word in ("--join", str(parse_address(seed)))]
    words += [
        word for each in seeds or () for seed in each.split(",") for word in ("--seeds", str(parse_address(seed)))
    ]
    _become_node(words + ["--rebuild"] * rebuild)


def _become_node(words: list[str]) -> None:
    """The node takes this process over, so that a service manager's signals and its exit status are the node's own."""
    argv = local_cluster.server_argv(*words)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], argv)


def _show_ready(ready: local_cluster.Up, as_document: bool) -> None:
    nodes = ready.cluster.nodes
    if as_document:
        started = {process.name for process in ready.started}
        pids = {process.name: process.pid for process in ready.running}
        rows = [
            {"name": node.name, "address": str(node.address), "pid": pids[node.name], "started": node.name in started}
            for node in nodes
        ]
        write_json({"ready": True, "dir": str(ready.cluster.directory), "nodes": rows})
        return
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    write_line(f"ready: {count}, {' '.join(str(node.address) for node in nodes)}")
    if is_terminal():
        write_line(f"try: redis-cli -p {nodes[0].address.port} set greeting hello")
