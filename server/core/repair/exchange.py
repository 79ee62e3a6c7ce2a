"""The exchange between two owners: finds where they differ, and makes both hold what either one has.

The idea (Merkle, 1979; Dynamo, section 4.7). One node leads and asks all questions; the other one answers
(exchange_answers.py). The leader compares the hashes of ranges of leaves and opens only ranges that differ, sixteen parts
at a time, down to ranges of a few keys. It lists these on both sides, fetches the records that differ, stores their merge
and sends the merge back. So the bytes grow with the difference, not with the data. Where a list is cheaper than opening
(few keys are left, or most parts differ) the leader lists the range. A range that is empty on one side is not compared,
but sent page by page: that is how a wiped node is filled.

Nothing here depends on timing. Hashes and lists only say where to look. A record that is sent is read in the turn that
sends it. Merging is idempotent. There is one exception: a record that was read before a fence (`State.fence`: tombstones
were collected) must not be stored after it. So a page notes the hybrid clock before the peer reads for it. If a fence has
passed that reading, the page is repeated.

The leader pays for both sides out of its budget of background work. It works more slowly while either side says that its
clients are delayed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from server.core.base.state import State
from server.core.messages.asking import UNREADABLE, Question, write_answer
from server.core.messages.exchange_questions import (
    FETCH,
    HASHES,
    LIST,
    MERGE,
    FetchAnswer,
    Hashes,
    HashesAnswer,
    Keys,
    ListAnswer,
    Listing,
    MergeAnswer,
    Pairs,
)
from server.core.records.trees import EMPTY, Span
from server.core.records.versions import DamagedRecord
from server.core.repair.differences import How, LeafDifference, has_same_how, leaves_in, pop_batch
from server.core.repair.exchange_answers import (
    CHECKSUMS,
    LISTED_KEYS,
    PAGE_BYTES,
    RECORDS,
    Range,
    absorb,
    equal_spans,
    read_ranges,
    rest_of,
    split,
)
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step
from server.core.work.questions import Questions

FANOUT = 16
SPAN_LEAVES_MAX = 1 << 17  # a larger range is compared in parts: this is a megabyte of leaves
_HASHED_LEAVES_MAX = 1 << 19  # leaves that one question makes each side hash: 0.2 ms

_LISTED_KEYS = 8  # opening a range costs as much as a list of so many keys
_LISTED_KEYS_PER_PART = (
    10  # opening a range whose parts differ costs as much as a list of so many keys for each such part
)
_FENCED_MAX = 3  # repetitions of one exchange of pages because a fence passed
_ENVELOPE_BYTES = 100  # of a message, its frame included

LOST, UNSETTLED = "lost", "unsettled"  # why a node is not known to be equal: not reached, or not all records

Steps = Generator[Step, Any, None]

Q = TypeVar("Q")
A = TypeVar("A", HashesAnswer, ListAnswer, FetchAnswer, MergeAnswer)


class PeerLost(Exception):
    """The peer did not answer, or the layout has changed. What was done stays done; the caller repeats the rest later."""


class NothingTaken(PeerLost):
    """One side stores no records at present, because its disk is full."""


@dataclass(slots=True)
class Outcome:
    """The counts of one or several exchanges so far."""

    keys_repaired: int = 0  # records that changed, on either side
    keys_taken: int = 0  # of these, records that changed here
    bytes_sent: int = 0  # by both sides
    unsettled: int = 0  # records that one side could not read or did not store, and pages given up because of fences
    unreadable: int = 0  # ranges that one side could not read: they were compared by the keys of the other side
    stopped: bool = False  # set by the caller, to end the exchange at its next question


class Exchange:
    """Exchanges records with one peer under the present layout. Its procedures raise PeerLost."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        peer: str,
        outcome: Outcome,
        must_give: bool = True,
    ) -> None:
        """If `must_give` is False, the exchange succeeds once this node holds everything that the peer has.

        A peer whose disk is full then stops nothing.
        """
        self._state = state
        self._trees = state.records.trees
        self._questions = questions
        self._background = background
        self._peer = peer
        self._outcome = outcome
        self._layout = state.layout
        self._epoch = state.layout.epoch if state.layout is not None else 0
        self._peer_busy = False
        self._must_give = must_give
        self._gives = True

    def repair(self, spans: Sequence[Span]) -> Steps:
        """Makes the ranges equal."""
        yield from self.settle((yield from self.compare(spans)))

    # --- finding differences

    def compare(self, spans: Sequence[Span]) -> Generator[Step, Any, list[LeafDifference]]:
        """The ranges that differ between both sides; large ranges are compared in parts."""
        found: list[LeafDifference] = []
        waiting = [part for span in spans for part in equal_spans(span, -(-(span[1] - span[0]) // SPAN_LEAVES_MAX))][
            ::-1
        ]
        while waiting:
            batch = pop_batch(waiting, leaves_in, _HASHED_LEAVES_MAX)
            for span, hashes in zip(batch, (yield from self._hashes(batch, 1)), strict=True):
                found += self._judge(span, hashes[0])
        return found

    def settle(self, differences: Sequence[LeafDifference]) -> Steps:
        """Makes ranges equal that `compare` has found different."""
        stack = list(differences[::-1])
        while stack:
            how = stack[-1].how
            if how is How.OPEN:
                batch = pop_batch(stack, lambda item: leaves_in(item.span), _HASHED_LEAVES_MAX, has_same_how)
                stack += (yield from self._open([item.span for item in batch]))[::-1]
                continue
            keys_max = LISTED_KEYS if how is How.LIST else BATCH_KEYS
            batch = pop_batch(stack, lambda item: self._trees.keys_in(item.span), keys_max, has_same_how)
            ranges = [self._trees.bounds_of(item.span) for item in batch]
            if how is How.PUSH:
                yield from self._push(ranges)
            else:
                yield from self._match(ranges, RECORDS if how is How.PULL else CHECKSUMS)

    def _open(self, spans: list[Span]) -> Generator[Step, Any, list[LeafDifference]]:
        """The parts of `spans` that differ, in order; a span itself, as LIST, if that is cheaper than its parts."""
        found: list[LeafDifference] = []
        for span, hashes in zip(spans, (yield from self._hashes(spans, FANOUT)), strict=True):
            parts: list[LeafDifference] = []
            for part, theirs in zip(equal_spans(span, FANOUT), hashes, strict=True):
                parts += self._judge(part, theirs)
            many = self._trees.keys_in(span) <= _LISTED_KEYS_PER_PART * len(parts)
            found += [LeafDifference(span, How.LIST)] if many else parts
        return found

    def _judge(self, span: Span, theirs: bytes) -> list[LeafDifference]:
        """The difference of a range as a list of one or none.

        ours    theirs   keys and leaves                      how
        equal            -                                    none
        empty   -        -                                    PULL
        -       empty    -                                    PUSH
        else             at most `_LISTED_KEYS`, or 1 leaf    LIST
        else             more                                 OPEN
        """
        ours = self._trees.hash_of(span)
        if ours == theirs:
            return []
        if EMPTY in (ours, theirs):
            return [LeafDifference(span, How.PULL if ours == EMPTY else How.PUSH)]
        few = self._trees.keys_in(span) <= _LISTED_KEYS or leaves_in(span) == 1
        return [LeafDifference(span, How.LIST if few else How.OPEN)]

    def _hashes(self, spans: list[Span], parts: int) -> Generator[Step, Any, list[list[bytes]]]:
        """The peer's hash of each part of each span; empty bytes, which equal no hash, if its leaves have another size."""
        answer = yield from self._ask(HASHES, Hashes(self._epoch, self._trees.leaf_bits, parts, spans))
        found: list[list[bytes]] = []
        place = 0
        for span in spans:
            count = len(equal_spans(span, parts))
            hashes = answer.hashes[place : place + count]
            found.append(hashes + [b""] * (count - len(hashes)))
            place += count
        return found

    # --- settling differences

    def _match(self, ranges: list[Range], mode: bytes) -> Steps:
        """Makes some ranges equal, page by page.

        In mode RECORDS, where nothing is stored here, the peer's pages are records. In mode CHECKSUMS they are checksums,
        and only records that differ are fetched.
        """
        fenced = 0
        while ranges:
            stamp = self._state.clock.last
            answer = yield from self._ask(LIST, Listing(self._epoch, mode, ranges))
            if answer.gap_end is not None:
                self._outcome.unreadable += 1
                part, ranges = split(ranges, answer.gap_end)
                yield from self._match_by_our_keys(part)
                continue
            cut, theirs = answer.cut, answer.stored
            if mode == RECORDS:
                part, ranges = _cut(ranges, cut)
                differing = None if self._is_fenced(stamp) else self._merge(theirs)
                keys = len(theirs)
            else:
                part, ranges, ours, theirs = self._aligned(ranges, cut, theirs)
                differing = yield from self._fetch(
                    [key for key, checksum in theirs.items() if ours.get(key) != checksum], stamp
                )
                if differing is not None:
                    differing += [key for key in ours if key not in theirs]
                keys = max(len(ours), len(theirs))
            yield from self._spend(keys)
            if differing is not None:
                yield from self._send(differing)
                continue
            fenced += 1
            ranges = [*part, *ranges]
            if fenced == _FENCED_MAX:
                self._outcome.unsettled += 1
                return

    def _aligned(
        self, ranges: list[Range], cut: bytes, theirs: dict[bytes, bytes]
    ) -> tuple[list[Range], list[Range], dict[bytes, bytes], dict[bytes, bytes]]:
        """The part of the ranges for which both lists are complete, the rest, and the checksums by key: ours and theirs.

        If the engine cannot read a gap here, the part ends with the gap, and every key of the peer in it counts as
        differing.
        """
        page = read_ranges(self._state.records, ranges, LISTED_KEYS)
        ours = {key: record[:8] for key, record in page.pairs}
        if page.gap_end:
            self._outcome.unreadable += 1
            place = min(cut + b"\0", page.gap_end) if cut else page.gap_end
            part, rest = split(ranges, place)
        else:
            part, rest = _cut(ranges, min(cut or page.cut, page.cut or cut))
        end = part[-1][1] if rest else ranges[-1][1]
        ours = {key: checksum for key, checksum in ours.items() if key < end}
        return part, rest, ours, {key: checksum for key, checksum in theirs.items() if key < end}

    def _match_by_our_keys(self, ranges: list[Range]) -> Steps:
        """For ranges that the peer cannot list: asks it for each key that this node has, and sends what it lacks."""
        while ranges:
            stamp = self._state.clock.last
            page = read_ranges(self._state.records, ranges)
            if page.gap_end:
                ranges = split(ranges, page.gap_end)[1]
                continue
            keys = [key for key, _ in page.pairs]
            yield from self._spend(len(keys))
            differing = yield from self._fetch(keys, stamp, True)
            if differing is None:
                self._outcome.unsettled += 1
                return
            yield from self._send(differing)
            ranges = rest_of(ranges, page.cut)

    def _fetch(self, keys: list[bytes], stamp: int, are_ours: bool = False) -> Generator[Step, Any, list[bytes] | None]:
        """Fetches and merges the peer's records. Returns the keys of which ours differs now; None if a fence has passed.

        `are_ours` says that this node holds all the keys: then the peer lacks those for which it has no record.
        """
        differing: list[bytes] = []
        while keys:
            records = (yield from self._ask(FETCH, Keys(self._epoch, keys))).records
            if self._is_fenced(stamp):
                return None
            theirs = dict(zip(keys, records, strict=False))
            differing += self._merge(theirs)
            if are_ours:
                differing += [key for key, record in theirs.items() if not record]
            keys = keys[max(1, len(records)) :]
        return differing

    def _merge(self, theirs: dict[bytes, bytes]) -> list[bytes]:
        """Merges records of the peer into ours. Returns the keys of which ours differs from theirs now."""
        state, outcome = self._state, self._outcome
        differing = []
        for key, record in theirs.items():
            if not record:
                continue  # deleted there since the list was made
            if state.disk_full:
                raise NothingTaken
            if record == UNREADABLE:
                outcome.unsettled += 1
                continue
            try:
                if absorb(state.records, key, record):
                    outcome.keys_taken += 1
                    self._repaired(1)
                if state.records.get(key) != record:
                    differing.append(key)
            except DamagedRecord:
                outcome.unsettled += 1
        return differing

    def _push(self, ranges: list[Range]) -> Steps:
        """Sends everything that is stored here in some ranges to the peer."""
        while ranges:
            page = read_ranges(self._state.records, ranges)
            if page.gap_end:
                self._outcome.unreadable += 1
                ranges = split(ranges, page.gap_end)[1]
                continue
            yield from self._spend(len(page.pairs))
            yield from self._send([key for key, _ in page.pairs])
            ranges = rest_of(ranges, page.cut)

    def _send(self, keys: list[bytes]) -> Steps:
        """Sends our present records of `keys` to the peer, which merges them."""
        while keys and self._gives:
            pairs: list[bytes] = []
            count = size = 0
            for key in keys:
                try:
                    record = self._state.records.get(key)
                except DamagedRecord:
                    self._outcome.unsettled += 1
                    record = None
                if record is not None:
                    pairs += (key, record)
                    size += len(record)
                count += 1
                if count == BATCH_KEYS or size >= PAGE_BYTES:
                    break
            keys = keys[count:]
            if pairs:
                answer = yield from self._ask(MERGE, Pairs(self._epoch, pairs))
                if answer.changed < 0 and self._must_give:
                    raise NothingTaken
                if answer.changed < 0:
                    self._gives = False
                    return
                self._repaired(answer.changed)
                self._outcome.unsettled += answer.failed

    # --- asking

    def _ask(self, question: Question[Q, A], content: Q) -> Generator[Step, Any, A]:
        """Asks the peer and counts the bytes of both messages. Raises PeerLost."""
        layout = self._layout
        answers = yield self._questions.ask([self._peer], question, content)
        answer: A | None = answers.get(self._peer)
        items = [*question.write(content)[1:], *write_answer(question, answer)]
        sent = 2 * _ENVELOPE_BYTES + sum(map(wire_bytes, items))
        self._outcome.bytes_sent += sent
        self._state.statistics.repair_bytes_sent += sent
        if answer is None or self._state.layout is not layout or self._outcome.stopped:
            raise PeerLost
        self._peer_busy = answer.is_busy
        return answer

    def _spend(self, keys: int) -> Steps:
        return self._background.spend(max(1, keys), self._peer_busy)

    def _is_fenced(self, stamp: int) -> bool:
        return self._state.fence >= stamp

    def _repaired(self, keys: int) -> None:
        self._outcome.keys_repaired += keys
        self._state.statistics.keys_repaired += keys


def _cut(ranges: Sequence[Range], cut: bytes) -> tuple[list[Range], list[Range]]:
    """Splits ranges behind the key `cut`; if that is empty, the first part is all of them."""
    return split(ranges, cut + b"\0" if cut else b"")


def wire_bytes(item: bytes) -> int:
    """The bytes of an item in a message, its length prefix included."""
    size = len(item)
    return size + len(str(size)) + 5
