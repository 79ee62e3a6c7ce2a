"""WAIT: on how many replicas this connection's writes are (https://redis.io/docs/latest/commands/wait/).

Theory. Every write is answered once W replicas have it on disk or in their logs (the setting fsync), its coordinator among
them. So when WAIT runs, behind the answers to all earlier commands of its connection, each of these writes is on W - 1
replicas beside the coordinator. If that is enough, WAIT says so at once. What counts is the least W of the connection's
writes since its last WAIT: DYN.QUORUM, and DYN.SET and DYN.DEL with a W of their own, note it.

If more are asked for, the acknowledgements beyond W are needed. Only the coordinators know them, and only while a group of
writes is open (requests/writes.py). Nothing is kept for each write or connection, so plain writes cost what they did.
Instead each node is asked about a *period*, from the last WAIT of the connection to this one (WRITTEN): its groups that are
open and were opened before the end of the period, by any client; and the least number of replicas with which a group was
closed since its beginning. For the latter a node keeps one time for each number of replicas. That is all that the
connection's writes can be on: so the answer is never too high. It may be too low, because the writes of others count, too.
So do those of `request_timeout_ms` before the period, for the question takes time. It is asked again, with growing pauses,
until enough replicas have all, or until no group is open: then no more are to come. (Redis would wait on, for replicas that
may connect.) A node that does not answer, or has started since, leaves us with W - 1.

A stand-in that keeps a hint counts as a replica, as it does for W. A write that was answered with an error may count.
(Rejected: to remember the last group of each coordinator for each connection. It costs each write a look-up, and the groups
of different partitions are not acknowledged in their order.)
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.base.state import State
from server.core.commands.arguments import integer
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, CommandSpec
from server.core.messages.questions import WRITTEN, Period
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers

PAUSE_MS_MIN, PAUSE_MS_MAX = 2, 100
NEVER_MS = 1 << 40


def _wait(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """WAIT numreplicas timeout: the replicas beside the coordinator that hold every write of this connection."""
    asked, timeout_ms, state = integer(args[1]), timeout_of(args[2]), services.state
    least, since_ms = begin_wait(session_of(sink), state)
    replicas = state.layout.effective_n if state.layout is not None else 1
    if asked <= least - 1 or least >= replicas or sink.denies_blocking:
        return resp.integer(max(least - 1, 0))
    more = _more(services, min(asked + 1, replicas), least, since_ms, timeout_ms)
    services.run_steps(more, sink, number, is_counted=False)  # it may last for ever, and has nothing to finish
    return None


def timeout_of(text: bytes) -> int:
    """The timeout of WAIT or WAITAOF in ms; 0: none. Raises CommandError as Redis does."""
    timeout_ms = integer(text, "ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    return timeout_ms


def begin_wait(session: Session, state: State) -> tuple[int, int]:
    """Begins the next period of a connection. Returns the least W of the writes of the one that ends, and its beginning."""
    session.note_write_quorum(session.write_quorum or state.write_quorum)
    least, session.least_write_quorum = session.least_write_quorum, 0
    since_ms, session.waited_ms = session.waited_ms, state.now_ms
    return least, since_ms


def _more(services: Services, wanted: int, least: int, since_ms: int, timeout_ms: int) -> Steps:
    """Waits until `wanted` replicas, the coordinators included, have all writes; `least` have them for sure."""
    state = services.state
    began_ms = state.now_ms
    end_ms = began_ms + (timeout_ms or NEVER_MS)
    pause_ms = PAUSE_MS_MIN
    while True:
        copies, is_open = yield from confirmed_copies(services, since_ms, began_ms, end_ms)
        if copies >= wanted or not is_open or state.now_ms >= end_ms:
            return resp.integer(max(copies, least, 1) - 1)
        yield services.timers.sleep_until(min(state.now_ms + pause_ms, end_ms))
        pause_ms = min(2 * pause_ms, PAUSE_MS_MAX)


def confirmed_copies(
    services: Services, since_ms: int, until_ms: int, end_ms: int
) -> Generator[Step, Any, tuple[int, bool]]:
    """On how many replicas all writes of a period are, as far as all members know, and whether there may be more soon."""
    state = services.state
    if state.layout is None:
        return 0, False
    since_ago_ms = state.now_ms - since_ms + state.config.request_timeout_ms
    period = Period(since_ago_ms, state.now_ms - until_ms, state.layout.effective_n)
    members = [member.id for member in state.layout.members]
    answers: Answers = yield services.questions.ask(members, WRITTEN, period, max(end_ms - state.now_ms, 1))
    told = [answers[member] for member in members if answers.get(member)]
    copies = min([copies for copies, _ in told], default=0) if len(told) == len(members) else 0
    return copies, copies > 0 and any(is_open for _, is_open in told)


def written(services: Services, period: Period) -> tuple[int, bool]:
    """Answers WRITTEN: on how many replicas the writes of a period are that this node has coordinated, and whether some of
    them are open. 0 replicas: it has started since, and does not know."""
    state = services.state
    since_ms = state.now_ms - period.since_ago_ms
    if services.process.started_ms > since_ms:
        return 0, False
    return services.writes.least_copies(since_ms, state.now_ms - period.until_ago_ms, period.most)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "wait",
        3,
        ALONE,
        _wait,
        "Waits until this connection's writes are on so many replicas beside the coordinator; returns on how many.",
        "generic",
        "noscript connection",
        since="3.0.0",
        arguments="numreplicas timeout",
    ),
)
