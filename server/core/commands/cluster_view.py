"""The cluster as Redis Cluster clients see it: the node for each slot, as a pure function of a `ClusterView`.

Theory. Clients send a key to the node that CLUSTER SLOTS names for its slot. Naming the coordinator of its writes, the
first live owner, gives client-driven coordination (Dynamo, section 6.4) to unmodified clients. The other owners are
not shown as replicas: every node takes writes of every key, and redis-py keeps the first role it sees of a node. So
each slot is in the answer exactly once, and adjacent slots with the same node are one range.

A `ClusterView` holds exactly what the answers depend on. So it is the key under which the encoded answer is cached, until
the layout or liveness changes.

Source: https://redis.io/docs/latest/commands/cluster-slots/, cluster-shards and cluster-nodes
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from typing import NamedTuple

from protocol import resp
from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.commands.shapes import named, word
from server.core.liveness.liveness import PeerState
from server.core.ring.layout import Layout, Member
from server.core.services.process import PeerLink

_ID_DIGITS = 40
_VIEWS_KEPT = 16  # two protocols, and in a simulation several nodes in one process


class ClusterView(NamedTuple):
    """`targets[p]` is the id of the member that partition p's requests go to; `states` are in the members' order.

    So are `ports`, where a client by TLS finds them; for others it is empty, as their ports are those of the addresses.
    """

    layout: Layout
    self_id: str
    targets: tuple[str, ...]
    states: tuple[PeerState, ...]
    ports: tuple[int, ...] = ()


class SlotRange(NamedTuple):
    """Adjacent slots, both ends included, that go to one member."""

    first: int
    last: int
    target: str


def view_of(state: State, is_tls: bool = False) -> ClusterView | None:
    """The present view of a node, for a client by TLS or another one; None while it has no layout."""
    layout = state.layout
    if layout is None:
        return None
    targets = tuple([state.id if route.coordinator is None else route.coordinator for route in state.routes])
    ports = tuple([tls_port_of(state, member) for member in layout.members]) if is_tls else ()
    return ClusterView(
        layout, state.id, targets, tuple([state.liveness.state(member.id) for member in layout.members]), ports
    )


def tls_port_of(state: State, member: Member) -> int:
    """Where a client by TLS finds a member. One that has not told us is taken to have its ports as this node has."""
    here, there = (host_and_port(each.address)[1] for each in (state.member, member))
    ours = state.config.tls_port or here
    if member.id == state.id:
        return ours
    return state.tls_ports.get(member.id, 0) or there + ours - here


def _places(view: ClusterView) -> list[tuple[str, int]]:
    """Host and port of each member, in their order, as the client of this view finds them."""
    places = [host_and_port(member.address) for member in view.layout.members]
    return [(host, port) for (host, _), port in zip(places, view.ports, strict=True)] if view.ports else places


def node_id(member_id: str) -> str:
    """The forty hexadecimal digits by which Redis clients know a member: its id if that is such, else a hash of it."""
    if len(member_id) == _ID_DIGITS and all(digit in "0123456789abcdef" for digit in member_id):
        return member_id
    return sha1(member_id.encode()).hexdigest()


def host_and_port(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[host]:port"; the host without brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def slot_ranges(view: ClusterView) -> list[SlotRange]:
    """All slots, in order, each once."""
    ranges: list[SlotRange] = []
    for partition, target in enumerate(view.targets):
        first, last = view.layout.slot_range(partition)
        if ranges and ranges[-1].target == target:
            ranges[-1] = ranges[-1]._replace(last=last)
        else:
            ranges.append(SlotRange(first, last, target))
    return ranges


@lru_cache(maxsize=_VIEWS_KEPT)
def slots_reply(view: ClusterView, resp3: bool) -> bytes:
    """CLUSTER SLOTS: [first, last, [host, port, id, metadata]] for each range."""
    nodes = {}
    for member, (host, port) in zip(view.layout.members, _places(view), strict=True):
        fields = [word(host), resp.integer(port), word(node_id(member.id)), named({}, resp3)]
        nodes[member.id] = resp.array(fields)
    ranges = [
        resp.array([resp.integer(part.first), resp.integer(part.last), nodes[part.target]])
        for part in slot_ranges(view)
    ]
    return resp.array(ranges)


@lru_cache(maxsize=_VIEWS_KEPT)
def shards_reply(view: ClusterView, resp3: bool) -> bytes:
    """CLUSTER SHARDS: each member is a shard of one node, with the slots that go to it, perhaps none."""
    ends: dict[str, list[bytes]] = {member.id: [] for member in view.layout.members}
    for part in slot_ranges(view):
        ends[part.target] += (resp.integer(part.first), resp.integer(part.last))
    shards = []
    for member, state, place in zip(view.layout.members, view.states, _places(view), strict=True):
        nodes = resp.array([_shard_node(member, state, place, bool(view.ports), resp3)])
        shards.append(named({"slots": resp.array(ends[member.id]), "nodes": nodes}, resp3))
    return resp.array(shards)


def _shard_node(member: Member, state: PeerState, place: tuple[str, int], is_tls: bool, resp3: bool) -> bytes:
    host, port = place
    fields: dict[resp.Value, resp.Value] = {
        "id": node_id(member.id),
        "tls-port" if is_tls else "port": port,
        "ip": host,
        "endpoint": host,
        "role": "master",
        "replication-offset": 0,
        "health": "failed" if state is PeerState.DOWN else "online",
    }
    return resp.encode(fields, resp3)


_FLAGS = {PeerState.UP: "master", PeerState.SUSPECT: "master,fail?", PeerState.DOWN: "master,fail"}


@lru_cache(maxsize=_VIEWS_KEPT)
def nodes_reply(view: ClusterView, resp3: bool) -> bytes:
    """CLUSTER NODES: a line for each member. Nodes talk to each other on the clients' port, so that is the bus port."""
    ranges: dict[str, list[str]] = {member.id: [] for member in view.layout.members}
    for part in slot_ranges(view):
        ranges[part.target].append(f"{part.first}-{part.last}" if part.first != part.last else str(part.first))
    lines = []
    for member, state, (host, port) in zip(view.layout.members, view.states, _places(view), strict=True):
        flags = ("myself," if member.id == view.self_id else "") + _FLAGS[state]
        link = "disconnected" if state is PeerState.DOWN else "connected"
        line = [node_id(member.id), f"{host}:{port}@{port}", flags, "-", "0", "0", str(view.layout.epoch), link]
        lines.append(" ".join(line + ranges[member.id]) + "\n")
    return resp.verbatim("".join(lines), resp3)


def link_reply(link: PeerLink, wall_offset_ms: int, resp3: bool) -> bytes:
    """An element of CLUSTER LINKS; `created_ms` plus `wall_offset_ms` is the time since 1970."""
    unsent_bytes = link.unsent_bytes()
    fields: dict[resp.Value, resp.Value] = {
        "direction": link.direction,
        "node": node_id(link.peer),
        "create-time": link.created_ms + wall_offset_ms,
        "events": "rw" if unsent_bytes else "r",
        "send-buffer-allocated": unsent_bytes,
        "send-buffer-used": unsent_bytes,
    }
    return resp.encode(fields, resp3)


def info_reply(view: ClusterView | None, resp3: bool) -> bytes:
    """CLUSTER INFO: the state is "ok" while every slot has the live owners that its quorums need."""
    served = dict.fromkeys(("ok", "pfail", "fail"), 0)
    if view is not None:
        served |= _served(view)
    assigned = SLOTS if view is not None else 0
    epoch = view.layout.epoch if view is not None else 0
    fields = {
        "cluster_state": "ok" if assigned and served["ok"] == assigned else "fail",
        "cluster_slots_assigned": assigned,
        "cluster_slots_ok": served["ok"],
        "cluster_slots_pfail": served["pfail"],
        "cluster_slots_fail": served["fail"],
        "cluster_known_nodes": len(view.layout.members) if view is not None else 1,
        "cluster_size": len(dict.fromkeys(view.targets)) if view is not None else 0,
        "cluster_current_epoch": epoch,
        "cluster_my_epoch": epoch,
    }
    return resp.verbatim("".join([f"{name}:{value}\r\n" for name, value in fields.items()]), resp3)


def _served(view: ClusterView) -> dict[str, int]:
    """How many slots have enough owners that are up (ok), enough that are not down (pfail), or neither (fail)."""
    layout = view.layout
    quorum = max(layout.effective_r, layout.effective_w)
    state_of = {member.id: state for member, state in zip(layout.members, view.states, strict=True)}
    served = {"ok": 0, "pfail": 0, "fail": 0}
    for partition in range(layout.partitions):
        states = [state_of[owner] for owner in layout.readers(partition)]
        up, wanted = states.count(PeerState.UP), min(quorum, len(states))
        verdict = "ok" if up >= wanted else "pfail" if up + states.count(PeerState.SUSPECT) >= wanted else "fail"
        served[verdict] += SLOTS // layout.partitions
    return served
