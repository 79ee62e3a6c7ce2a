"""Makes the first layout of a cluster from fresh nodes: what `dyn cluster init` and `dyn up` do.

Ownership is ordered, not gossiped: exactly one node makes the first layout, and the others learn it from that
node. So the command first asks all members for their identity. It sends nothing unless all of them answered, none has a
layout yet, and no two are the same node. A crash before that leaves fresh nodes, and the command can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dynamo_cli.addresses import Address
from dynamo_cli.client import Client
from dynamo_cli.failures import Failure, NotReached, WrongUsage

PARTITIONS_DEFAULT = 128
PARTITIONS_MAX = 16384  # one slot in each
MEMBER_FIELDS = ("id", "name", "address", "zone", "weight")

Connect = Callable[[Address], Client]
Pause = Callable[[Address, str], None]
"""Called with a node and why it is not ready. Returns when it is time to ask again; raises Failure to give up."""


class Patience:
    """A `Pause` that gives up `wait_s` seconds after it was made."""

    POLL_INTERVAL_S = 0.05

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._deadline = time.monotonic() + wait_s

    def __call__(self, address: Address, problem: str) -> None:
        """Waits for the poll interval. Raises Failure if the time is over."""
        if time.monotonic() >= self._deadline:
            raise Failure(f"{address} was not ready within {self._wait_s:g} s: {problem}")
        time.sleep(self.POLL_INTERVAL_S)


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """Q, N, R and W of a new cluster. N, R and W may exceed the number of members: they are cut to it."""

    partitions: int = PARTITIONS_DEFAULT
    n: int = 3
    r: int = 2
    w: int = 2

    def check(self) -> None:
        """Raises WrongUsage that names the option."""
        if not 1 <= self.partitions <= PARTITIONS_MAX or self.partitions & (self.partitions - 1):
            raise WrongUsage(f"--partitions {self.partitions} is not a power of two from 1 to {PARTITIONS_MAX}")
        for name, value in (("--r", self.r), ("--w", self.w)):
            if value > self.n:
                raise WrongUsage(f"{name} {value} is more than the {self.n} replicas that --n gives a key")


def identity(client: Client) -> dict[str, Any]:
    """What a node says of itself: `{"id", "name", "address", "zone", "weight", "epoch", "cluster"}`.

    If its epoch is 0 it has no layout.
    """
    document = client.document("DYN.CLUSTER", "MYSELF")
    if not isinstance(document.get("epoch"), int) or any(field not in document for field in MEMBER_FIELDS):
        raise client.nonsense("DYN.CLUSTER MYSELF", "not a node's description")
    return document


def make_layout(addresses: Sequence[Address], options: LayoutOptions, connect: Connect, pause: Pause) -> dict[str, Any]:
    """Makes the nodes at `addresses` a cluster, and waits until all of them have its layout.

    Returns `{"epoch", "cluster", "partitions", "n", "r", "w", "members", "is_authenticated"}`. Raises WrongUsage before
    anything is sent, Failure if a node already has a layout or another secret, what `pause` raises, and what `Client.call`
    raises.
    """
    options.check()
    members, secrets = _fresh(addresses, connect)
    _refuse_duplicates(addresses, members)
    _refuse_different_secrets(addresses, secrets)
    document = {
        "partitions": options.partitions,
        "n": options.n,
        "r": options.r,
        "w": options.w,
        "members": members,
    }
    with connect(addresses[0]) as client:
        answer = client.document("DYN.CLUSTER", "INIT", _compact(document))
    for address in addresses:
        while (problem := _unaware(address, connect)) is not None:
            pause(address, problem)
    made = {"epoch": answer.get("epoch"), "cluster": answer.get("cluster"), **document}
    return made | {"is_authenticated": bool(secrets[0])}


def _fresh(addresses: Sequence[Address], connect: Connect) -> tuple[list[dict[str, Any]], list[tuple[str, ...]]]:
    """The identities of fresh nodes, and the fingerprints of their secrets. Raises Failure if one of them is not fresh."""
    members: list[dict[str, Any]] = []
    secrets: list[tuple[str, ...]] = []
    for address in addresses:
        with connect(address) as client:
            myself = identity(client)
        if myself["epoch"] > 0:
            raise Failure(
                f"{address} ({myself['name']}) already has a layout: epoch {myself['epoch']} of cluster "
                f"{myself.get('cluster')}",
                f"to look at it: dyn --host {address.host} --port {address.port} cluster status",
            )
        if myself.get("keys"):
            raise Failure(
                f"the directory of {myself['name']} ({address}) holds {myself['keys']} records of an earlier life",
                "empty the directory, or start the node once with --rebuild",
            )
        members.append({field: myself[field] for field in MEMBER_FIELDS})
        secrets.append(tuple(myself.get("secrets", ())))
    return members, secrets


def _refuse_duplicates(addresses: Sequence[Address], members: Sequence[dict[str, Any]]) -> None:
    for field in ("id", "name", "address"):
        seen: dict[Any, Address] = {}
        for address, member in zip(addresses, members, strict=True):
            if member[field] in seen:
                first = seen[member[field]]
                raise WrongUsage(f"{first} and {address} are both the node with the {field} {member[field]}")
            seen[member[field]] = address


def _refuse_different_secrets(addresses: Sequence[Address], secrets: Sequence[tuple[str, ...]]) -> None:
    """Raises Failure if the nodes would refuse each other, or if one has no secret and could not be told from an intruder.

    `secrets` are the fingerprints of each node's secrets. Without any secret on all nodes, nobody is refused.
    """
    for address, held in zip(addresses, secrets, strict=True):
        if held != secrets[0]:
            with_one = addresses[0] if secrets[0] else address
            without = address if secrets[0] else addresses[0]
            what = f"{addresses[0]} and {address} have different secrets"
            if not held or not secrets[0]:
                what = f"{without} has no secret, and {with_one} has one"
            raise Failure(what, "start all nodes with the same file: dyn node start --secret-file FILE")


def _unaware(address: Address, connect: Connect) -> str | None:
    """Why the node does not have the layout yet; None if it has."""
    try:
        with connect(address) as client:
            return None if identity(client)["epoch"] > 0 else "it has not learned the layout"
    except NotReached as failure:
        return failure.message


def _compact(document: dict[str, Any]) -> bytes:
    import json

    return json.dumps(document, separators=(",", ":")).encode()
