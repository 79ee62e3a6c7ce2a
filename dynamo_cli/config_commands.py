"""`dyn config show | set | check`: the settings of nodes, and a file of settings.

Which settings there are only the server knows. So `show` and `set` ask a node, by the commands that redis-cli has, too, and
`check` runs the server's own check in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import typer

from dynamo_cli import plain
from dynamo_cli.addresses import Address
from dynamo_cli.failures import ExitStatus, Failure, Refused, WrongUsage
from dynamo_cli.layout_commands import ask_ports, reachable_address
from dynamo_cli.membership_commands import stage
from dynamo_cli.node_settings import SECRET
from dynamo_cli.options import JSON
from dynamo_cli.output import is_terminal, note, write_json, write_line
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import Target, target_of

_SHOW_SHAPE: Shape = {"node": str, "file": str, "settings": list}
_ROW_SHAPE: Shape = {"name": str, "source": str, "live": bool}
_QUORUMS = ("n", "r", "w")  # they stand in the layout, so another one is a staged change
_OF_CLUSTER = ("notify_keyspace_events",)  # any node changes it for all
_HEADINGS = ("NAME", "VALUE", "SOURCE", "LIVE")

Patterns = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATTERN]...", help="Only settings whose names match, such as '*hint*'.", show_default=False
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the setting.", show_default=False)]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="Its new value.", show_default=False)]
WithR = Annotated[int | None, typer.Option("--r", metavar="R", help="For n: also another R.", show_default=False)]
WithW = Annotated[int | None, typer.Option("--w", metavar="W", help="For n: also another W.", show_default=False)]
OnAll = Annotated[bool, typer.Option("--all", help="On all members of the cluster.")]
CheckedFile = Annotated[
    Path, typer.Argument(metavar="FILE", dir_okay=False, help="A TOML file of settings.", show_default=False)
]


def config_show(context: typer.Context, patterns: Patterns = None, as_document: JSON = False) -> None:
    """Show the settings of a node: value, source, and whether a change takes effect while the node runs.

    The sources are, the strongest first: command (dyn config set or CONFIG SET), option, environment (DYN_NAME), file,
    directory (an option of an earlier start), machine (computed from its memory), default. dyn.toml(5) describes the
    settings.

    With --json: {"node", "file", "settings": [{"name", "value", "default", "source", "live"}]}.
    """
    with target_of(context).connect() as client:
        document = ask(client, _SHOW_SHAPE, "DYN.CONFIG", "SHOW")
        for row in document["settings"]:
            require(client, "DYN.CONFIG SHOW", row, _ROW_SHAPE)
    rows = [
        row for row in document["settings"] if not patterns or any(fnmatchcase(row["name"], each) for each in patterns)
    ]
    if as_document:
        write_json({**document, "settings": rows})
    if not rows:
        raise Failure("no setting has such a name", "dyn config show lists all of them")
    if not as_document:
        _show(rows)
    if document["file"] and not as_document:
        note(f"the file of node {document['node']} is {document['file']}")


def _show(rows: list[dict[str, Any]]) -> None:
    cells = [[row["name"], _as_text(row.get("value")), row["source"], "yes" if row["live"] else "no"] for row in rows]
    if is_terminal():
        from dynamo_cli import pictures

        pictures.show_table(_HEADINGS, cells, pictures.console())
    else:
        write_line("\n".join(plain.aligned(_HEADINGS, cells)))


def _as_text(value: Any) -> str:
    """As TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def config_set(
    context: typer.Context,
    name: Name,
    value: Value,
    on_all: OnAll = False,
    with_r: WithR = None,
    with_w: WithW = None,
    as_document: JSON = False,
) -> None:
    """Change a setting of a running node, or with --all of all members.

    It takes effect at once and holds until the node restarts. redis-cli CONFIG REWRITE writes it to the file of the node,
    if it has one. Settings that a node takes only when it starts are refused; dyn config show tells which are live. If a
    member cannot be reached or refuses, the others have the new value, and the exit status is 1.

    notify_keyspace_events is one setting of the whole cluster: any node changes it for all members, and the change holds
    over restarts.

    n is the number of copies of each key in the whole cluster; r and w are how many of them a read and a write wait for, by
    default. They are staged, as changes of members are: dyn cluster plan shows what follows, and dyn cluster commit makes
    the change. It is refused, with the steps that lead there, while a read could miss an acknowledged write because of it,
    and also if the numbers are in force already. After w was raised, the nodes copy older writes to all owners by
    themselves. With another n all owners first fetch what they lack, so all nodes must be up until it is over. dyn cluster
    status shows both.

    requirepass is refused, because everybody on a machine can read command lines.

    With --json: {"name", "value", "nodes": [{"name", "address", "error"}]}, where error is null if the node has it. For r
    and w: {"staged": {"change", "node", "quorum"}, "epoch", "changes"}; for n with "copies" in place of "quorum".
    """
    setting = name.lower().replace("-", "_")
    if setting in SECRET:
        raise WrongUsage(
            f"dyn config set {name} ...: everybody on this machine can read a command line",
            "redis-cli -x ACL SETUSER default on resetpass reads '>PASSWORD' from stdin; or use the file of --config",
        )
    if setting in _QUORUMS or (with_r, with_w) != (None, None):
        stage(context, as_document, "QUORUM", *_numbers(setting, value, with_r, with_w))
        return
    _set_in_nodes(context, name, value, on_all, as_document)


def _numbers(setting: str, value: str, r: int | None, w: int | None) -> list[str | int]:
    """The words of DYN.CLUSTER QUORUM for N, R or W. Raises WrongUsage."""
    further = [word for letter, number in (("R", r), ("W", w)) if number is not None for word in (letter, number)]
    if further and setting != "n":
        raise WrongUsage(
            "--r and --w go with dyn config set n alone", "dyn config set r and dyn config set w stage them"
        )
    return [setting.upper(), value, *further]


def _set_in_nodes(context: typer.Context, name: str, value: str, on_all: bool, as_document: bool) -> None:
    """Sets a setting of one node, or of all members."""
    setting = name.lower().replace("-", "_")
    is_of_cluster = setting in _OF_CLUSTER
    holds = "on all nodes, over restarts" if is_of_cluster else "until the node restarts"
    target = target_of(context)
    rows = [_set_on(target, *member, name, value) for member in _members(target, on_all and not is_of_cluster)]
    if as_document:
        write_json({"name": name, "value": value, "nodes": rows})
    for row in rows:
        if row["error"] is not None:
            note(f"{row['name']} ({row['address']}): {row['error']}")
        elif not as_document:
            write_line(f"{row['name']}: {name} = {value}, {holds}")
    if any(row["error"] is not None for row in rows):
        raise typer.Exit(ExitStatus.FAILED)


def _members(target: Target, on_all: bool) -> list[tuple[str, Address]]:
    """The names and addresses of the nodes to change. A node that joins is one: it fetches at its own rate."""
    with target.connect() as client:
        if not on_all:
            return [(str(ask(client, {"name": str}, "DYN.CLUSTER", "MYSELF")["name"]), client.address)]
        nodes = ask(client, {"nodes": list}, "DYN.CLUSTER", "STATUS")["nodes"]
        for node in nodes:
            require(client, "DYN.CLUSTER STATUS", node, {"name": str, "address": str})
        ports = ask_ports(client)
    return [(node["name"], reachable_address(node, ports)) for node in nodes]


def _set_on(target: Target, node: str, address: Address, name: str, value: str) -> dict[str, Any]:
    row: dict[str, Any] = {"name": node, "address": str(address), "error": None}
    try:
        with target.connect_to(address) as client:
            client.call("CONFIG", "SET", name, value, writes=True)
    except Refused as refused:
        row["error"] = refused.reply
    except Failure as failure:
        row["error"] = failure.message
    return row


def config_check(file: CheckedFile, as_document: JSON = False) -> None:
    """Check a file of settings: each mistake with its line, and the name that may be meant.

    The exit status is 1 if there is a mistake. No node is asked.

    With --json: {"settings", "mistakes": [{"line", "name", "message"}]}.
    """
    argv = [sys.executable, "-P", "-m", "server.config_check", str(file)]
    ran = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    if ran.returncode:
        raise Failure(f"the check of {file} has failed with exit status {ran.returncode}")
    document = json.loads(ran.stdout)
    mistakes = document["mistakes"]
    if as_document:
        write_json(document)
    elif not mistakes:
        write_line(f"{file}: {document['settings']} settings, no mistakes")
    else:
        for each in mistakes:
            where = f"{file}:{each['line']}" if each["line"] else file
            write_line(f"{where}: {each['message']}")
    if mistakes:
        raise typer.Exit(ExitStatus.FAILED)
