"""Lives: how far each node had got, so that a directory that was set back to an older copy is found out (P2, P7).

Theory. A node whose directory is replaced by a copy of yesterday holds records that the cluster has since deleted, and
agreed to forget. As one of the owners it would bring all of them back. It cannot know that by itself; the others can.

- A *life* is one process on a store, named by its incarnation. Its store remembers the lives that have written there, and
  for each the turn that it had come to, its *mark*: written with a turn's batch, at most once a second, if records changed.
- A mark counts once that turn is synced. Then the node tells it to the other members, who remember the last one. So no
  crash and no loss of power can take a node back behind a mark that anybody knows: only an older copy can.
- Who connects tells the lives that its store remembers. A member that knows a later mark refuses it:

    the store's lives                                          verdict
    no mark of that node is known here                         taken
    have the life of the known mark, as far or further         taken
    are all unknown here: another store, a wiped one           taken; the mark is void
    are as many as a store remembers, all of them later        taken: it may have forgotten that one
    else                                                       refused: it has gone back

A copy that ran for a while by itself has lives of its own by then, and still lacks the one that is known. A node that is
refused, and finds that its store lacks that mark indeed, serves no clients. If all other members are up and see nothing
wrong with each other for `HOLD_MS`, it is treated as one whose disk was wiped: the process sets the store aside and begins
an empty one, under a new actor, which the others fill. While another member is missing it waits, for it may be one of the
last two that hold some record.

If several members have gone back, or who would refuse one has gone back itself, the cluster was restored from copies that
are not of one moment: once they have been told, all are taken as they are, for records that come back are the smaller harm.

What is changed in the second before a copy is put in place may not be noticed; no deletion can have been forgotten by then
(collection.py waits for longer).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from server.core.base.errors import has_gone_back
from server.core.base.room import FOR_NOTHING
from server.core.base.state import SET_BACK, State

MARK_MS = 1000  # a mark is written at most once in so long
SAVE_MS = 5000  # those of the other members are
LIVES_MAX = 32  # that a store remembers
KNOWN_MAX = 64  # lives of a peer that are remembered here
PENDING_MAX = 8  # marks that are not known to be synced
TELL_MAX = 32  # peers that are told a mark in one tick
HOLD_MS = 6000  # nobody else may be missing for so long before a store is set aside: a failure is noticed by then
SEEN_MS = 10_000  # for so long a refused peer counts as refused after it was last seen
SHOWN_MS = 86_400_000  # for so long the status tells that a store was set aside
SETBACK = "SETBACK"
LIVES = b"LIVES"  # precedes the lives in an introduction
_LIVES, _PEERS, _ASIDE = b"lives", b"peers_lives", b"set_aside"
_BEFORE = (0, 0)  # stands for all lives of a store that was written before lives were

Life = tuple[int, int]  # incarnation, turn


class _Known:
    """What is remembered of a peer: its last mark, and all lives that were heard of."""

    def __init__(self) -> None:
        self.mark: Life | None = None
        self.lives: dict[int, None] = {}

    def note(self, lives: Sequence[int]) -> None:
        for life in lives:
            self.lives.pop(life, None)
            self.lives[life] = None
        for life in list(self.lives)[:-KNOWN_MAX]:
            del self.lives[life]

    def covers(self, told: dict[int, int]) -> bool:
        """Whether a store with these lives has not gone back; see the table in the module's theory."""
        if self.mark is None or told.get(self.mark[0], -1) >= self.mark[1]:
            return True
        return len(told) >= LIVES_MAX and min(told) > self.mark[0]


class Lives:
    """The lives of this node's store, and how far the other members had got."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._is_closed = False
        records = state.records
        self._past = _decode_lives(records.document(_LIVES))
        if not self._past and (records.keys or records.document(b"layout") is not None):
            self._past = [_BEFORE]
        self._life = max([state.incarnation, *[life + 1 for life, _ in self._past if life >= state.incarnation]])
        self._pending: list[int] = []  # turns whose marks are not known to be synced
        self._durable = 0  # the turn of the last mark of this life that is
        self._changes = 0
        self._marked_ms = -MARK_MS
        self._untold: list[str] = []
        self._peers = _decode_peers(records.document(_PEERS))
        self._is_news = False
        self._saved_ms = 0
        self._refused_ms: dict[str, int] = {}  # peers that have gone back, and when they were last seen
        self.accepted: dict[str, None] = {}  # peers that had gone back and were taken all the same
        self.refusers: dict[str, str] = {}  # members that refuse us, for we have gone back, and what they say
        self._alone_ms = 0  # since when all refusals have said that nobody else is missing
        self._has_gone_back = False  # and so has what is remembered here of others
        self._aside = _decode_aside(records.document(_ASIDE))

    # --- our own lives

    def introduction(self) -> tuple[bytes, ...]:
        """What this node says of its lives when it connects; older nodes pass it over."""
        lives = [*self._past, (self._life, self._durable)] if self._durable else self._past
        return (LIVES, b",".join(b"%d:%d" % life for life in lives[-LIVES_MAX:]))

    def tick(self, now_ms: int) -> None:
        """Writes and tells marks when it is time."""
        state = self._state
        synced = [turn for turn in self._pending if turn <= state.synced_turn]
        if synced:
            self._durable = max(synced)
            self._pending = [turn for turn in self._pending if turn > self._durable]
            self._untold = [member.id for member in state.layout.members] if state.layout is not None else []
        for peer in self._untold[:TELL_MAX]:
            self._tell(peer)
        del self._untold[:TELL_MAX]
        if state.room != FOR_NOTHING:
            if now_ms - self._marked_ms >= MARK_MS and state.records.record_batches != self._changes:
                self._mark(now_ms)
            if self._is_news and now_ms - self._saved_ms >= SAVE_MS:
                self._save_peers(now_ms)
        closes = bool(self.refusers) and not self._state.rebuild_reason
        if closes and not self._is_closed:
            self._state.refuse_clients(has_gone_back(state.member.name))
        elif self._is_closed and not closes:
            self._state.serve_clients()
        self._is_closed = closes

    def _mark(self, now_ms: int) -> None:
        state = self._state
        lives = [*self._past, (self._life, state.turn)][-LIVES_MAX:]
        state.records.put_document(_LIVES, json.dumps(lives, separators=(",", ":")).encode())
        self._pending = [*self._pending, state.turn][-PENDING_MAX:]
        self._changes = state.records.record_batches
        self._marked_ms = now_ms

    def _tell(self, peer: str) -> None:
        if self._durable and peer in self._state.links:
            self._state.send(peer, self._state.message(b"MARK", self._durable, self._life))

    def connected(self, peer: str) -> None:
        """A member has taken our link: it learns how far we are."""
        self.refusers.pop(peer, None)
        self._tell(peer)

    def heard_refusal(self, peer: str, text: str) -> None:
        """`peer` says that this store has gone back: SETBACK life turn others …, where `others` counts the members that it
        cannot vouch for. That is so if we lack that mark."""
        words = text.split()[1:4]
        if len(words) < 3 or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
            return
        life, turn, others = map(int, words)
        if dict(self._past).get(life, self._state.turn if life == self._life else -1) >= turn:
            return
        now_ms = self._state.now_ms
        if others or not self.refusers:
            self._alone_ms = now_ms
        self.refusers[peer] = text
        self._has_gone_back = True
        if now_ms - self._alone_ms >= HOLD_MS:
            self._state.rebuild_reason = SET_BACK

    def set_aside(self, name: str) -> None:
        """This store is new, for the one before had gone back, and lies under that name now."""
        self._aside = (name, self._state.wall_ms)
        self._state.records.put_document(_ASIDE, json.dumps(self._aside).encode())

    def aside(self) -> str:
        """The name of the store that was set aside lately; empty if none was."""
        name, since_ms = self._aside
        return name if self._state.wall_ms - since_ms < SHOWN_MS else ""

    # --- other members

    def heard_mark(self, peer: str, life: int, turn: int) -> None:
        """What `peer` did up to that turn of that life is on its disk."""
        known = self._peers.setdefault(peer, _Known())
        known.mark = (life, turn)
        known.note([life])
        self._is_news = True

    def refusal(self, peer: str, words: Sequence[bytes]) -> str:
        """Why a member that introduces itself with these words is not listened to; empty if it is."""
        told = _told_in(words)
        if told is None or peer not in self._state.members:
            return ""
        known = self._peers.setdefault(peer, _Known())
        if not known.covers(told):
            if any(life in known.lives for life in told):
                return self._refuse(peer, known, told)
            known.mark = None
        known.note(list(told))
        self._refused_ms.pop(peer, None)
        return ""

    def _refuse(self, peer: str, known: _Known, told: dict[int, int]) -> str:
        state = self._state
        assert known.mark is not None and state.layout is not None
        is_told = peer in self.refused()
        self._refused_ms[peer] = state.now_ms
        refused = self.refused()
        if is_told and (len(refused) > 1 or self._has_gone_back):
            for node in refused:
                self.accepted[node] = None
                self._peers[node] = _Known()
            known.note(list(told))
            self._refused_ms.clear()
            self._is_news = True
            return ""
        others = [member.id for member in state.layout.members if member.id not in (peer, state.id)]
        missing = sum(not state.is_usable(node) for node in others)
        life, turn = known.mark
        return (
            f"{SETBACK} {life} {turn} {missing} the directory of node {state.layout_name(peer)} is an older copy: the "
            "cluster may have forgotten since what was deleted"
        )

    def refused(self) -> list[str]:
        """The members that have gone back, and were refused lately."""
        return [node for node, seen_ms in self._refused_ms.items() if self._state.now_ms - seen_ms < SEEN_MS]

    def _save_peers(self, now_ms: int) -> None:
        members = self._state.members
        self._peers = {peer: known for peer, known in self._peers.items() if peer in members}
        document = {peer: [known.mark, list(known.lives)] for peer, known in self._peers.items()}
        self._state.records.put_document(_PEERS, json.dumps(document, separators=(",", ":")).encode())
        self._is_news = False
        self._saved_ms = now_ms


def _told_in(words: Sequence[bytes]) -> dict[int, int] | None:
    """The lives in an introduction, incarnation -> turn; None if it tells none, as those of older nodes do."""
    if LIVES not in words[:-1]:
        return None
    told: dict[int, int] = {}
    for part in words[list(words).index(LIVES) + 1].split(b",")[:LIVES_MAX]:
        life, _, turn = part.partition(b":")
        if life.isdigit() and turn.isdigit() and len(part) < 40:
            told[int(life)] = int(turn)
    return told


def _decode_lives(document: bytes | None) -> list[Life]:
    """The lives that the store remembers; those of a document that makes no sense are one, of which nobody knows."""
    try:
        return [(int(life), int(turn)) for life, turn in json.loads(document or b"[]")]
    except (ValueError, TypeError):
        return [_BEFORE]


def _decode_peers(document: bytes | None) -> dict[str, _Known]:
    """What is remembered of the other members; nothing if the document makes no sense."""
    peers: dict[str, _Known] = {}
    try:
        for peer, (mark, lives) in json.loads(document or b"{}").items():
            known = peers[peer] = _Known()
            known.mark = (int(mark[0]), int(mark[1])) if mark else None
            known.note([int(life) for life in lives])
    except (ValueError, TypeError, LookupError, AttributeError):
        return {}
    return peers


def _decode_aside(document: bytes | None) -> tuple[str, int]:
    try:
        name, since_ms = json.loads(document or b'["", 0]')
        return str(name), int(since_ms)
    except (ValueError, TypeError):
        return "", 0
