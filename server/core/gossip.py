"""Gossip: what a node sends to a peer once in a while, beside its liveness table.

Theory. The failure detector (liveness/) chooses the peers, about once a second. What every node should know sooner or
later travels with its tables: our clocks, which layout, users, functions and databases we know, and what operators have
staged. Each of these messages may be lost, because the next round brings it again.
"""

from __future__ import annotations

from server.core.base.room import FOR_WRITES
from server.core.base.state import State
from server.core.messages import announcements
from server.core.messages.announcements import Gossip
from server.core.messages.libraries import encode_libraries_view
from server.core.messages.numberings import encode_numbers_view
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
    view = services.membership.view()
    if view is not None:
        state.send(peer, announcements.encode_view(reading, view))
    if peer in state.knowing_users:
        state.send(peer, encode_users_view(reading, services.users.sharing.digest()))
    if peer in state.knowing_libraries:
        state.send(peer, encode_libraries_view(reading, services.functions.sharing.digest()))
    if peer in state.knowing_swaps:
        state.send(peer, encode_numbers_view(reading, services.numbering.sharing.digest()))
    staged = services.staging.document()
    if staged is not None:
        state.send(peer, announcements.encode_staged(reading, staged))


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
