"""`dyn cluster join`, `leave`, `remove`, `replace`, `weight`, `zone`: staged changes of members; `readdress`, at once.

Each staging command passes its change to the node that it talks to. That node checks whether the change can be made, and
tells all others. Nothing moves yet: `dyn cluster plan` shows what all staged changes together would move, and `dyn
cluster commit` makes them (plan_commands.py). A node that is to join is asked for its identity over a connection of its
own, because members do not know it. Addresses are no staged change: they follow where the nodes are.
"""

from __future__ import annotations

import json
from typing import Any

import typer

from dynamo_cli.addresses import parse_address
from dynamo_cli.failures import ExitStatus
from dynamo_cli.layout import identity
from dynamo_cli.options import JSON, MemberName, MemberWeight, MemberZone, Moved, NewMembers, Replacement
from dynamo_cli.output import write_json, write_line
from dynamo_cli.plan_text import change_line
from dynamo_cli.shapes import Shape, ask
from dynamo_cli.target import target_of

_STAGED: Shape = {"staged": dict, "epoch": int, "changes": int}


def cluster_join(context: typer.Context, nodes: NewMembers, as_document: JSON = False) -> None:
    """Stage the join of the fresh nodes at HOST:PORT.

    A fresh node is one that dyn node start has started on an empty directory. Each is asked for its identity, and must have
    a name and an address that no member has. It gets its share of the data, by weight, once the plan is committed.

    A node can stage its own join: dyn node start --join.

    With --json a document for each node: {"staged": {"change", "node", "address", "zone", "weight"}, "epoch", "changes"}.
    """
    joining = [_describe(context, node) for node in nodes]
    for member in joining:
        stage(context, as_document, "JOIN", member)


def cluster_leave(context: typer.Context, name: MemberName, as_document: JSON = False) -> None:
    """Stage that the node NAME moves all its data to the others and leaves the cluster.

    It goes on serving requests until it stores nothing any more. Its process may be stopped once dyn cluster status does
    not list it.

    With --json: {"staged": {"change", "node"}, "epoch", "changes"}.
    """
    stage(context, as_document, "LEAVE", name)


def cluster_remove(context: typer.Context, name: MemberName, as_document: JSON = False) -> None:
    """Stage the removal of the node NAME, which is down for good.

    The other owners replace its copies of the data. A node that is up cannot be removed: use dyn cluster leave.

    With --json: {"staged": {"change", "node"}, "epoch", "changes"}.
    """
    stage(context, as_document, "REMOVE", name)


def cluster_replace(context: typer.Context, name: MemberName, new: Replacement, as_document: JSON = False) -> None:
    """Stage that a fresh node takes over everything that the node NAME owns; nothing else moves.

    NEW is the HOST:PORT of the fresh node, or the name of one whose join is staged. If NAME is up, its data is fetched from
    it, and it leaves once it stores nothing any more. If it is down, the data is fetched from the other owners.

    With --json: {"staged": {"change", "node", "by", "address", "gone"}, "epoch", "changes"}.
    """
    stage(context, as_document, "REPLACE", name, _describe(context, new) if ":" in new else new)


def cluster_weight(context: typer.Context, name: MemberName, weight: MemberWeight, as_document: JSON = False) -> None:
    """Stage another weight for the node NAME: its share of the data, relative to the weights of the others.

    With --json: {"staged": {"change", "node", "weight"}, "epoch", "changes"}.
    """
    stage(context, as_document, "WEIGHT", name, weight)


def cluster_zone(context: typer.Context, name: MemberName, zone: MemberZone, as_document: JSON = False) -> None:
    """Stage another zone for the node NAME: the rack or room with which it fails.

    The owners of a partition are in distinct zones if there are enough zones.

    With --json: {"staged": {"change", "node", "zone"}, "epoch", "changes"}.
    """
    stage(context, as_document, "ZONE", name, zone)


def cluster_readdress(context: typer.Context, nodes: Moved, as_document: JSON = False) -> None:
    """Tell the cluster the new addresses of nodes.

    The node that this command talks to asks at each HOST:PORT who is there. If a member answers that it could not reach so
    far, the layout gets the address that this member tells of itself, and all members learn it. Even if all addresses have
    changed, it is enough to tell one node where the others are: they tell each other.

    Nodes that were started with --seeds find each other without this command.

    With --json: {"nodes": [{"asked", "node", "address", "error"}]}. The exit status is 1 if at some address no member
    answers.
    """
    with target_of(context).connect() as client:
        document: dict[str, Any] = ask(client, {"nodes": list}, "DYN.CLUSTER", "READDRESS", *nodes, writes=True)
    if as_document:
        write_json(document)
    else:
        for found in document["nodes"]:
            write_line(
                f"{found['asked']}: {found['error']}" if found["error"] else f"{found['node']} is at {found['address']}"
            )
    if any(found["error"] for found in document["nodes"]):
        raise typer.Exit(ExitStatus.FAILED)


def _describe(context: typer.Context, node: str) -> bytes:
    """The identity of the node at HOST:PORT as JSON, for JOIN and REPLACE."""
    with target_of(context).connect_to(parse_address(node)) as client:
        return json.dumps(identity(client), separators=(",", ":")).encode()


def stage(context: typer.Context, as_document: bool, subcommand: str, *arguments: bytes | str | int) -> None:
    """Stages a change, and tells what was staged."""
    with target_of(context).connect() as client:
        document: dict[str, Any] = ask(client, _STAGED, "DYN.CLUSTER", subcommand, *arguments, writes=True)
    if as_document:
        write_json(document)
    else:
        write_line(f"staged: {change_line(document['staged'])}; see dyn cluster plan")
