"""`dyn doctor`: asks all nodes, and prints what the checks find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from dynamo_cli.doctor.checkup import document_of, text_of
from dynamo_cli.doctor.examined import Cluster, Examined
from dynamo_cli.failures import ExitStatus, Failure
from dynamo_cli.layout_commands import ask_ports, ask_ring, ask_status, reachable_address
from dynamo_cli.options import JSON
from dynamo_cli.output import write_json, write_line
from dynamo_cli.target import Target, target_of

_STATUSES = {"fine": ExitStatus.FINE, "degraded": ExitStatus.DEGRADED, "unavailable": ExitStatus.UNAVAILABLE}


def doctor(context: typer.Context, as_document: JSON = False) -> None:
    """Look for what goes wrong in practice, on all nodes, and say what to do about it.

    The command asks any node for the members, and then each of them. It checks that all answer and have one layout; that
    each partition has enough owners up, in distinct zones and on distinct machines; that versions, protocol and settings
    agree (fsync above all); clocks; room on disks; limits of files and memory; hints that are not delivered, old repairs;
    passwords, protected mode, TLS, secrets, addresses, certificates; settings of the kernel; and whether the code is
    compiled. Each finding is a line, the worst first, and below it what to do.

    Errors need somebody now, warnings before long. Notes and what is unknown, because a node of an earlier version does
    not tell it, do not change the exit status. The exit status is 0 without errors and warnings, 4 with some, and 5 if
    keys are not served.

    With --json: {"verdict": "fine|degraded|unavailable", "findings": [{"check", "severity":
    "error|warning|note|unknown", "nodes", "text", "advice"}], "checks": [names of all], "nodes": [{"name", "address",
    "reached", "version", "build", "python", "rocksdict", "machine", "host", "listen"}]}. A field that a node does not tell
    is null. Names of checks stay; texts may change.
    """
    document = document_of(_examine(target_of(context)))
    if as_document:
        write_json(document)
    else:
        write_line(text_of(document))
    if status := _STATUSES[document["verdict"]]:
        raise typer.Exit(status)


def _examine(target: Target) -> Cluster:
    """Asks the node of the command line for the members, and each of them for its facts."""
    with target.connect() as client:
        status, ring, ports = ask_status(client), ask_ring(client), ask_ports(client)
    return Cluster(status, ring, [_ask(target, row, ports) for row in status["nodes"]])


def _ask(target: Target, row: dict[str, Any], ports: Mapping[Any, int]) -> Examined:
    node = Examined(str(row.get("name")), str(row.get("address")), row)
    try:
        with target.connect_to(reachable_address(row, ports)) as client:
            facts = client.document("DYN.STATS").get("facts")
    except Failure as failure:
        node.trouble = failure.message
    else:
        node.facts = facts if isinstance(facts, dict) else {}
    return node
