"""The options and arguments of the commands: their spelling, help and checks.

An option that several commands have is declared once, so that it means the same everywhere. The others stand beside it,
so that the signature of a command reads as a list of its options. A default that depends on circumstances (a new or a
stored cluster) is None in the code, and is shown by hand. Keys and values are bytes from here on, because the shell may
pass bytes that are not UTF-8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dynamo_cli.addresses import DEFAULT_HOST, DEFAULT_PORT, PORT_MAX
from dynamo_cli.cluster_file import NODES_DEFAULT, NODES_MAX, Engine, Fsync

JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

# --- which node

Host = Annotated[
    str | None,
    typer.Option("--host", metavar="HOST", help="The node to talk to.", show_default=DEFAULT_HOST),
]
Port = Annotated[
    int | None,
    typer.Option("--port", metavar="PORT", min=1, max=PORT_MAX, help="Its port.", show_default=str(DEFAULT_PORT)),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.01, help="How long to wait for an answer.")
]

UserName = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="The user to log in as.", show_default=False)
]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", metavar="FILE", help="A file with the user's password.", show_default=False),
]

# --- data

Key = Annotated[bytes, typer.Argument(metavar="KEY", parser=os.fsencode, help="The key.", show_default=False)]
Value = Annotated[
    bytes,
    typer.Argument(metavar="VALUE", parser=os.fsencode, help="The value; - reads it from stdin.", show_default=False),
]
Token = Annotated[
    str | None,
    typer.Option("--context", metavar="CONTEXT", help="The context that dyn get --json gave.", show_default=False),
]
Raw = Annotated[bool, typer.Option("--raw", help="Print the value alone, without a newline after it.")]
Database = Annotated[
    int | None,
    typer.Option(
        "--db",
        metavar="N",
        min=0,
        max=15,
        help="The database of the key.",
        show_default="that of DYN_URL, else 0",
    ),
]
Match = Annotated[
    bytes,
    typer.Option(
        "--match", metavar="PATTERN", parser=os.fsencode, help="Only keys that match, as in KEYS.", show_default="*"
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep", metavar="TYPE", help="string, hash, set, zset, list, or none for the deletion.", show_default=False
    ),
]
NewValue = Annotated[
    bytes | None,
    typer.Option(
        "--value", metavar="VALUE", parser=os.fsencode, help="The string that the key becomes.", show_default=False
    ),
]
ReadQuorum = Annotated[
    int | None,
    typer.Option("--r", metavar="N", min=1, help="Wait for N replicas instead of the cluster's R.", show_default=False),
]
WriteQuorum = Annotated[
    int | None,
    typer.Option("--w", metavar="N", min=1, help="Wait for N replicas instead of the cluster's W.", show_default=False),
]
ExpireSeconds = Annotated[
    int | None,
    typer.Option("--ex", metavar="SECONDS", min=1, help="Expire after so many seconds.", show_default=False),
]
ExpireMs = Annotated[
    int | None,
    typer.Option("--px", metavar="MS", min=1, help="Expire after so many milliseconds.", show_default=False),
]

# --- layouts

Members = Annotated[
    list[str], typer.Argument(metavar="HOST:PORT...", help="The addresses of all members.", show_default=False)
]
Partitions = Annotated[
    int,
    typer.Option("--partitions", metavar="Q", min=1, help="How many partitions: a power of two that never changes."),
]
Replicas = Annotated[int, typer.Option("--n", metavar="N", min=1, help="How many nodes store each key.")]
LayoutR = Annotated[int, typer.Option("--r", metavar="R", min=1, help="How many of them a read waits for.")]
LayoutW = Annotated[int, typer.Option("--w", metavar="W", min=1, help="How many of them a write waits for.")]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0.1, help="How long to wait until the nodes are ready.")
]

# --- changes of members

NewMembers = Annotated[
    list[str],
    typer.Argument(metavar="HOST:PORT...", help="The addresses of the fresh nodes.", show_default=False),
]
MemberName = Annotated[str, typer.Argument(metavar="NAME", help="The name of the node.", show_default=False)]
Replacement = Annotated[
    str,
    typer.Argument(
        metavar="NEW",
        help="The HOST:PORT of a fresh node, or the name of one whose join is staged.",
        show_default=False,
    ),
]
MemberWeight = Annotated[
    int,
    typer.Argument(metavar="WEIGHT", min=1, help="Its share of the data, relative to others.", show_default=False),
]
MemberZone = Annotated[
    str, typer.Argument(metavar="ZONE", help="The rack or room with which it fails.", show_default=False)
]
Epoch = Annotated[int, typer.Option("--epoch", metavar="E", min=1, help="The epoch of the plan.", show_default=False)]
PlanDigest = Annotated[
    str | None,
    typer.Option(
        "--plan", metavar="DIGEST", help="The digest of the plan: only exactly that plan is made.", show_default=False
    ),
]
Moved = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]HOST:PORT...",
        help="The new addresses; with NAME= only that node is accepted there.",
        show_default=False,
    ),
]
UntilMoved = Annotated[bool, typer.Option("--wait", help="Show the progress, and return once everything has moved.")]

# --- repairs

TaskId = Annotated[
    str, typer.Argument(metavar="TASK", help="The task, as dyn repair or dyn task list names it.", show_default=False)
]
OptionalTaskId = Annotated[
    str | None, typer.Argument(metavar="[TASK]", help="The task; without it all transfers.", show_default=False)
]
RepairPartitions = Annotated[
    list[int] | None,
    typer.Option(
        "--partition", metavar="N", min=0, help="Repair this partition; may be given again.", show_default=False
    ),
]
RepairKey = Annotated[
    bytes | None,
    typer.Option("--key", metavar="KEY", parser=os.fsencode, help="Repair only this key.", show_default=False),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the repair has started.")]

# --- processes on this machine

ClusterDirectory = Annotated[
    Path,
    typer.Option("--dir", metavar="DIR", file_okay=False, help="The directory for data, logs and pid files."),
]
NodeCount = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        metavar="K",
        min=1,
        max=NODES_MAX,
        help=f"How many nodes, 1 to {NODES_MAX}.",
        show_default=str(NODES_DEFAULT),
    ),
]
BasePort = Annotated[
    int | None,
    typer.Option(
        "--base-port",
        metavar="PORT",
        min=1,
        max=PORT_MAX,
        help="The first node's port; the others have the next ones.",
        show_default=str(DEFAULT_PORT),
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once the cluster is ready, and leave it running.")]
FsyncPolicy = Annotated[
    Fsync | None,
    typer.Option(
        "--fsync", metavar="always|everysec|no", help="When writes are synced to disk.", show_default="everysec"
    ),
]
EngineName = Annotated[
    Engine | None,
    typer.Option("--engine", metavar="rocksdb|memory", help="The storage engine.", show_default="rocksdb"),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Another port, for Prometheus (/metrics) and probes (/healthz, /readyz).",
        show_default=False,
    ),
]
NodeDirectory = Annotated[
    Path,
    typer.Option("--dir", metavar="DIR", file_okay=False, help="The node's data directory.", show_default=False),
]
NodeName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The node's name for operators.", show_default=False)
]
NodeId = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="The node's former id, if its node.json was lost.", show_default=False),
]
Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="The address for clients and other nodes.", show_default=False),
]
Advertise = Annotated[
    str | None,
    typer.Option(
        "--advertise",
        metavar="HOST:PORT",
        help="The address that clients and other nodes use, if it differs from --listen.",
        show_default=False,
    ),
]
Zone = Annotated[
    str | None,
    typer.Option("--zone", metavar="ZONE", help="The rack or room with which it fails.", show_default=False),
]
Weight = Annotated[
    int | None,
    typer.Option("--weight", metavar="N", min=1, help="Its share of the data, relative to others.", show_default=False),
]
Seeds = Annotated[
    list[str] | None,
    typer.Option(
        "--seeds",
        metavar="HOST:PORT,...",
        help="Where to ask for members whose addresses have changed; may be given again.",
        show_default=False,
    ),
]
Joined = Annotated[
    list[str] | None,
    typer.Option(
        "--join",
        metavar="HOST:PORT",
        help="A member to ask to stage this node's join; may be given again.",
        show_default=False,
    ),
]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        dir_okay=False,
        help="The secret that the nodes of the cluster share.",
        show_default="DIR/secret",
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Move a damaged store aside and begin an empty one, which the other owners fill."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", dir_okay=False, help="A TOML file of settings.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, over those of the file; may be given again.",
        show_default=False,
    ),
]
