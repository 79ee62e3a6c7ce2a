"""The exchange between two owners: finds out where they differ, and makes both hold what either has.

Theory (Merkle, 1979; Dynamo, section 4.7). One node leads and asks all questions (exchange_answers.py). It compares
ranges of leaves, opens only those that differ, sixteen parts at a time, down to ranges of a few keys, lists these on both
sides, fetches the records that differ, keeps the join and sends it back. So the bytes grow with the difference, not with
the data. It stops opening where a list is cheaper: when few keys are left, or when most parts differ. What is empty on one
side is not compared at all but streamed in pages: that is how a wiped node is filled.

Everything here may be late, and nothing is harmed by it: hashes and lists only say where to look; what is sent is read
in the turn that sends it, and merging is idempotent. But what was read before a fence (State.fence: collected keys) must
not be stored after it. So a page remembers the hybrid clock at its beginning, before the peer read for it, and is begun
again when a fence has passed that.

The leader pays for both sides out of its budget of background work, and pays double attention: at the slower pace while
either of them serves clients.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from server.core.base.state import Item, State
from server.core.messages.record_questions import UNREADABLE
from server.core.records.trees import EMPTY, Span
from server.core.records.versions import DamagedRecord
from server.core.repair.exchange_answers import (
    CHECKSUMS,
    PAGE_BYTES,
    RECORDS,
    Range,
    absorb,
    encode_spans,
    parts_of,
    read_page,
    rest_of,
    split,
)
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step
from server.core.work.questions import Questions

FANOUT = 16
SPAN_LEAVES_MAX = 1 << 17  # a larger range is not compared as one: a megabyte of leaves
_HASHED_LEAVES_MAX = 1 << 19  # for one question, on each side: 0.2 ms
_SPANS_MAX = 64  # in one question
_LISTED_KEYS = 8  # opening a range costs as much as a list of so many keys
_LISTED_KEYS_PER_PART = 10  # the same for a range in which so many parts differ, as they would be opened in turn
_FENCED_MAX = 3
_ENVELOPE_BYTES = 100  # of a message, its frame included

LOST, UNSETTLED = "lost", "unsettled"  # why a node is not known to be equal

Steps = Generator[Step, Any, None]


class PeerLost(Exception):
    """The peer has not answered, or there is a new layout: what was done stays done, the rest is for another time."""


class NothingTaken(PeerLost):
    """One side takes no records at present: its disk is full."""


@dataclass(slots=True)
class Outcome:
    """What an exchange, or several, have done so far."""

    keys_repaired: int = 0  # changed, on either side
    keys_taken: int = 0  # of these, changed here
    bytes_sent: int = 0  # by both
    unsettled: int = 0  # records that one side could not read or would not take, or pages that a fence has passed
    unreadable: int = 0  # ranges that one side could not read: they were compared by the keys of the other
    stopped: bool = False  # set by whoever wants no more of it


class How(Enum):
    """What to do about a range in which two nodes differ."""

    OPEN = "compare its parts"
    LIST = "compare what lies in it key by key"
    PULL = "nothing here"
    PUSH = "nothing there"


class Difference(NamedTuple):
    """A range of leaves in which two nodes differ."""

    span: Span
    how: How


class Exchange:
    """Exchanges with one peer under the present layout. Procedures raise PeerLost."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        peer: str,
        outcome: Outcome,
        must_give: bool = True,
    ) -> None:
        """Without `must_give` it is enough that this node holds all that the peer has: a peer without room for what it
        lacks is left as it is."""
        self._state = state
        self._trees = state.records.trees
        self._questions = questions
        self._background = background
        self._peer = peer
        self._outcome = outcome
        self._layout = state.layout
        self._peer_busy = False
        self._must_give = must_give
        self._gives = True

    def repair(self, spans: Sequence[Span]) -> Steps:
        """Makes the ranges equal."""
        yield from self.settle((yield from self.compare(spans)))

    # --- where we differ

    def compare(self, spans: Sequence[Span]) -> Generator[Step, Any, list[Difference]]:
        """Those of some ranges that are not equal on both sides; large ranges in parts."""
        found: list[Difference] = []
        waiting = [part for span in spans for part in parts_of(span, -(-(span[1] - span[0]) // SPAN_LEAVES_MAX))][::-1]
        while waiting:
            batch = _take(waiting, _leaves_in, _HASHED_LEAVES_MAX)
            for span, hashes in zip(batch, (yield from self._hashes(batch, 1)), strict=True):
                found += self._judge(span, hashes[0])
        return found

    def settle(self, differences: Sequence[Difference]) -> Steps:
        """Makes ranges equal that `compare` has found different."""
        stack = list(differences[::-1])
        while stack:
            how = stack[-1].how
            if how is How.OPEN:
                batch = _take(stack, lambda item: _leaves_in(item.span), _HASHED_LEAVES_MAX, _alike)
                stack += (yield from self._open([item.span for item in batch]))[::-1]
                continue
            batch = _take(stack, lambda item: self._trees.keys_in(item.span), BATCH_KEYS, _alike)
            ranges = [self._trees.bounds_of(item.span) for item in batch]
            if how is How.PUSH:
                yield from self._push(ranges)
            else:
                yield from self._match(ranges, RECORDS if how is How.PULL else CHECKSUMS)

    def _open(self, spans: list[Span]) -> Generator[Step, Any, list[Difference]]:
        """The parts of `spans` in which we differ, in order; or a span itself if most of them do."""
        found: list[Difference] = []
        for span, hashes in zip(spans, (yield from self._hashes(spans, FANOUT)), strict=True):
            parts: list[Difference] = []
            for part, theirs in zip(parts_of(span, FANOUT), hashes, strict=True):
                parts += self._judge(part, theirs)
            many = self._trees.keys_in(span) <= _LISTED_KEYS_PER_PART * len(parts)
            found += [Difference(span, How.LIST)] if many else parts
        return found

    def _judge(self, span: Span, theirs: bytes) -> list[Difference]:
        """One difference, or none."""
        ours = self._trees.hash_of(span)
        if ours == theirs:
            return []
        if EMPTY in (ours, theirs):
            return [Difference(span, How.PULL if ours == EMPTY else How.PUSH)]
        few = self._trees.keys_in(span) <= _LISTED_KEYS or _leaves_in(span) == 1
        return [Difference(span, How.LIST if few else How.OPEN)]

    def _hashes(self, spans: list[Span], parts: int) -> Generator[Step, Any, list[list[bytes]]]:
        """The peer's hash of each part of each span; if its leaves are not as large as ours, what equals no hash."""
        (hashes,) = yield from self._ask(b"HASHES", self._trees.leaf_bits, parts, encode_spans(spans))
        found: list[list[bytes]] = []
        place = 0
        for span in spans:
            end = place + 8 * len(parts_of(span, parts))
            found.append([hashes[at : at + 8] for at in range(place, end, 8)])
            place = end
        return found

    # --- making us equal

    def _match(self, ranges: list[Range], mode: bytes) -> Steps:
        """Page by page what either side has goes to the other, where they differ."""
        fenced = 0
        while ranges:
            stamp = self._state.clock.last
            answer = yield from self._ask(b"LIST", mode, *[bound for bounds in ranges for bound in bounds])
            if answer[0] == UNREADABLE:
                self._outcome.unreadable += 1
                part, ranges = split(ranges, answer[1] if len(answer) > 1 else b"")
                yield from self._ask_for_ours(part)
                continue
            cut, items = answer[0], answer[1:]
            if mode == RECORDS:
                theirs = dict(zip(items[::2], items[1::2], strict=True))
                part, ranges = _cut(ranges, cut)
                behind = None if self._is_fenced(stamp) else self._keep(theirs)
                keys = len(theirs)
            else:
                part, ranges, ours, theirs = self._aligned(ranges, cut, {item[8:]: item[:8] for item in items})
                behind = yield from self._fetch(
                    [key for key, checksum in theirs.items() if ours.get(key) != checksum], stamp
                )
                if behind is not None:
                    behind += [key for key in ours if key not in theirs]
                keys = max(len(ours), len(theirs))
            yield from self._spend(keys)
            if behind is not None:
                yield from self._send(behind)
                continue
            fenced += 1
            ranges = [*part, *ranges]
            if fenced == _FENCED_MAX:
                self._outcome.unsettled += 1
                return

    def _aligned(
        self, ranges: list[Range], cut: bytes, theirs: dict[bytes, bytes]
    ) -> tuple[list[Range], list[Range], dict[bytes, bytes], dict[bytes, bytes]]:
        """The part of the ranges that both lists are complete for, the rest, and the checksums by key: ours and theirs.

        In a gap here, where we cannot list, what they have is looked up key by key.
        """
        page = read_page(self._state.records, ranges)
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

    def _ask_for_ours(self, ranges: list[Range]) -> Steps:
        """The peer cannot list what it has there: it is asked for each key that we have, and sent what it lacks."""
        while ranges:
            stamp = self._state.clock.last
            page = read_page(self._state.records, ranges)
            if page.gap_end:
                ranges = split(ranges, page.gap_end)[1]
                continue
            keys = [key for key, _ in page.pairs]
            yield from self._spend(len(keys))
            behind = yield from self._fetch(keys, stamp, True)
            if behind is None:
                self._outcome.unsettled += 1
                return
            yield from self._send(behind)
            ranges = rest_of(ranges, page.cut)

    def _fetch(self, keys: list[bytes], stamp: int, are_ours: bool = False) -> Generator[Step, Any, list[bytes] | None]:
        """Takes the peer's records. Answers for which of the keys we now hold something else; None past a fence.

        `are_ours` says that we hold all the keys: so the peer lacks those that it has nothing of.
        """
        behind: list[bytes] = []
        while keys:
            records = yield from self._ask(b"FETCH", *keys)
            if self._is_fenced(stamp):
                return None
            theirs = dict(zip(keys, records, strict=False))
            behind += self._keep(theirs)
            if are_ours:
                behind += [key for key, record in theirs.items() if not record]
            keys = keys[max(1, len(records)) :]
        return behind

    def _keep(self, theirs: dict[bytes, bytes]) -> list[bytes]:
        """Merges records of the peer into ours. Answers the keys of which ours is another one than theirs now."""
        state, outcome = self._state, self._outcome
        behind = []
        for key, record in theirs.items():
            if not record:
                continue  # gone since the list was made
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
                    behind.append(key)
            except DamagedRecord:
                outcome.unsettled += 1
        return behind

    def _push(self, ranges: list[Range]) -> Steps:
        """Everything that lies here goes to the peer."""
        while ranges:
            page = read_page(self._state.records, ranges)
            if page.gap_end:
                self._outcome.unreadable += 1
                ranges = split(ranges, page.gap_end)[1]
                continue
            yield from self._spend(len(page.pairs))
            yield from self._send([key for key, _ in page.pairs])
            ranges = rest_of(ranges, page.cut)

    def _send(self, keys: list[bytes]) -> Steps:
        """Our present records of `keys` go to the peer, who merges them."""
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
                answer = yield from self._ask(b"MERGE", *pairs)
                if not answer and self._must_give:
                    raise NothingTaken
                if not answer:
                    self._gives = False
                    return
                self._repaired(int(answer[0]))
                self._outcome.unsettled += int(answer[1])

    # --- asking

    def _ask(self, kind: bytes, *args: Item) -> Generator[Step, Any, list[bytes]]:
        """The peer's answer. Raises PeerLost."""
        layout = self._layout
        epoch = layout.epoch if layout is not None else 0
        answers = yield self._questions.ask([self._peer], kind, epoch, *args)
        answer: list[bytes] = answers.get(self._peer, [])
        sent = 2 * _ENVELOPE_BYTES + sum(map(wire_bytes, args)) + sum(map(wire_bytes, answer))
        self._outcome.bytes_sent += sent
        self._state.statistics.repair_bytes_sent += sent
        if not answer or self._state.layout is not layout or self._outcome.stopped:
            raise PeerLost
        self._peer_busy = answer[0] == b"1"
        return answer[1:]

    def _spend(self, keys: int) -> Steps:
        return self._background.spend(max(1, keys), self._peer_busy)

    def _is_fenced(self, stamp: int) -> bool:
        return self._state.fence >= stamp

    def _repaired(self, keys: int) -> None:
        self._outcome.keys_repaired += keys
        self._state.statistics.keys_repaired += keys


T = TypeVar("T")


def _cut(ranges: Sequence[Range], cut: bytes) -> tuple[list[Range], list[Range]]:
    """The ranges up to the key `cut`, this included, and the rest; all of them if it is empty."""
    return split(ranges, cut + b"\0" if cut else b"")


def _leaves_in(span: Span) -> int:
    return span[1] - span[0]


def _alike(one: Difference, other: Difference) -> bool:
    return one.how is other.how


def _take(
    stack: list[T], weight: Callable[[T], int], weight_max: int, alike: Callable[[T, T], bool] | None = None
) -> list[T]:
    """Takes from the end of `stack` what one question can be about: one item at least, and of one kind."""
    batch = [stack.pop()]
    total = weight(batch[0])
    while stack and len(batch) < _SPANS_MAX and (alike is None or alike(batch[0], stack[-1])):
        total += weight(stack[-1])
        if total > weight_max:
            break
        batch.append(stack.pop())
    return batch


def wire_bytes(item: Item) -> int:
    """The size of an item of a message."""
    size = len(item) if isinstance(item, bytes) else len(str(item))
    return size + len(str(size)) + 5
