"""CLUSTER: what cluster clients ask, so that they send each key to its coordinator.

Theory. The answers about topology are made in cluster_view.py. Operators change ownership with `dyn`, by plans that they
review before they commit them. So the subcommands by which Redis changes ownership are refused, with an error that names
the `dyn` command for the same purpose.

Source: https://redis.io/docs/latest/commands/?group=cluster
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from protocol import resp
from protocol.databases import client_key, inner_key, space_of
from protocol.slots import SLOTS, key_slot
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.cluster_view import (
    ClusterView,
    host_and_port,
    info_reply,
    link_reply,
    node_id,
    nodes_reply,
    shards_reply,
    slots_reply,
    tls_port_of,
    view_of,
)
from server.core.commands.containers import container
from server.core.commands.shapes import show, word
from server.core.commands.slices import next_turn
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.records import versions
from server.core.records.live_slots import is_uncounted
from server.core.records.paging import may_have_more
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.records.versions import DamagedRecord
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps


def _viewer(reply: Callable[[ClusterView, bool], bytes], without_layout: Callable[[bool], bytes]) -> Handler:
    """The handler of a subcommand that answers from the present view."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        view = view_of(services.state, _is_tls(sink))
        return without_layout(sink.resp3) if view is None else reply(view, sink.resp3)

    return handle


def _is_tls(sink: Sink) -> bool:
    """Whether the client is connected by TLS, and needs the ports where the nodes take it."""
    return isinstance(sink, Session) and sink.is_tls


def _no_ranges(resp3: bool) -> bytes:
    return resp.array([])


def _nodes(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER NODES. A node without a layout lists only itself."""
    view = view_of(services.state, _is_tls(sink))
    if view is not None:
        return nodes_reply(view, sink.resp3)
    member = services.state.member
    host, port = host_and_port(member.address)
    port = tls_port_of(services.state, member) if _is_tls(sink) else port
    return resp.verbatim(f"{node_id(member.id)} {host}:{port}@{port} myself,master - 0 0 0 connected\n", sink.resp3)


def _info(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return info_reply(view_of(services.state), sink.resp3)


def _myid(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return word(node_id(services.state.id))


def _keyslot(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(key_slot(inner_key(0, args[2])))


def _live_keys(services: Services, slot: int, limit: int) -> Generator[Step, Any, list[bytes]]:
    """Up to `limit` live keys of database 0 in a slot that this node stores, in the order in which they are stored."""
    state = services.state
    start, end, page_keys = SLOT_PREFIX[slot], SLOT_PREFIX[slot + 1], state.config.scan_page_keys
    found: list[bytes] = []
    space = state.numbering.spaces[0]
    while True:
        page = state.records.page(start, end, page_keys)
        for storage_key, record in page:
            key = storage_key[PREFIX_BYTES:]
            if not versions.verify(record):
                state.records.damaged += 1
                raise DamagedRecord(state.records.listeners.wrong_checksum(storage_key))
            if len(found) < limit and space_of(key) == space and versions.type_of(record, state.time_ms):
                found.append(client_key(key))
        if len(found) >= limit or not may_have_more(page, page_keys):
            return found
        start = page[-1][0] + b"\0"
        yield next_turn(services)


def _countkeysinslot(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """CLUSTER COUNTKEYSINSLOT slot: live keys that this node stores. Reads all of them if some of them expire."""
    slot = integer(args[2])
    if not 0 <= slot < SLOTS:
        raise CommandError("ERR Invalid slot")
    records = services.state.records
    keys, expiring = records.trees.keys_of(services.state.numbering.spaces[0], slot, slot + 1)
    if not expiring and not is_uncounted(records, slot, slot + 1):
        return resp.integer(keys)

    def steps() -> Steps:
        return resp.integer(len((yield from _live_keys(services, slot, 1 << 63))))

    services.run_steps(steps(), sink, number)
    return None


def _getkeysinslot(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """CLUSTER GETKEYSINSLOT slot count: up to `count` live keys that this node stores."""
    slot, count = integer(args[2]), integer(args[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise CommandError("ERR Invalid slot or number of keys")

    def steps() -> Steps:
        return resp.array([resp.bulk(key) for key in (yield from _live_keys(services, slot, count))])

    services.run_steps(steps(), sink, number)


def _links(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER LINKS: the open connections to other nodes and from them."""
    offset_ms, links = services.state.wall_offset_ms, services.process.peer_links.values()
    return resp.array([link_reply(link, offset_ms, sink.resp3) for link in links])


def _check_known(services: Services, wanted: bytes) -> None:
    state = services.state
    members = state.layout.members if state.layout is not None else (state.member,)
    if wanted not in [node_id(member.id).encode() for member in members]:
        raise CommandError(f"ERR Unknown node {show(wanted)}")


def _replicas(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER REPLICAS node-id: an empty list, since every node takes writes."""
    _check_known(services, args[2])
    return resp.array([])


def _count_failure_reports(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLUSTER COUNT-FAILURE-REPORTS node-id: 0, since a node judges only by what it has seen itself."""
    _check_known(services, args[2])
    return resp.integer(0)


_SEEN = "stale"
_VARIES = "nondeterministic_output"
_PLAN = "who owns what follows from the layout: see `dyn cluster plan` and `dyn cluster commit`"
_EPOCH = "the epoch rises with each `dyn cluster commit`"
# By subcommand that is refused: its arity, its arguments in Redis, and what to do instead.
_REFUSALS: dict[str, tuple[int, str, str]] = {
    "addslots": (-3, "slot [slot ...]", _PLAN),
    "addslotsrange": (-4, "start-slot end-slot [start-slot end-slot ...]", _PLAN),
    "bumpepoch": (2, "", _EPOCH),
    "delslots": (-3, "slot [slot ...]", _PLAN),
    "delslotsrange": (-4, "start-slot end-slot [start-slot end-slot ...]", _PLAN),
    "failover": (
        -2,
        "[FORCE|TAKEOVER]",
        "live owners take over by themselves; to take a node out of service use `dyn cluster leave`",
    ),
    "flushslots": (2, "", _PLAN),
    "forget": (3, "node-id", "use `dyn cluster leave`, or `dyn cluster remove` for a node that is gone for good"),
    "meet": (
        -4,
        "ip port [cluster_bus_port]",
        "use `dyn cluster init` for fresh nodes, `dyn cluster join` for a node more",
    ),
    "replicate": (3, "node-id", "every node is a master; use `dyn cluster join` for a node more"),
    "reset": (-2, "[HARD|SOFT]", "use `dyn cluster leave`"),
    "saveconfig": (2, "", "each layout is stored when `dyn cluster commit` makes it"),
    "set-config-epoch": (3, "config-epoch", _EPOCH),
    "setslot": (-4, "slot (IMPORTING node-id|MIGRATING node-id|NODE node-id|STABLE)", _PLAN),
}


def _refusal(name: str, arity: int, arguments: str, instead: str) -> CommandSpec:
    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        raise CommandError(f"ERR CLUSTER {name.upper()} is not supported: {instead}")

    return CommandSpec(
        f"cluster|{name}",
        arity,
        IMMEDIATE,
        handle,
        f"Not supported: {instead}.",
        "cluster",
        "admin noscript stale" if name == "reset" else "admin no_async_loading stale",
        since="7.0.0" if name.endswith("range") else "3.0.0",
        arguments=arguments,
        tips=_VARIES if name == "bumpepoch" else "",
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
        tips=_VARIES,
        deprecated=("7.0.0", "`CLUSTER SHARDS`"),
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
        tips=_VARIES,
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
        tips=_VARIES,
        since="3.0.0",
        complexity="O(N)",
    ),
    CommandSpec(
        "cluster|info",
        2,
        IMMEDIATE,
        _info,
        "Returns whether every slot is served.",
        "cluster",
        _SEEN,
        tips=_VARIES,
        since="3.0.0",
    ),
    CommandSpec("cluster|myid", 2, IMMEDIATE, _myid, "Returns the id of this node.", "cluster", _SEEN, since="3.0.0"),
    CommandSpec(
        "cluster|myshardid",
        2,
        IMMEDIATE,
        _myid,
        "Returns the id of this node's shard, which is the node itself.",
        "cluster",
        _SEEN,
        tips=_VARIES,
        since="7.2.0",
    ),
    CommandSpec(
        "cluster|links",
        2,
        IMMEDIATE,
        _links,
        "Returns the connections to other nodes and from them.",
        "cluster",
        _SEEN,
        tips=_VARIES,
        since="7.0.0",
        complexity="O(N)",
    ),
    CommandSpec(
        "cluster|count-failure-reports",
        3,
        IMMEDIATE,
        _count_failure_reports,
        "Returns how many nodes have reported a node: none does, each judges for itself.",
        "cluster",
        "admin stale",
        tips=_VARIES,
        since="3.0.0",
        arguments="node-id",
    ),
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
        tips=_VARIES,
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
        tips=_VARIES,
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
        tips=_VARIES,
        deprecated=("5.0.0", "`CLUSTER REPLICAS`"),
        since="3.0.0",
        arguments="node-id",
    ),
)
_REFUSED = tuple(_refusal(name, *facts) for name, facts in _REFUSALS.items())

COMMANDS: tuple[CommandSpec, ...] = (
    container("cluster", "The cluster as its clients see it.", "cluster", _ANSWERED, since="3.0.0", refused=_REFUSED),
)
