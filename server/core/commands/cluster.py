"""CLUSTER: what cluster clients ask, so that they send each key to its coordinator.

Theory. The answers about topology are made in cluster_view.py. Ownership is changed by the operator with `dyn`, by
plans that are looked at before they are committed; the subcommands with which Redis changes it are refused with an
error that says which `dyn` command does what was wanted.

Source: https://redis.io/docs/latest/commands/?group=cluster
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from protocol import resp
from protocol.slots import SLOTS, key_slot
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.cluster_view import (
    View,
    host_and_port,
    info_reply,
    node_id,
    nodes_reply,
    shards_reply,
    slots_reply,
    view_of,
)
from server.core.commands.containers import container
from server.core.commands.shapes import show, word
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.records import versions
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.records.versions import DamagedRecord

if TYPE_CHECKING:
    from server.core.node import Node


def _viewer(reply: Callable[[View, bool], bytes], without_layout: Callable[[bool], bytes]) -> Handler:
    """The handler of a subcommand that answers out of the present view."""

    def handle(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
        view = view_of(node.state)
        return without_layout(sink.resp3) if view is None else reply(view, sink.resp3)

    return handle


def _no_ranges(resp3: bool) -> bytes:
    return resp.array([])


def _nodes(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER NODES; a node without a layout knows of itself alone."""
    view = view_of(node.state)
    if view is not None:
        return nodes_reply(view, sink.resp3)
    member = node.state.member
    host, port = host_and_port(member.address)
    return resp.verbatim(f"{node_id(member.id)} {host}:{port}@{port} myself,master - 0 0 0 connected\n", sink.resp3)


def _info(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return info_reply(view_of(node.state), sink.resp3)


def _myid(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return word(node_id(node.state.id))


def _keyslot(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(key_slot(args[2]))


def _live_keys(node: Node, slot: int) -> Iterator[bytes]:
    """The keys of a slot that this node stores and that are live, in the order in which they are stored."""
    state = node.state
    start, end, limit = SLOT_PREFIX[slot], SLOT_PREFIX[slot + 1], state.config.scan_page_keys
    while True:
        page = state.records.page(start, end, limit)
        for stored_at, record in page:
            key = stored_at[PREFIX_BYTES:]
            if not versions.verify(record):
                state.records.damaged += 1
                raise DamagedRecord(f"the stored record of key {key!r} fails its checksum")
            if versions.value_of(record, state.time_ms) is not None:
                yield key
        if len(page) < limit:
            return
        start = page[-1][0] + b"\0"


def _countkeysinslot(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER COUNTKEYSINSLOT slot: live keys that this node stores; reads them all, O(keys in the slot)."""
    slot = integer(args[2])
    if not 0 <= slot < SLOTS:
        raise CommandError("ERR Invalid slot")
    return resp.integer(sum(1 for _ in _live_keys(node, slot)))


def _getkeysinslot(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER GETKEYSINSLOT slot count: up to `count` live keys that this node stores."""
    slot, count = integer(args[2]), integer(args[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise CommandError("ERR Invalid slot or number of keys")
    found = [resp.bulk(key) for _, key in zip(range(count), _live_keys(node, slot), strict=False)]
    return resp.array(found)


def _replicas(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER REPLICAS node-id: none, for every node takes writes."""
    state = node.state
    members = state.layout.members if state.layout is not None else (state.member,)
    if args[2] not in [node_id(member.id).encode() for member in members]:
        raise CommandError(f"ERR Unknown node {show(args[2])}")
    return resp.array([])


_SEEN = "stale"
_PLAN = "who owns what follows from the layout: see `dyn cluster plan` and `dyn cluster commit`"
_INSTEAD = {
    "addslots": _PLAN,
    "addslotsrange": _PLAN,
    "bumpepoch": "the epoch rises with each `dyn cluster commit`",
    "delslots": _PLAN,
    "delslotsrange": _PLAN,
    "failover": "live owners take over by themselves; to take a node out of service use `dyn cluster leave`",
    "flushslots": _PLAN,
    "forget": "use `dyn cluster leave`, or `dyn cluster remove` for a node that is gone for good",
    "meet": "use `dyn cluster init` for fresh nodes, `dyn cluster join` for a node more",
    "replicate": "every node is a master; use `dyn cluster join` for a node more",
    "reset": "use `dyn cluster leave`",
    "saveconfig": "each layout is stored when `dyn cluster commit` makes it",
    "set-config-epoch": "the epoch rises with each `dyn cluster commit`",
    "setslot": _PLAN,
}


def _refusal(name: str, instead: str) -> CommandSpec:
    def handle(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
        raise CommandError(f"ERR CLUSTER {name.upper()} is not supported: {instead}")

    return CommandSpec(
        f"cluster|{name}", -2, IMMEDIATE, handle, f"Not supported: {instead}.", "cluster", "admin stale", since="3.0.0"
    )


_ANSWERED = (
    CommandSpec(
        "cluster|slots",
        2,
        IMMEDIATE,
        _viewer(slots_reply, _no_ranges),
        "Returns which node to send each slot to.",
        "cluster",
        _SEEN,
        since="3.0.0",
        complexity="O(N)",
    ),
    CommandSpec(
        "cluster|shards",
        2,
        IMMEDIATE,
        _viewer(shards_reply, _no_ranges),
        "Returns the slots that go to each node.",
        "cluster",
        _SEEN,
        since="7.0.0",
        complexity="O(N)",
    ),
    CommandSpec(
        "cluster|nodes",
        2,
        IMMEDIATE,
        _nodes,
        "Returns a line about each node.",
        "cluster",
        _SEEN,
        since="3.0.0",
        complexity="O(N)",
    ),
    CommandSpec(
        "cluster|info", 2, IMMEDIATE, _info, "Returns whether every slot is served.", "cluster", _SEEN, since="3.0.0"
    ),
    CommandSpec("cluster|myid", 2, IMMEDIATE, _myid, "Returns the id of this node.", "cluster", _SEEN, since="3.0.0"),
    CommandSpec(
        "cluster|keyslot",
        3,
        IMMEDIATE,
        _keyslot,
        "Returns the slot of a key.",
        "cluster",
        _SEEN,
        since="3.0.0",
        complexity="O(N)",
        arguments="key",
    ),
    CommandSpec(
        "cluster|countkeysinslot",
        3,
        IMMEDIATE,
        _countkeysinslot,
        "Returns how many keys of a slot this node stores.",
        "cluster",
        _SEEN,
        since="3.0.0",
        complexity="O(N)",
        arguments="slot",
    ),
    CommandSpec(
        "cluster|getkeysinslot",
        4,
        IMMEDIATE,
        _getkeysinslot,
        "Returns keys of a slot that this node stores.",
        "cluster",
        _SEEN,
        since="3.0.0",
        complexity="O(N)",
        arguments="slot count",
    ),
    CommandSpec(
        "cluster|replicas",
        3,
        IMMEDIATE,
        _replicas,
        "Returns nothing: every node is a master.",
        "cluster",
        "admin stale",
        since="5.0.0",
        arguments="node-id",
    ),
    CommandSpec(
        "cluster|slaves",
        3,
        IMMEDIATE,
        _replicas,
        "Returns nothing: every node is a master.",
        "cluster",
        "admin stale",
        since="3.0.0",
        arguments="node-id",
    ),
)
_REFUSED = tuple(_refusal(name, instead) for name, instead in _INSTEAD.items())

COMMANDS: tuple[CommandSpec, ...] = (
    container("cluster", "The cluster as its clients see it.", "cluster", _ANSWERED, since="3.0.0", refused=_REFUSED),
)
