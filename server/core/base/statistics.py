"""Counters of one node since it started; read by INFO and DYN.STATS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Plain counts, each of events since the start."""

    turns: int = 0
    messages: int = 0  # from other nodes
    unneeded_answers: int = 0  # of replicas, to groups of reads or writes that had their quorum
    commands: int = 0
    connections: int = 0
    rejected_connections: int = 0
    http_refused: int = 0  # connections closed because they spoke HTTP
    reads: int = 0
    reads_answered: int = 0  # groups of reads of other coordinators
    read_differences: int = 0  # keys for which a replica answered another record than ours
    writes: int = 0
    relays: int = 0
    relays_retried: int = 0
    relays_stale: int = 0
    stored: int = 0  # records taken from other coordinators
    no_quorum: int = 0
    timeouts: int = 0
    busy: int = 0
    internal_errors: int = 0  # commands that met what no code expected, see unexpected.py
    messages_undigested: int = 0  # messages of peers that did, and were refused
    procedure_errors: int = 0  # background procedures that met an expected error, and begin again
    housekeeping_errors: int = 0  # OSErrors of looking at the disk and at this process
    damaged_frames: int = 0
    clock_complaints: int = 0  # other nodes have told us that they refuse our clock
    read_repairs: int = 0  # records sent to owners, or taken, because a read has found them different
    hints_kept: int = 0
    hints_delivered: int = 0
    hints_refused: int = 0  # for lack of room
    hints_expired: int = 0
    trees_compared: int = 0  # comparisons with another node of all that both own, to the end
    keys_repaired: int = 0  # records that repair begun here has changed, on either side
    repair_bytes_sent: int = 0  # by both sides, in repair begun here
    tombstones_collected: int = 0  # keys, counted where the collection was led
    expired_collected: int = 0
    clocks_pruned: int = 0
    collections_refused: int = 0  # keys for which some member said no, or could not be asked; they are tried again
    late_refused: int = 0  # messages with records that came from behind a fence
    records_evicted: int = 0  # removed here once all their keepers had confirmed them
    records_scrubbed: int = 0
    scrubs: int = 0  # whole passes over all records
    records_mended: int = 0
    records_lost: int = 0  # damaged here, and nobody else had a sound copy
