"""Counters of one node since it started; read by INFO and DYN.STATS.

A counter never goes back: `turns` numbers the turns, and other parts compare what a counter was with what it is. CONFIG
RESETSTAT notes the present counts instead, and what is shown is what has come since.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Final

ERROR_CODES_MAX: Final = 128  # as in Redis
CODE_BYTES_MAX: Final = 64
_NO_CODE = re.compile("[^A-Za-z0-9_.-]")  # would break a line of INFO


@dataclass(slots=True)
class Statistics:
    """Counts of events since the start. The names are those that INFO and DYN.STATS show."""

    turns: int = 0
    messages: int = 0  # from other nodes
    unneeded_answers: int = 0  # answers of replicas to groups that had their quorum already
    commands: int = 0
    keyspace_hits: int = (
        0  # keys that commands have looked up to read, and found; at the node that coordinates the read
    )
    keyspace_misses: int = 0  # the same, not found
    error_replies: int = 0  # to clients
    net_input_bytes: int = 0  # from and to clients
    net_output_bytes: int = 0
    connections: int = 0
    rejected_connections: int = 0
    peers_without_proof: int = 0  # connections of nodes refused because they did not prove the cluster's secret
    peers_with_wrong_proof: int = 0  # the same, because they proved another one, or repeated a recorded handshake
    peers_refused: int = (
        0  # introductions refused for another reason: an unknown or copied id, another cluster or version
    )
    handshakes_dropped: int = 0  # handshakes that did not end in time, or were too many (handshakes_max)
    blocks_forged: int = 0  # connections of nodes closed because of a block that no node of this session has sent
    denied_connections: int = 0  # clients from elsewhere, closed by protected mode
    tls_refused: int = 0  # connections that spoke TLS where it is not taken, or did not where only that is
    tls_handshakes_failed: int = 0
    http_refused: int = 0  # connections closed because they spoke HTTP
    logins_refused: int = 0
    commands_refused: int = 0  # by the rules of their users (commands/permissions.py)
    publications_dropped: int = 0  # published messages that were not sent to a node, because it is behind
    subscribers_cut: int = 0  # connections closed because they did not read what was pushed (shell/push_limits.py)
    reads: int = 0
    reads_answered: int = 0  # read groups of other coordinators
    read_differences: int = 0  # keys for which a replica had another record than this coordinator
    reads_hedged: int = 0  # reads for which a further owner was asked, because an answer was late
    hedges_refused: int = 0  # reads for which that had to wait, because of the budget (requests/hedging.py)
    writes: int = 0
    relays: int = 0
    relays_retried: int = 0
    coordinators_given_up: int = 0  # nodes that were silent before `relay_silence_ms` was over (requests/silences.py)
    relays_stale: int = 0
    stored: int = 0  # records stored for other coordinators
    patches_sent: int = 0  # records of which only what has changed was sent to an owner
    patch_bytes_sent: int = 0
    patches_unfit: int = 0  # patches that an owner could not use; it got the records whole
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
    sums_folded: int = 0  # keys with sums of actors that are gone, which are one sum now (records/folds.py)
    collections_refused: int = 0  # keys that some member refused to collect, or could not be asked about; tried again
    late_refused: int = 0  # messages with records from before a fence (collection/late.py)
    records_evicted: int = 0  # records removed by cleanup, after all their owners had confirmed them
    records_scrubbed: int = 0
    scrubs: int = 0  # complete passes over all records
    elements_put_back: int = 0  # elements, or groups of them, that were popped for clients that have not got them
    records_mended: int = 0
    records_lost: int = 0  # records damaged here of which no other node has a sound copy
    reset: dict[str, int] = field(default_factory=dict)  # the counts at the last CONFIG RESETSTAT
    errors_by_code: dict[str, int] = field(default_factory=dict)  # error replies since then, by their first word

    def begin_anew(self) -> None:
        """From now on `shown` counts from zero."""
        self.reset = self._counts()
        self.errors_by_code.clear()

    def count_lookup(self, is_missing: bool) -> None:
        """HOT. A command has looked up a key to read it."""
        if is_missing:
            self.keyspace_misses += 1
        else:
            self.keyspace_hits += 1

    def count_error(self, reply: bytes) -> None:
        """A client gets this error. A script may make up codes, so only the first `ERROR_CODES_MAX` are told apart."""
        self.error_replies += 1
        word = reply[1:CODE_BYTES_MAX].split(maxsplit=1)
        code = _NO_CODE.sub("_", word[0].decode("latin-1")) if word else "ERR"
        counts = self.errors_by_code
        if code not in counts and len(counts) >= ERROR_CODES_MAX:
            code = "OTHER"
        counts[code] = counts.get(code, 0) + 1

    def shown(self) -> dict[str, int]:
        """The counts by name since the start, or since the last CONFIG RESETSTAT."""
        return {name: count - self.reset.get(name, 0) for name, count in self._counts().items()}

    def _counts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in counter_names()}


def counter_names() -> list[str]:
    """The names of all counters."""
    return [each.name for each in fields(Statistics) if each.type in ("int", int)]
