"""Counters of one node since it started; read by INFO and DYN.STATS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Counts of events since the start. The names are those that INFO and DYN.STATS show."""

    turns: int = 0
    messages: int = 0  # from other nodes
    unneeded_answers: int = 0  # answers of replicas to groups that had their quorum already
    commands: int = 0
    connections: int = 0
    rejected_connections: int = 0
    http_refused: int = 0  # connections closed because they spoke HTTP
    reads: int = 0
    reads_answered: int = 0  # read groups of other coordinators
    read_differences: int = 0  # keys for which a replica had another record than this coordinator
    writes: int = 0
    relays: int = 0
    relays_retried: int = 0
    relays_stale: int = 0
    stored: int = 0  # records stored for other coordinators
    no_quorum: int = 0
    timeouts: int = 0
    busy: int = 0
    internal_errors: int = 0  # commands with an unexpected exception (unexpected.py)
    messages_undigested: int = 0  # messages of peers with an unexpected exception; they were refused
    procedure_errors: int = 0  # expected errors that ended a background procedure, which then began again
    housekeeping_errors: int = 0  # OSErrors while the node looked at its disk or its own process
    damaged_frames: int = 0
    clock_complaints: int = 0  # messages of other nodes that refuse our clock's readings
    read_repairs: int = 0  # records sent to owners, or stored here, because of a difference that a read has found
    hints_kept: int = 0
    hints_delivered: int = 0
    hints_refused: int = 0  # hints for which there was no room
    hints_expired: int = 0
    trees_compared: int = 0  # complete comparisons with another node, of all partitions that both own
    keys_repaired: int = 0  # records changed on either side by a repair that this node began
    repair_bytes_sent: int = 0  # bytes sent by either side in a repair that this node began
    tombstones_collected: int = 0  # keys, counted by the node that led the collection
    expired_collected: int = 0
    clocks_pruned: int = 0
    collections_refused: int = 0  # keys that some member refused to collect, or could not be asked about; tried again
    late_refused: int = 0  # messages with records from before a fence (collection/late.py)
    records_evicted: int = 0  # records removed by cleanup, after all their owners had confirmed them
    records_scrubbed: int = 0
    scrubs: int = 0  # complete passes over all records
    records_mended: int = 0
    records_lost: int = 0  # records damaged here of which no other node has a sound copy
