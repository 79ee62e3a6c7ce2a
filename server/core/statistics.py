"""Counters of one node since it started; read by INFO and DYN.STATS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Plain counts, each of events since the start."""

    turns: int = 0
    messages: int = 0  # from other nodes
    commands: int = 0
    connections: int = 0
    rejected_connections: int = 0
    reads: int = 0
    read_differences: int = 0  # keys for which a replica answered another record than ours
    writes: int = 0
    relays: int = 0
    relays_retried: int = 0
    relays_stale: int = 0
    stored: int = 0  # records taken from other coordinators
    no_quorum: int = 0
    timeouts: int = 0
    busy: int = 0
    damaged_frames: int = 0
    read_repairs: int = 0  # records sent to owners, or taken, because a read has found them different
    hints_kept: int = 0
    hints_delivered: int = 0
    hints_refused: int = 0  # for lack of room
    hints_expired: int = 0
    trees_compared: int = 0  # comparisons with another node of all that both own, to the end
    keys_repaired: int = 0  # records that repair begun here has changed, on either side
    repair_bytes_sent: int = 0  # by both sides, in repair begun here
