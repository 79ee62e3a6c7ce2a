"""Gossip: what a node sends to a peer once in a while, beside its liveness table.

Theory. The failure detector (liveness/) chooses the peers, about once a second. What every node should know sooner or
later travels with its tables: our clocks, which layout, users and functions we know, and what operators have staged.
Each of these messages may be lost, because the next round brings it again.
"""

from __future__ import annotations

from protocol.peer_versions import LATENESS
from server.core.base.room import FOR_WRITES
from server.core.base.state import State
from server.core.messages import announcements
from server.core.messages.announcements import Gossip, Late, encode_late
from server.core.messages.libraries import encode_libraries_view
from server.core.messages.users import encode_users_view
from server.core.services.services import Services


def send_gossip(services: Services, peer: str, wants_answer: bool) -> None:
    """Sends `peer` our liveness table, clock, view and staged changes; `wants_answer` asks for the same."""
    state = services.state
    epoch = state.layout.epoch if state.layout is not None else 0
    reading, table = state.clock_reading(), state.liveness.table(peer)
    state.send(peer, announcements.encode_clock(reading, state.now_ms))
    state.send(peer, announcements.encode_time(reading, state.now_ms))
    services.clock_report.complain(peer)
    state.send(peer, announcements.encode_gossip(reading, wants_answer, epoch, table))
    send_late(services, peer)
    view = services.membership.view()
    if view is not None:
        state.send(peer, announcements.encode_view(reading, view))
    if peer in state.knowing_users:
        state.send(peer, encode_users_view(reading, services.users.sharing.digest()))
    if peer in state.knowing_libraries:
        state.send(peer, encode_libraries_view(reading, services.functions.sharing.digest()))
    staged = services.staging.document()
    if staged is not None:
        state.send(peer, announcements.encode_staged(reading, staged))


def send_late(services: Services, peer: str) -> None:
    """Tells `peer` how late messages reach us, and whether that is too late to coordinate (liveness/lateness.py)."""
    state, lateness = services.state, services.relays.lateness
    if peer in state.capable[LATENESS]:
        state.send(peer, encode_late(state.clock_reading(), lateness.own_ms(state.now_ms), lateness.is_late))


def judge_lateness(services: Services) -> None:
    """With each tick: if this node has become too late to coordinate, or is so no more, all nodes learn it at once."""
    state, lateness = services.state, services.relays.lateness
    if lateness.judge(state.now_ms):
        set_late(state, state.id, lateness.is_late)
        for member in state.layout.members if state.layout is not None else ():
            if member.id in state.links:
                send_late(services, member.id)


def note_late(services: Services, peer: str, told: Late) -> None:
    """Handles LATE."""
    services.relays.lateness.told(peer, told.lateness_ms, services.state.now_ms)
    set_late(services.state, peer, told.is_late)


def set_late(state: State, node: str, is_late: bool) -> None:
    """Notes whether `node`, which may be this one, is too late to coordinate."""
    if is_late is (node in state.late):
        return
    if is_late:
        state.late[node] = None
    else:
        del state.late[node]
    state.reroute()


def merge_gossip(services: Services, peer: str, gossip: Gossip) -> None:
    """Handles GOSSIP: merges the table of `peer`, and answers with ours if it wants that."""
    state = services.state
    state.liveness.merge(gossip.table, peer, state.now_ms)
    if gossip.wants_answer and peer in state.links:
        send_gossip(services, peer, False)


def answer_time(state: State, peer: str, asked_ms: int) -> None:
    """Handles TIME: answers with our wall clock, and with cluster time if we are sure of it."""
    time_ms = state.time_ms if state.cluster_time.is_sure else None
    state.send(peer, announcements.encode_timed(state.clock_reading(), asked_ms, state.wall_ms, time_ms))


def note_room(state: State, peer: str, room: int) -> None:
    """Handles FULL: notes what the disk of `peer` has room for."""
    if room != FOR_WRITES:
        state.full[peer] = room
    else:
        state.full.pop(peer, None)
    state.reroute()
