"""Detects that the data directory of a node was set back to an older copy.

The problem. If the directory of a node is replaced by a copy of yesterday, its store has records that the cluster has
since deleted, and whose tombstones it has since collected. As one of their owners the node would bring all of them back.
The node cannot know that by itself. The other members can.

The idea.
- An *incarnation* is one process on a store; its number is the wall clock at the start of that process. The store
  remembers the incarnations that have written to it, and for each one its *mark*: the number of a turn that it had
  reached. The mark is written with the batch of a turn, at most once a second, and only if records changed.
- A mark counts once its turn is synced. Then the node sends it to the other members (MARK), which remember the last one.
  So neither a crash nor a loss of power can set a node back behind a mark that a member knows. Only an older copy can.
- A node that opens a link sends the incarnations that its store remembers. A member that knows a later mark refuses the
  link:

    the incarnations of the store                              the link
    the member knows no mark of that node                      accepted
    include that of the known mark, as far or further          accepted
    are all unknown to the member: another store, a wiped one  accepted; the mark is void
    are as many as a store remembers, all later than the mark  accepted: the store may have forgotten that incarnation
    else                                                       refused: the store was set back

A copy that has run by itself for a while has incarnations of its own, and still lacks that of the known mark.

A node that is refused, and finds that its store does lack the mark, serves no clients. If all other members are up and
accept each other for `HOLD_MS`, the node is treated as one whose disk was wiped: the process sets the store aside and
begins an empty one under a new actor, and the other owners fill it. While another member is missing the node waits,
because its store may be one of the last two that hold some record.

If several members were set back, or the member that would refuse was set back itself, the cluster was restored from
copies of different moments. Once these nodes know it, all are accepted as they are: deleted records that return are the
smaller harm.

A change in the second before a copy is put in place may go undetected. No tombstone can have been collected by then, as
collection.py waits longer than that (5 s by default). `SENT_MAX` members get a mark in one tick, so in a large cluster they
get marks in turn. With 1,000 members each hears of every third or fourth mark, and the second is up to four.

On the wire and on disk the incarnations are called lives (LIVES, `lives`), as in earlier versions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from server.core.base.errors import has_gone_back
from server.core.base.room import FOR_NOTHING
from server.core.base.state import SET_BACK, State
from server.core.messages.announcements import encode_mark

MARK_MS = 1000  # from one mark of this store to the next
SAVE_MS = 5000  # from one write of the marks of other members to the next
OWN_MAX = 16  # incarnations that a store remembers of itself; their word has 512 bytes at most, as all versions want
THEIRS_MAX = 32  # incarnations that are read from an introduction: earlier versions remembered so many
KNOWN_MAX = 64  # incarnations that a node remembers of each peer
PENDING_MAX = 8  # marks that are not known to be synced
SENT_MAX = 32  # peers that get a mark in one tick
HOLD_MS = 6000  # all others are up for so long before a store is set aside: a failure is detected by then
SEEN_MS = 10_000  # a refused peer counts as refused for so long after it was last seen
SHOWN_MS = 86_400_000  # the status says for so long that a store was set aside
SETBACK = "SETBACK"
LIVES = b"LIVES"  # precedes the incarnations in an introduction
_OWN_MARKS, _PEERS, _ASIDE = b"lives", b"peers_lives", b"set_aside"
_BEFORE = (0, 0)  # stands for all incarnations of a store that earlier versions wrote: they noted none

Mark = tuple[int, int]  # incarnation, turn


class _Known:
    """What this node remembers of a peer: its last mark, and the incarnations of its stores."""

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.incarnations: dict[int, None] = {}

    def add(self, incarnations: Sequence[int]) -> None:
        """Remembers these incarnations as the latest, and forgets the oldest beyond `KNOWN_MAX`."""
        for incarnation in incarnations:
            self.incarnations.pop(incarnation, None)
            self.incarnations[incarnation] = None
        for incarnation in list(self.incarnations)[:-KNOWN_MAX]:
            del self.incarnations[incarnation]

    def covers(self, turns: dict[int, int]) -> bool:
        """Whether a store with these marks (incarnation -> turn) was not set back: see the table of the module."""
        if self.mark is None or turns.get(self.mark[0], -1) >= self.mark[1]:
            return True
        return len(turns) >= OWN_MAX and min(turns) > self.mark[0]


class RollbackDetector:
    """Writes and sends the marks of this node's store, and judges the stores of other members."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._is_closed = False
        records = state.records
        self._past = _decode_marks(records.document(_OWN_MARKS))
        if not self._past and (records.keys or records.document(b"layout") is not None):
            self._past = [_BEFORE]
        self._incarnation = max([state.incarnation, *[past + 1 for past, _ in self._past if past >= state.incarnation]])
        self._pending: list[int] = []  # turns whose marks are not known to be synced
        self._durable = 0  # the turn of the last synced mark of this incarnation
        self._changes = 0  # `records.record_batches` at the last mark
        self._marked_ms = -MARK_MS
        self._unsent: dict[str, None] = {}  # members to which the durable mark has not been sent yet, in turn
        self._peers = _decode_peers(records.document(_PEERS))
        self._has_unsaved_peers = False
        self._saved_ms = 0
        self._refused_ms: dict[str, int] = {}  # by peer whose store was set back: when it was last seen
        self.accepted: dict[str, None] = {}  # peers whose store was set back and that were accepted all the same
        self.refusers: dict[str, str] = {}  # by member that refuses us because our store was set back: its error text
        self._alone_ms = 0  # since when all refusals have said that no other member is missing
        self._has_gone_back = False  # this store was set back, and with it what it remembers of other members
        self._aside = _decode_aside(records.document(_ASIDE))

    # --- our own store

    def introduction(self) -> tuple[bytes, ...]:
        """Returns the incarnations of this store for the introduction on a link; earlier versions ignore them."""
        marks = [*self._past, (self._incarnation, self._durable)] if self._durable else self._past
        return (LIVES, b",".join(b"%d:%d" % mark for mark in marks[-OWN_MAX:]))

    def tick(self, now_ms: int) -> None:
        """Writes marks and sends them when they are due, and stops to serve clients while members refuse this store."""
        state = self._state
        synced = [turn for turn in self._pending if turn <= state.synced_turn]
        if synced:
            self._durable = max(synced)
            self._pending = [turn for turn in self._pending if turn > self._durable]
            members = state.layout.members if state.layout is not None else ()
            self._unsent.update(
                dict.fromkeys([member.id for member in members])
            )  # who has not got the last one is first
        for peer in list(self._unsent)[:SENT_MAX]:
            del self._unsent[peer]
            self._send_mark(peer)
        if state.room != FOR_NOTHING:
            if now_ms - self._marked_ms >= MARK_MS and state.records.record_batches != self._changes:
                self._mark(now_ms)
            if self._has_unsaved_peers and now_ms - self._saved_ms >= SAVE_MS:
                self._save_peers(now_ms)
        closes = bool(self.refusers) and not self._state.rebuild_reason
        if closes and not self._is_closed:
            self._state.refuse_clients(has_gone_back(state.member.name))
        elif self._is_closed and not closes:
            self._state.serve_clients()
        self._is_closed = closes

    def _mark(self, now_ms: int) -> None:
        state = self._state
        marks = [*self._past, (self._incarnation, state.turn)][-OWN_MAX:]
        state.records.put_document(_OWN_MARKS, json.dumps(marks, separators=(",", ":")).encode())
        self._pending = [*self._pending, state.turn][-PENDING_MAX:]
        self._changes = state.records.record_batches
        self._marked_ms = now_ms

    def _send_mark(self, peer: str) -> None:
        if self._durable and peer in self._state.links:
            reading = self._state.clock_reading()
            self._state.send(peer, encode_mark(reading, self._durable, self._incarnation))

    def connected(self, peer: str) -> None:
        """A member has accepted our link: sends it our last durable mark."""
        self.refusers.pop(peer, None)
        self._send_mark(peer)

    def refusal_received(self, peer: str, text: str) -> None:
        """Handles the error text with which `peer` says that this store was set back, if the store does lack that mark.

        The text is SETBACK incarnation turn others …; `others` counts the other members that `peer` cannot reach.
        """
        words = text.split()[1:4]
        if len(words) < 3 or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
            return
        incarnation, turn, others = map(int, words)
        if dict(self._past).get(incarnation, self._state.turn if incarnation == self._incarnation else -1) >= turn:
            return
        now_ms = self._state.now_ms
        if others or not self.refusers:
            self._alone_ms = now_ms
        self.refusers[peer] = text
        self._has_gone_back = True
        if now_ms - self._alone_ms >= HOLD_MS:
            self._state.rebuild_reason = SET_BACK

    def set_aside(self, name: str) -> None:
        """Notes that this store is new: the one before was set aside, and lies in a directory of that name."""
        self._aside = (name, self._state.wall_ms)
        self._state.records.put_document(_ASIDE, json.dumps(self._aside).encode())

    def aside(self) -> str:
        """Returns the name of the store that was set aside within `SHOWN_MS`; empty if none was."""
        name, since_ms = self._aside
        return name if self._state.wall_ms - since_ms < SHOWN_MS else ""

    # --- other members

    def mark_received(self, peer: str, turn: int, incarnation: int) -> None:
        """Handles MARK: `peer` has synced everything up to that turn of that incarnation."""
        known = self._peers.setdefault(peer, _Known())
        known.mark = (incarnation, turn)
        known.add([incarnation])
        self._has_unsaved_peers = True

    def refusal(self, peer: str, words: Sequence[bytes]) -> str:
        """Returns the error text for a member that introduces itself with these words; empty if its link is accepted."""
        turns = _turns_in(words)
        if turns is None or peer not in self._state.members:
            return ""
        known = self._peers.setdefault(peer, _Known())
        if not known.covers(turns):
            if any(incarnation in known.incarnations for incarnation in turns):
                return self._refuse(peer, known, turns)
            known.mark = None
        known.add(list(turns))
        self._refused_ms.pop(peer, None)
        return ""

    def _refuse(self, peer: str, known: _Known, turns: dict[int, int]) -> str:
        state = self._state
        assert known.mark is not None and state.layout is not None
        knows_it = peer in self.refused()
        self._refused_ms[peer] = state.now_ms
        refused = self.refused()
        if knows_it and (len(refused) > 1 or self._has_gone_back):
            for node in refused:
                self.accepted[node] = None
                self._peers[node] = _Known()
            known.add(list(turns))
            self._refused_ms.clear()
            self._has_unsaved_peers = True
            return ""
        others = [member.id for member in state.layout.members if member.id not in (peer, state.id)]
        missing = sum(not state.is_usable(node) for node in others)
        incarnation, turn = known.mark
        return (
            f"{SETBACK} {incarnation} {turn} {missing} the directory of node {state.layout_name(peer)} is an older copy: "
            "the cluster may have forgotten since what was deleted"
        )

    def refused(self) -> list[str]:
        """Returns the members whose store was set back and that were refused within `SEEN_MS`."""
        return [node for node, seen_ms in self._refused_ms.items() if self._state.now_ms - seen_ms < SEEN_MS]

    def _save_peers(self, now_ms: int) -> None:
        members = self._state.members
        self._peers = {peer: known for peer, known in self._peers.items() if peer in members}
        document = {peer: [known.mark, list(known.incarnations)] for peer, known in self._peers.items()}
        self._state.records.put_document(_PEERS, json.dumps(document, separators=(",", ":")).encode())
        self._has_unsaved_peers = False
        self._saved_ms = now_ms


def _turns_in(words: Sequence[bytes]) -> dict[int, int] | None:
    """Returns the marks in an introduction, incarnation -> turn; None if an earlier version has sent it without them."""
    if LIVES not in words[:-1]:
        return None
    turns: dict[int, int] = {}
    for part in words[list(words).index(LIVES) + 1].split(b",")[:THEIRS_MAX]:
        incarnation, _, turn = part.partition(b":")
        if incarnation.isdigit() and turn.isdigit() and len(part) < 40:
            turns[int(incarnation)] = int(turn)
    return turns


def _decode_marks(document: bytes | None) -> list[Mark]:
    """Returns the marks that the store remembers. A damaged document counts as one incarnation that no member knows."""
    try:
        return [(int(incarnation), int(turn)) for incarnation, turn in json.loads(document or b"[]")]
    except (ValueError, TypeError):
        return [_BEFORE]


def _decode_peers(document: bytes | None) -> dict[str, _Known]:
    """Returns what the store remembers of the other members; nothing if the document is damaged."""
    peers: dict[str, _Known] = {}
    try:
        for peer, (mark, incarnations) in json.loads(document or b"{}").items():
            known = peers[peer] = _Known()
            known.mark = (int(mark[0]), int(mark[1])) if mark else None
            known.add([int(incarnation) for incarnation in incarnations])
    except (ValueError, TypeError, LookupError, AttributeError):
        return {}
    return peers


def _decode_aside(document: bytes | None) -> tuple[str, int]:
    try:
        name, since_ms = json.loads(document or b'["", 0]')
        return str(name), int(since_ms)
    except (ValueError, TypeError):
        return "", 0
