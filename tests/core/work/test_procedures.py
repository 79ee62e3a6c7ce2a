"""Commands of several steps: how a generator is resumed, who gets its answer, and how it ends when something fails."""

from __future__ import annotations

from typing import Any

import pytest

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Sink
from server.core.base.unexpected import Fatal
from server.core.records.versions import DamagedRecord
from server.core.work.procedures import Procedure, Step, Steps
from tests.core.repair.machines import Machine, Machines, record_of


class Asker(Sink):
    """A sink that keeps its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.resp3 = self.relayed = True
        self.read_quorum = 1
        self.write_quorum = 3
        self.answers: list[tuple[int, Reply]] = []

    def answer(self, number: int, reply: Reply) -> None:
        self.answers.append((number, reply))


class Run:
    """One procedure over one machine. Its steps say `wait()` to be resumed by the test with `go(result)`."""

    def __init__(self) -> None:
        self.machine: Machine = Machines(1)[1]
        self.asker = Asker()
        self.waiting: list[Procedure] = []
        self.refusal: ErrorReply | None = None

    def wait(self) -> Step:
        return self.waiting.append

    def start(self, steps: Steps, in_background: bool = False) -> None:
        Procedure(
            self.machine.state, "it", steps, self.asker, 7, lambda: self.refusal, in_background=in_background
        ).start()

    def go(self, result: object) -> None:
        self.waiting.pop(0).resume(result)

    @property
    def replies(self) -> list[Reply]:
        assert all(number == 7 for number, _ in self.asker.answers)
        return [reply for _, reply in self.asker.answers]

    @property
    def error(self) -> str:
        [reply] = self.replies
        assert isinstance(reply, ErrorReply)
        return reply.decode().strip()


def test_it_runs_to_the_first_step_that_waits_and_is_resumed_with_its_result() -> None:
    run, seen = Run(), []

    def steps() -> Steps:
        seen.append((yield run.wait()))
        seen.append((yield run.wait()))
        return resp.OK

    run.start(steps())
    assert seen == [] and run.replies == []
    run.go("one")
    assert seen == ["one"] and run.replies == []
    run.go("two")
    assert seen == ["one", "two"] and run.replies == [resp.OK]


def test_one_without_a_reply_leaves_the_answer_to_its_last_step() -> None:
    run = Run()

    def steps() -> Steps:
        yield lambda procedure: procedure.resume(None)
        run.asker.answer(7, b"+by itself\r\n")
        return None

    run.start(steps())
    assert run.replies == [b"+by itself\r\n"]


def test_steps_that_end_at_once_do_not_deepen_the_stack() -> None:
    run = Run()

    def steps() -> Steps:
        total = 0
        for number in range(20_000):
            total += yield lambda procedure, number=number: procedure.resume(number)
        return resp.integer(total)

    run.start(steps())
    assert run.replies == [resp.integer(sum(range(20_000)))]


def test_a_step_may_be_a_request_and_the_procedure_has_its_askers_settings() -> None:
    run, seen = Run(), []

    def request(procedure: Procedure) -> None:
        seen.append((procedure.resp3, procedure.relayed, procedure.read_quorum, procedure.write_quorum))
        procedure.answer(0, b"$1\r\nv\r\n")

    def nothing(procedure: Procedure) -> None:
        procedure.answer(0, b"")

    def steps() -> Steps:
        seen.append((yield request))
        seen.append((yield nothing))
        return resp.OK

    run.start(steps())
    assert seen == [(True, True, 1, 3), b"$1\r\nv\r\n", None], "an empty reply stands for nothing"


def _closing(run: Run, closed: list[str], *, then: Any = None) -> Steps:
    try:
        yield run.wait()
        if then is not None:
            raise then
        yield run.wait()
    finally:
        closed.append("closed")
    return resp.OK


def test_an_error_among_the_results_is_the_answer_and_the_end() -> None:
    run, closed = Run(), []
    steps = _closing(run, closed)  # which is closed, and not only forgotten
    run.start(steps)
    run.go(ErrorReply.of("NOQUORUM read"))
    assert run.error == "-NOQUORUM read" and closed == ["closed"] and not run.waiting


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (CommandError("BUSY wait"), "-BUSY wait"),
        (DamagedRecord("record of k is damaged"), "-ERR record of k is damaged"),
    ],
)
def test_an_expected_error_is_the_answer_in_its_own_words(raised: Exception, answer: str) -> None:
    run, closed = Run(), []
    steps = _closing(run, closed, then=raised)
    run.start(steps)
    run.go(None)
    assert run.error == answer and closed == ["closed"]
    assert run.machine.state.statistics.internal_errors == 0


def test_a_refusal_is_asked_for_before_each_step() -> None:
    run, closed = Run(), []
    steps = _closing(run, closed)  # which is closed, and not only forgotten
    run.start(steps)
    run.go(None)
    assert run.waiting and run.replies == [], "nothing is held against it yet"
    run.refusal = ErrorReply.of("TIMEOUT too late")
    run.go(None)
    assert run.error == "-TIMEOUT too late" and closed == ["closed"]


@pytest.mark.parametrize(("steps_before", "outcome"), [(0, "unwritten"), (1, "maybe-written")])
def test_what_nobody_expected_is_the_answer_to_a_client(steps_before: int, outcome: str) -> None:
    """What the steps before have stored stands, and the answer says so."""
    run = Run()

    def steps() -> Steps:
        for _ in range(steps_before):
            yield lambda procedure: procedure.resume(None)
        raise KeyError("it")

    run.start(steps())
    assert run.error.startswith("-ERR internal error") and outcome in run.error
    assert run.machine.state.statistics.internal_errors == 1


def test_what_nobody_expected_ends_the_node_once_the_step_has_stored_something() -> None:
    run = Run()

    def steps() -> Steps:
        yield lambda procedure: procedure.resume(None)
        run.machine.state.records.merge_all([bytes(6) + b"key", record_of(b"v")])
        raise KeyError("it")

    with pytest.raises(Fatal, match="it has stored something"):
        run.start(steps())
    assert run.replies == []


def test_what_nobody_expected_ends_the_node_where_no_client_waits() -> None:
    run, closed = Run(), []
    run.start(_closing(run, closed, then=KeyError("it")), in_background=True)
    with pytest.raises(Fatal, match="procedure it has failed: KeyError"):
        run.go(None)
    assert run.replies == []


def test_a_fault_is_planted_by_the_procedures_name() -> None:
    run = Run()
    run.machine.state.unexpected.plant("procedure other")
    run.start(_closing(run, []))
    run.machine.state.unexpected.plant("procedure it")
    run.go(None)
    assert run.error.startswith("-ERR internal error")
    assert list(run.machine.state.unexpected.planted) == ["procedure other"]
