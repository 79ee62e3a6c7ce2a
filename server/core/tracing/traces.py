"""The traces of this node: marks the messages of traced requests, and notes when each step was done.

Theory (Sigelman et al., "Dapper", 2010). A traced request runs in a scope (`run`), which has three steps. First the
messages that have gathered for other requests are queued. Then the work is done. Then the messages of the work are queued.
So each message that was queued within the scope belongs to the traced request, and gets an envelope (TRACED) with the ids
of its trace and of this node's span. The receiver opens the envelope and handles the message in a scope, too. So its answer
gets an envelope, and so does every message that the answer causes here: the write after a quorum read, the reply to a
relay. The other parts of the node know nothing of tracing, and a request that is not traced costs nothing more. A traced
request costs some messages more, because its messages do not travel together with those of other requests.

A hedge (requests/hedging.py) belongs to the scope that has opened its group. What else happens after a scope has ended is
not traced: a retry, a stand-in for a silent owner, a request that waits until a damaged record is mended. An answer without
an envelope, as a node of an earlier version sends it, counts as usual.

`now_us` reads a clock for the notes alone; no decision depends on it. The shell sets a finer one than that of the turns.
The notes of a request are kept for `KEPT_MS`: the node that the client has asked collects them meanwhile (assembly.py), or
the shell exports them afterwards (shell/telemetry.py)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from server.core.base.sinks import Session
from server.core.base.state import State
from server.core.messages.traces import SPAN_BYTES, TRACE_BYTES, Traced, encode_traced, kind_of
from server.core.requests.read_groups import ReadGroup
from server.core.requests.reads import Reads
from server.core.requests.relays import Relays
from server.core.requests.writes import Writes
from server.core.tracing.spans import Span, SpanTurn

KEPT_MS: Final = 10_000
SCOPES_MAX: Final = 256
_KIND_BYTES: Final = 32  # of the kind of a message that another node has sent
EXPORTED_MAX: Final = 4  # times `traces_max`: spans that wait for the exporter, further ones are not exported


class Traces:
    """The spans of one node, and the turns of these that have not been sent."""

    def __init__(self, state: State, reads: Reads, writes: Writes, relays: Relays) -> None:
        self._state = state
        self._reads = reads
        self._writes = writes
        self._relays = relays
        self.now_us: Callable[[], int] = lambda: state.now_ms * 1000
        self.spans: dict[bytes, Span] = {}  # by trace; while there are none, the ends of turns have nothing to note
        self.one_in = state.config.trace_one_in  # requests of clients; 0: none is traced but by DYN.TRACE
        self.is_exporting = False
        self._ended: list[Span] = []  # to be exported
        self._is_sampling = False  # `sample` is beginning a command, which must not be sampled again
        self.is_running = False  # a scope is open: no other one is opened within it
        self._present: dict[Span, SpanTurn] = {}  # the spans that this turn has worked on
        self._unsent: list[SpanTurn] = []  # turns that have ended
        # The latest scopes: the numbers before and after those of the groups that they opened, and the span.
        self._scopes: deque[tuple[int, int, Span]] = deque(maxlen=SCOPES_MAX)
        hedge = reads.hedging.hedge
        reads.hedging.hedge = lambda group: self._hedged(group, hedge)
        self._sampled: dict[Span, tuple[Session, int]] = {}  # requests of clients without a reply: session and number

    # --- requests

    def begin(self, command: str) -> Span | None:
        """Begins a trace: the span of a request that a client has sent. None if there are too many."""
        rng = self._state.rng
        return self._open(rng.randbytes(TRACE_BYTES), b"", command)

    def samples_next(self) -> bool:
        """Whether the next request of a client is traced: decides at random, one in `one_in`."""
        return not self._is_sampling and self._state.rng.random() * self.one_in < 1

    def sample(self, session: Session, name: str, begin: Callable[[], None]) -> None:
        """Begins the next command of a session by `begin`, and traces it, unless the session has others in flight."""
        is_alone = not (session.in_flight or session.backlog or session.transaction)
        span = self.begin(name) if is_alone and name != "DYN.TRACE" else None
        self._is_sampling = True
        try:
            if span is None:
                begin()
            else:
                number = session.first_number + len(session.slots)
                self.run(span, begin)
                self._sampled[span] = session, number
        finally:
            self._is_sampling = False

    def received(self, peer: str, traced: Traced, handle: Callable[[], None]) -> None:
        """Handles a message that has come in an envelope."""
        kind = traced.message[0][:_KIND_BYTES].decode(errors="replace")  # perhaps one that only newer nodes know
        span = self.spans.get(traced.trace) or self._open(traced.trace, traced.span, kind)
        if span is None:
            handle()
            return
        self._turn_of(span).received.append((kind, peer, self.now_us()))
        self.run(span, handle)

    def run(self, span: Span, work: Callable[[], None]) -> None:
        """Does a part of a traced request, and puts the messages that it sends into envelopes."""
        state, turn = self._state, self._turn_of(span)
        self._launch()
        first = state.next_number()
        queues = state.messages, state.trailing
        queued = [{peer: len(messages) for peer, messages in queue.items()} for queue in queues]
        self.is_running = True
        try:
            work()
        finally:
            self.is_running = False
        self._launch()
        self._scopes.append((first, state.next_number(), span))
        for queue, before in zip(queues, queued, strict=True):
            for peer, messages in queue.items():
                self._wrap(span, turn, peer, messages, before.get(peer, 0))

    def _wrap(self, span: Span, turn: SpanTurn, peer: str, messages: list[bytes], start: int) -> None:
        """Puts the messages for a peer from place `start` on into envelopes, and notes them."""
        is_traced, reading = peer in self._state.tracing, self._state.clock_reading()
        for place in range(start, len(messages)):
            turn.sent.append((kind_of(messages[place]), peer, is_traced))
            if is_traced:
                messages[place] = encode_traced(reading, span.trace, span.id, messages[place])

    def _hedged(self, group: ReadGroup, hedge: Callable[[ReadGroup], bool]) -> bool:
        """Asks one more owner for a group of reads, because an answer is late. Returns what `hedge` does."""
        span = next((span for first, last, span in self._scopes if first < group.number < last), None)
        if span is None:
            return hedge(group)
        outcome: list[bool] = []
        self.run(span, lambda: outcome.append(hedge(group)))
        return outcome[0]

    def answered(self, span: Span) -> None:
        """The request of a span has its reply."""
        turn = self._turn_of(span)
        turn.answered_us = self.now_us()

    def _open(self, trace: bytes, parent: bytes, name: str) -> Span | None:
        state = self._state
        if len(self.spans) >= state.config.traces_max:
            return None
        span = Span(trace, state.rng.randbytes(SPAN_BYTES), parent, name, state.now_ms, self.now_us())
        self.spans[trace] = span
        return span

    def _turn_of(self, span: Span) -> SpanTurn:
        """The present turn of a span."""
        turn = self._present.get(span)
        if turn is None:
            turn = self._present[span] = SpanTurn(self.now_us())
            span.turns.append(turn)
        return turn

    def _launch(self) -> None:
        """Sends what has gathered in this turn."""
        pending = self._state.records.pending
        while (pending.by_key and pending.make_all()) or self._writes.launch() or self._reads.launch():
            pass
        self._relays.launch_early()

    # --- the ends of turns

    def end_turn(self, number: int) -> None:
        """The core has ended the turn with that number."""
        for span, (session, command) in list(self._sampled.items()):
            if session.command(command) is None:
                del self._sampled[span]
                self.answered(span)
        for turn in self._present.values():
            turn.number, turn.ended_us = number, self.now_us()
            self._unsent.append(turn)
        self._present.clear()

    def committed(self, number: int) -> None:
        """The turns up to that number are committed, and what they have to say may leave."""
        for turn in self._unsent:
            if turn.number <= number:
                turn.committed_us = self.now_us()

    def sent(self, number: int) -> None:
        """The messages and replies of the turns up to that number have left."""
        sent_us = self.now_us()
        for turn in self._unsent:
            if turn.number <= number:
                turn.sent_us = sent_us
        self._unsent = [turn for turn in self._unsent if turn.sent_us is None]

    # --- what was noted

    def document(self, trace: bytes) -> dict[str, Any] | None:
        """Answers the question TRACE: what this node has noted of a trace; None if it has no part in it."""
        span = self.spans.get(trace)
        return None if span is None else span.document()

    def expire(self, now_ms: int) -> None:
        """Forgets the spans that are old enough. They are in the order in which they began."""
        while self.spans:
            trace, span = next(iter(self.spans.items()))
            if span.begun_ms + KEPT_MS > now_ms:
                return
            del self.spans[trace]
            self._sampled.pop(span, None)
            if self.is_exporting and len(self._ended) < EXPORTED_MAX * self._state.config.traces_max:
                self._ended.append(span)

    def drain_ended(self) -> list[Span]:
        """Removes and returns the spans that are over, for the exporter."""
        ended, self._ended = self._ended, []
        return ended
