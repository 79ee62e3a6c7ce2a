"""`dyn up`, `dyn down`, `dyn node start`: the processes of nodes on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from dynamo_cli import local_cluster, processes
from dynamo_cli.addresses import parse_address
from dynamo_cli.cluster_file import FILE_NAME, UpOptions, plan
from dynamo_cli.failures import Failure
from dynamo_cli.local_cluster import node_argv
from dynamo_cli.local_tls import ca_of, with_tls
from dynamo_cli.node_settings import parse_settings
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
    Metrics,
    NodeCount,
    NodeDirectory,
    NodeId,
    NodeName,
    Rebuild,
    SecretFile,
    Seeds,
    Settings,
    Wait,
    Weight,
    Zone,
)
from dynamo_cli.output import counted, is_terminal, note, write_json, write_line
from dynamo_cli.stop_signals import StopSignals
from dynamo_cli.tls_options import TlsCaFile, TlsCertFile, TlsKeyFile, TlsPort, WithTls

DIRECTORY_DEFAULT = Path("dyn-data")
UP = """Run a whole cluster on this machine, one process a node.

The nodes n1, n2, ... keep their data in DIR/n1, DIR/n2, ..., each with its log (log, then log.1 and so on as it grows,
unless the setting log_to says where to) and process number (pid). The cluster serves once the line "ready: ..."
appears, or once the command returns with --detach.

Ctrl-C stops all nodes cleanly; dyn down stops a detached cluster. Started again on the same DIR, the cluster has its
data: the number of nodes, their ports and the engine are stored in DIR/cluster.json, so that dyn up --dir DIR is
enough.

The nodes prove to each other a secret that dyn up makes (DIR/n1/secret and so on, the same in each).

If some of the nodes already run, only the others are started, and Ctrl-C stops only those.

All nodes have the settings of the file --config, over them those of the environment (DYN_NAME), and over both those of
--set: --set flushall=true, for example, lets a test suite say FLUSHALL. --config and --set are stored in
DIR/cluster.json once the cluster is ready, and each later start reads the file again. A setting of an earlier --set
counts until the file or the environment gives it, too. --set NAME= removes a setting, and --config /dev/null the
file. dyn config show tells each setting and where it comes from; dyn.toml(5) describes them.

With --tls the nodes take TLS on ports of their own, 100 above their other ones, and talk to each other by TLS;
certificates for this machine are made in DIR/tls.
"""
NODE_START = """Run one node in the foreground, for real machines and service managers.

The options are stored in the directory, except for --set and those of TLS: on later starts --dir alone is enough. A
fresh node belongs to no cluster until dyn cluster init or dyn cluster join makes it a member. With --join the node
asks the members at those addresses to stage its join, one after the other until one answers; then dyn cluster plan
shows the join and dyn cluster commit makes the node a member. The node starts even if no member can be reached.

Settings come from the file --config, from the environment (DYN_NAME) and from options. An option
overrides a variable; a variable overrides the file. What the directory stores of --fsync and --engine is weaker than the
file. dyn.toml(5) describes the settings. On SIGHUP the node reads the file, certificates, secrets and keys again, and
follows the settings that a running node can follow. On SIGUSR1 it writes where each of its threads is into its log.

Clients and other nodes use the address of --advertise to reach the node; a host name is passed on unresolved, and is
resolved at each attempt. Without --advertise they use the address of --listen, with its host name resolved. A node that
listens on all addresses (0.0.0.0 or [::]) is advertised at the only address of its machine; if the machine has several, the
node does not start without --advertise.

A node that returns at another address tells the members that it can reach, and they tell the others. If all nodes return at
other addresses, they find each other through the seeds. The option --seeds names these: host names or addresses where
members answer, which may be those of the nodes themselves. One seed that answers is enough. The addresses of --join are
seeds, too. Without seeds use dyn cluster readdress.

Nodes prove to each other that they know the secret of their cluster (dyn secret make). A node takes it from --secret-file,
from the file that the variable DYN_SECRET_FILE names, from the variable DYN_SECRET itself, or from DIR/secret, in this
order. Changes of the file are noticed within a second or two, and at once on SIGHUP. Without a secret anybody who reaches
the port may act as a node; the log and dyn cluster status say so.

A node with a damaged store reports the damage when it starts, or stops with that message. Start it once with --rebuild: the
store is moved to DIR/data.damaged-1, and the other owners of its data fill a new one. Do not put --rebuild into a service
file, because then every start would begin with an empty store. A node without DIR/node.json does not start on its data:
restore the file, or pass the id once with --id; the status of the other nodes (dyn cluster status --json) shows it.

The exit status is 0 after SIGTERM or SIGINT, 1 if the node could not start or its disk failed, 2 for wrong usage, and 70
after an internal error, whose traceback is in the log. No acknowledged write is lost by that: let the service manager start
the node again (systemd: Restart=on-failure).
"""


def up(
    nodes: NodeCount = None,
    directory: ClusterDirectory = DIRECTORY_DEFAULT,
    base_port: BasePort = None,
    detach: Detach = False,
    fsync: FsyncPolicy = None,
    engine: EngineName = None,
    config: ConfigFile = None,
    settings: Settings = None,
    tls: WithTls = False,
    wait_s: Wait = local_cluster.WAIT_S_DEFAULT,
    as_document: JSON = False,
) -> None:
    """Run a whole cluster on this machine; UP is the help text."""
    wanted = UpOptions(nodes, base_port, fsync, engine, config, parse_settings(settings or ()))
    cluster = with_tls(plan(directory, wanted)) if tls else plan(directory, wanted)
    if cluster.is_recovered:
        note(
            f"{cluster.directory / FILE_NAME} was missing: it is made anew from the node.json files of the nodes, without "
            "the option --set of earlier starts"
        )
    for sentence in cluster.overruled:
        note(sentence)
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

    Each node gets SIGTERM, flushes its data and ends; a node that has not ended after 15 seconds is killed. The data stays:
    dyn up --dir DIR starts the cluster again.
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
    settings: Settings = None,
    tls_port: TlsPort = None,
    tls_ca: TlsCaFile = None,
    tls_certificate: TlsCertFile = None,
    tls_key: TlsKeyFile = None,
    fsync: FsyncPolicy = None,
    engine: EngineName = None,
    joined: Joined = None,
    seeds: Seeds = None,
    rebuild: Rebuild = False,
    node_id: NodeId = None,
    secret_file: SecretFile = None,
    metrics: Metrics = None,
) -> None:
    """Run one node in the foreground; NODE_START is the help text."""
    given: dict[str, Any] = {
        "--dir": directory, "--name": name, "--listen": listen, "--advertise": advertise, "--zone": zone,
        "--weight": weight, "--config": config, "--fsync": fsync, "--engine": engine, "--id": node_id,
        "--secret-file": secret_file,
    }  # fmt: skip
    words = [str(word) for option, value in given.items() if value is not None for word in (option, value)]
    words += [word for seed in joined or () for word in ("--join", str(parse_address(seed)))]
    asked = [parse_address(seed) for each in seeds or () for seed in each.split(",")]
    words += [word for seed in asked for word in ("--seeds", str(seed))]
    options: dict[str, Any] = {
        "tls_port": tls_port, "tls_ca_file": tls_ca, "tls_cert_file": tls_certificate, "tls_key_file": tls_key,
        "metrics": None if metrics is None else parse_address(metrics),
    }  # fmt: skip
    words += _setting_words(parse_settings(settings or ()), options)
    _become_node(words + ["--rebuild"] * rebuild)


def _setting_words(settings: dict[str, str], options: dict[str, Any]) -> list[str]:
    """The words that give a node these settings, and those that have options of their own, where they were given."""
    chosen = settings | {name: str(value) for name, value in options.items() if value is not None}
    return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]


def _become_node(words: list[str]) -> None:
    """Replaces this process by the node, so that a service manager's signals reach it and its exit status is the node's."""
    argv = local_cluster.server_argv(*words)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], argv, processes.environment_of_node())


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
    count = counted(len(nodes), "node")
    write_line(f"ready: {count}, {' '.join(str(node.address) for node in nodes)}")
    if is_terminal():
        write_line(f"try: redis-cli -p {nodes[0].address.port} set greeting hello")
        if tls := ca_of(ready.cluster):
            write_line(f"by TLS: redis-cli -p {tls[0]} --tls --cacert {tls[1]} get greeting")
