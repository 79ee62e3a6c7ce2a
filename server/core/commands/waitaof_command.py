"""WAITAOF: on how many disks this connection's writes are (https://redis.io/docs/latest/commands/waitaof/).

Theory. WAIT tells how many replicas have the writes in their logs. A loss of power takes from a log what was not synced
yet, and the fsync policy says when that is done: before a replica acknowledges (`always`), within a second (`everysec`),
or when the kernel likes to (`no`; a WAITAOF asks for a sync). So first the replicas are counted as WAIT counts them. Then
each member is asked for the number of its present turn and for the last turn that it has synced (SYNCED), until the latter
reaches the former: from then on all that the member had acknowledged is on its disk. Under `always` that is so at once.

Nobody knows which members are the replicas of the writes. So a member that has not synced yet, or does not answer, takes
one away from the count: the answer is never too high. A member that is down would do so for ever. It does not count if it
cannot have acknowledged anything: if all other members answer, and none of them has heard from it since the period began.

There is no master here. Of the disks on which all writes are one is `local`, the others are `replicas`: so [1, 1] says
that two machines must lose their disks before a write is lost. Which of the disks is this node's does not matter for that.
A node whose engine is `memory` has no disk that counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, CommandSpec
from server.core.commands.wait_command import (
    NEVER_MS,
    PAUSE_MS_MAX,
    PAUSE_MS_MIN,
    begin_wait,
    confirmed_copies,
    timeout_of,
)
from server.core.messages.questions import SYNCED, Synced
from server.core.services.services import Services
from server.core.work.procedures import Steps
from server.core.work.questions import Answers

_NO_DISK = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."


def _waitaof(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """WAITAOF numlocal numreplicas timeout: whether a disk, and how many others, hold every write of this connection."""
    local, replicas = integer(args[1]), integer(args[2])
    if not 0 <= local <= 1:
        raise CommandError("ERR value is out of range, value must between 0 and 1")
    if replicas < 0:
        raise CommandError("ERR value is out of range, must be positive")
    timeout_ms, state = timeout_of(args[3]), services.state
    if local and state.config.engine == "memory":
        raise CommandError(_NO_DISK)
    least, since_ms = begin_wait(session_of(sink), state)
    if sink.denies_blocking:
        return _reply(least if state.config.fsync == "always" else 0)
    services.run_steps(_disks(services, replicas + 1 if replicas else local, least, since_ms, timeout_ms), sink, number)
    return None


def _reply(disks: int) -> bytes:
    return resp.array([resp.integer(min(max(disks, 0), 1)), resp.integer(max(disks - 1, 0))])


def _disks(services: Services, wanted: int, least: int, since_ms: int, timeout_ms: int) -> Steps:
    """Waits until all writes are on `wanted` disks; they are on `least` replicas for sure."""
    state = services.state
    began_ms = state.now_ms
    end_ms = began_ms + (timeout_ms or NEVER_MS)
    pause_ms = PAUSE_MS_MIN
    copies, is_open = 0, True
    marks: dict[str, Synced] = {}  # what the members answered once so many replicas had the writes
    while True:
        if copies < wanted and is_open:
            more, is_open = yield from confirmed_copies(services, since_ms, began_ms, end_ms)
            if more > copies or not marks:
                copies, marks = max(more, least), {}
        members = [member.id for member in state.layout.members] if state.layout is not None else []
        since_ago_ms = state.now_ms - since_ms + state.config.request_timeout_ms
        answers: Answers = yield services.questions.ask(members, SYNCED, since_ago_ms, max(end_ms - state.now_ms, 1))
        told: dict[str, Synced] = {member: answers[member] for member in members if answers.get(member)}
        for member, answer in told.items():
            marks.setdefault(member, answer)
        behind = [member for member, answer in told.items() if not _has_synced(marks[member], answer)]
        disks = copies - len(behind) - _unknown(members, told)
        is_over = not behind and not is_open and len(told) > 0
        if disks >= wanted or is_over or state.now_ms >= end_ms:
            return _reply(disks)
        yield services.timers.sleep_until(min(state.now_ms + pause_ms, end_ms))
        pause_ms = min(2 * pause_ms, PAUSE_MS_MAX)


def _has_synced(before: Synced, now: Synced) -> bool:
    return now.incarnation == before.incarnation and now.synced_turn >= before.turn


def _unknown(members: Sequence[str], told: dict[str, Synced]) -> int:
    """How many members have not answered, though they may have acknowledged something."""
    silent = [member for member in members if member not in told]
    if all(member in answer.unheard for member in silent for answer in told.values()):
        return 0 if told else len(silent)
    return len(silent)


def synced(services: Services, since_ago_ms: int) -> Synced | None:
    """Answers SYNCED: what is on the disk here, and from which members nothing has been heard for so long."""
    state = services.state
    if state.config.engine == "memory" or state.layout is None:
        return None
    turn = 0 if state.config.fsync == "always" else state.turn
    if state.synced_turn < turn:
        state.sync_wanted = True
    heard = state.liveness.is_heard
    unheard = [member.id for member in state.layout.members if not heard(member.id, since_ago_ms, state.now_ms)]
    return Synced(state.incarnation, turn, state.synced_turn, unheard)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "waitaof",
        4,
        ALONE,
        _waitaof,
        "Waits until this connection's writes are synced to so many disks; returns to how many.",
        "generic",
        "noscript connection",
        since="7.2.0",
        arguments="numlocal numreplicas timeout",
    ),
)
