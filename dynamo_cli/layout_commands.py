"""`dyn cluster init`, `dyn cluster status`, `dyn ring show`, `dyn ring locate`: the layout and the state of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from dynamo_cli import plain
from dynamo_cli.addresses import Address, parse_address
from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus, Refused
from dynamo_cli.layout import PARTITIONS_DEFAULT, LayoutOptions, Patience, make_layout
from dynamo_cli.options import JSON, Key, LayoutR, LayoutW, Members, Partitions, Replicas, Wait
from dynamo_cli.output import as_json, as_shown, is_terminal, note, write_json, write_line
from dynamo_cli.shapes import Shape, ask, require
from dynamo_cli.target import target_of


def cluster_init(
    context: typer.Context,
    nodes: Members,
    partitions: Partitions = PARTITIONS_DEFAULT,
    n: Replicas = 3,
    r: LayoutR = 2,
    w: LayoutW = 2,
    wait_s: Wait = 30.0,
    as_document: JSON = False,
) -> None:
    """Form a cluster from fresh nodes.

    The command asks each node at HOST:PORT for its identity. If none of them belongs to a cluster yet, the first one makes
    the layout, which says which nodes own each partition. The command returns when all nodes have the layout. In a cluster
    of fewer than N nodes the quorums are cut to the number of members.

    All nodes need the same secret before (dyn secret make, dyn node start --secret-file): it is never sent to them. If
    their secrets differ, nothing is made. Nodes that have none at all form a cluster whose nodes are not authenticated,
    and a warning says so.

    On one machine dyn up does all this.
    """
    addresses = [parse_address(node) for node in nodes]
    made = make_layout(
        addresses,
        LayoutOptions(partitions, n, r, w),
        target_of(context).connect_to,
        Patience(wait_s),
    )
    if not made.pop("is_authenticated"):
        note(
            "warning: the nodes are not authenticated, so whoever reaches a port may act as a node; see dyn secret make"
        )
    if as_document:
        write_json(made)
        return
    names = " ".join(member["name"] for member in made["members"])
    write_line(f"cluster {made['cluster']} made: {names}; {partitions} partitions, N={n} R={r} W={w}")


def cluster_status(context: typer.Context, as_document: JSON = False) -> None:
    """Show the state of the cluster: a verdict, what is wrong, and the nodes.

    healthy: all nodes are up and have everything that they own. degraded: every key is served, but something is wrong.
    unavailable: some keys are not served. The exit status is 0, 4 or 5. What will soon be refused counts as degraded: on a
    disk with less than 1.5 times disk_free_bytes_min free, and with a certificate that ends within 7 days (or a quarter of
    its life, if that is less).

    After a node has lost its disk, the cluster is degraded until the other owners have filled the node: "n6 is being
    filled, 12 %, about 40 s". So disks can be replaced one after the other: replace the next one once this command exits
    with 0.

    With --json: {"epoch", "n", "r", "w", "partitions", "verdict", "summary", "nodes": [{"id", "name", "address", "zone",
    "state", "role", "owned", "share", "hints_held", "keys"}]}. While data moves there is "change": {"phase", "epoch",
    "partitions_moving", "partitions_moved", "keys", "keys_done", "eta_s"}, and each node has its "transfer". If the
    change waits for nodes that are down, "waits_for" names them. "clock_bound_ms" is how far cluster time, by which keys
    expire, may be from the median of all nodes' clocks; null if no majority of the clocks is known.
    While N changes, the change has "numbers": {"n", "r", "w"}, the ones to come.
    "written_w" is there while writes from before W was raised have fewer copies than W.
    "databases" is there while databases are swapped: for each number, the one whose keys it had before the first swap.

    The "keys" and "hints_held" of a node that does not answer are null. A node that is down has "down_since_ms": when any
    of the nodes that answer has last heard from it, in ms since 1970; null if none of them has heard from it since its own
    start.

    A node that is not up has a "reason", as the node that answers found it: stopped (nothing listens at its address),
    unreachable (nothing answers), unresolved (its host name has no address), silent (it accepts connections and does not
    answer), elsewhere (another node answers there, or its address is unknown), or refused. If a copy of a node's directory
    was started, the node has "copies": the addresses of the processes that are refused.
    """
    with target_of(context).connect() as client:
        document = ask_status(client)
    if as_document:
        write_json(document)
    else:
        _show_status(document)
    status = _STATUS_OF.get(document["verdict"], ExitStatus.DEGRADED)
    if status:
        raise typer.Exit(status)


def _show_status(document: dict[str, Any]) -> None:
    if is_terminal():
        from dynamo_cli import pictures

        pictures.show_status(document, pictures.console())
    else:
        write_line(plain.status_text(document))


def ring_show(context: typer.Context, as_document: JSON = False) -> None:
    """Show the share of each node, and the owners of every partition.

    On a terminal it is a picture: a bar for the share of each node, with a notch at its fair share by weight, and a strip
    with the first owner of each partition. In a pipe every partition is a line with its owners in order.

    With --json: {"epoch", "partitions", "n", "balance", "nodes": [{"name", "zone", "weight", "owned", "share"}],
    "owners": [["n1", "n2", "n3"], ...]}. A balance of 1 is perfect; at 0.5 a node has twice its fair share.
    """
    document = _ask(context, "DYN.RING", "SHOW")
    if as_document:
        write_json(document)
    elif is_terminal():
        from dynamo_cli import pictures

        pictures.show_ring(document, pictures.console())
    else:
        write_line(plain.ring_text(document))


def ring_locate(context: typer.Context, key: Key, as_document: JSON = False) -> None:
    """Show where KEY is stored: its slot, its partition, its owners in order, and its fallbacks.

    The first owner that is up coordinates the writes of the key. The fallbacks store hints for owners that are down.

    With --json: {"key", "slot", "partition", "owners", "fallbacks"}.
    """
    document = _ask(context, "DYN.RING", "LOCATE", key)
    if as_document:
        write_json({**document, "key": as_json(key)})
    else:
        write_line(plain.location_text(document, as_shown(key)))


_STATUS_OF = {"healthy": ExitStatus.FINE, "unavailable": ExitStatus.UNAVAILABLE}

_SHAPES: dict[str, Shape] = {
    "STATUS": {
        "epoch": int,
        "partitions": int,
        "n": int,
        "r": int,
        "w": int,
        "verdict": str,
        "summary": str,
        "nodes": list,
    },
    "SHOW": {"epoch": int, "partitions": int, "n": int, "balance": (int, float), "nodes": list, "owners": list},
    "LOCATE": {"key": (str, dict), "slot": int, "partition": int, "owners": list, "fallbacks": list},
}


_CHANGE: Shape = {"phase": str, "partitions_moving": int, "partitions_moved": int, "keys": int, "keys_done": int}


def ask_status(client: Client) -> dict[str, Any]:
    """The document of `dyn cluster status`. It has a "change" while data moves."""
    document = ask(client, _SHAPES["STATUS"], "DYN.CLUSTER", "STATUS")
    if document.get("change") is not None:
        require(client, "DYN.CLUSTER STATUS", document["change"], _CHANGE)
    return document


def ask_ring(client: Client) -> dict[str, Any]:
    """The document of `dyn ring show`."""
    return ask(client, _SHAPES["SHOW"], "DYN.RING", "SHOW")


def ask_ports(client: Client) -> dict[Any, int]:
    """By id of a member, its port for connections such as this one: with TLS another one than in its address."""
    try:
        reply = client.call("CLUSTER", "NODES")
    except Refused:
        return {}
    rows = [line.split() for line in reply.decode().splitlines()] if isinstance(reply, bytes) else []
    places = {row[0]: row[1].partition("@")[0].rpartition(":")[2] for row in rows if len(row) > 1}
    return {node: int(port) for node, port in places.items() if port.isdigit()}


def reachable_address(row: Mapping[str, Any], ports: Mapping[Any, int]) -> Address:
    """Where to connect to a member of the status, by the ports of `ask_ports`. Raises WrongUsage."""
    address = parse_address(str(row.get("address")))
    return address._replace(port=ports.get(row.get("id"), address.port))


def _ask(context: typer.Context, command: str, subcommand: str, *arguments: bytes) -> dict[str, Any]:
    with target_of(context).connect() as client:
        return ask(client, _SHAPES[subcommand], command, subcommand, *arguments)
