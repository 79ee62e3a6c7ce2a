"""`dyn cluster join`, `leave`, `remove`, `replace`, `weight`, `zone`: changes of members, staged; `readdress`, at once.

Theory. Nothing moves yet: each command hands its change to the node that it talks to, which looks whether it can be made
and tells all the others. `dyn cluster plan` shows what all of them together would move, and `dyn cluster commit` makes
them (plan_commands.py). A node that is to come is asked who it is over a connection of its own, for a member cannot
know. Addresses are no such change: they follow where the nodes are.
"""

from __future__ import annotations

import json
from typing import Any

import typer

from dynamo_cli.addresses import parse_address
from dynamo_cli.client import Client
from dynamo_cli.failures import ExitStatus
from dynamo_cli.layout import identity
from dynamo_cli.options import JSON, MemberName, MemberWeight, MemberZone, Moved, NewMembers, Replacement
from dynamo_cli.output import write_json, write_line
from dynamo_cli.plan_text import change_line
from dynamo_cli.shapes import Shape, ask
from dynamo_cli.target import target_of

_STAGED: Shape = {"staged": dict, "epoch": int, "changes": int}


def cluster_join(context: typer.Context, nodes: NewMembers, as_document: JSON = False) -> None:
    """Stage that the fresh nodes at HOST:PORT become members.

    A fresh node is one that dyn node start has started on an empty directory. Each is asked who it is, and must have a
    name and an address that no member has. It gets its share of the data, by weight, when the plan is committed.

    A node can ask for this by itself: dyn node start --join.

    With --json a document for each node: {"staged": {"change", "node", "address", "zone", "weight"}, "epoch", "changes"}.
    """
    newcomers = [_describe(context, node) for node in nodes]
    for newcomer in newcomers:
        _stage(context, as_document, "JOIN", newcomer)


def cluster_leave(context: typer.Context, name: MemberName, as_document: JSON = False) -> None:
    """Stage that the node NAME gives all its data to the others, and then is a member no more.

    It goes on serving requests until it holds nothing any more. Its process may be stopped when dyn cluster status does
    not list it.

    With --json: {"staged": {"change", "node"}, "epoch", "changes"}.
    """
    _stage(context, as_document, "LEAVE", name)


def cluster_remove(context: typer.Context, name: MemberName, as_document: JSON = False) -> None:
    """Stage that the node NAME, which is down for good, is a member no more.

    What it held is made anew from the other owners. A node that is up cannot be removed: let it leave.

    With --json: {"staged": {"change", "node"}, "epoch", "changes"}.
    """
    _stage(context, as_document, "REMOVE", name)


def cluster_replace(context: typer.Context, name: MemberName, new: Replacement, as_document: JSON = False) -> None:
    """Stage that a fresh node takes over all that the node NAME owns, and nothing else moves.

    NEW is the HOST:PORT of the fresh node, or the name of one whose join is staged. If NAME is down at that time the other
    owners give the data, else NAME does, and leaves when it holds nothing any more.

    With --json: {"staged": {"change", "node", "by", "address", "gone"}, "epoch", "changes"}.
    """
    _stage(context, as_document, "REPLACE", name, _describe(context, new) if ":" in new else new)


def cluster_weight(context: typer.Context, name: MemberName, weight: MemberWeight, as_document: JSON = False) -> None:
    """Stage another weight for the node NAME: its share of the data, against the others' weights.

    With --json: {"staged": {"change", "node", "weight"}, "epoch", "changes"}.
    """
    _stage(context, as_document, "WEIGHT", name, weight)


def cluster_zone(context: typer.Context, name: MemberName, zone: MemberZone, as_document: JSON = False) -> None:
    """Stage another zone for the node NAME: the rack or room that it fails with.

    The owners of a partition are in distinct zones while there are enough.

    With --json: {"staged": {"change", "node", "zone"}, "epoch", "changes"}.
    """
    _stage(context, as_document, "ZONE", name, zone)


def cluster_readdress(context: typer.Context, nodes: Moved, as_document: JSON = False) -> None:
    """Tell the cluster where nodes are now that have other addresses.

    The node that this command talks to asks at each HOST:PORT who is there; where a member answers that it could not reach
    so far, the layout gets the address that the member tells of itself, and all members learn it. One node that has been
    told is enough, even if all addresses have changed: tell any node where the others are, and they tell each other.

    Nodes that were started with --seeds find each other without this command.

    With --json: {"nodes": [{"asked", "node", "address", "error"}]}. The exit status is 1 if no member answers somewhere.
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
    """What the node at HOST:PORT says of itself, for JOIN and REPLACE."""
    with Client(parse_address(node), target_of(context).timeout_s) as client:
        return json.dumps(identity(client), separators=(",", ":")).encode()


def _stage(context: typer.Context, as_document: bool, subcommand: str, *arguments: bytes | str | int) -> None:
    with target_of(context).connect() as client:
        document: dict[str, Any] = ask(client, _STAGED, "DYN.CLUSTER", subcommand, *arguments, writes=True)
    if as_document:
        write_json(document)
    else:
        write_line(f"staged: {change_line(document['staged'])}; see dyn cluster plan")
