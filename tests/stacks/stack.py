"""A stack at work, in calm and while nodes fail: threads run its rounds, one node is killed and comes back, another one is
frozen.

Theory. A round is what one request of an application does; it asserts by itself that what it reads is what it wrote. All
connections go to one node that stays well, because a stock client with one address is what the tests are about. A command
that must not run twice (INCR, SET NX) and whose coordinator dies at that moment is answered TIMEOUT, and its outcome is
unknown. Then the round has failed as it would with any server that dies. There may be few such rounds, and no other errors.

A write whose effect is the same twice is run again by the next owner. If the dead coordinator had run it, its count is 0
(dyn-commands(7)). Rounds count such answers with `told`, and look at what is there instead.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Protocol

from tests.wire.cluster import WireCluster, wait_for

THREADS = 3
ROUNDS = 20  # of each thread in each phase
PHASE_S = 120
UNKNOWN_MAX = 2 * THREADS  # commands that may be under way when a node dies or freezes
REPEATED_MAX = 3 * UNKNOWN_MAX  # those of pipelines
CALM_ROUNDS = 5


class Stack(Protocol):
    """One way in which applications use Redis, through the node at `port`."""

    packages: tuple[str, ...] = ()  # as their registry names them
    repeated = 0  # writes that were run twice

    def __init__(self, port: int) -> None: ...

    def told(self, count: int, wanted: int) -> None:
        """Counts an answer that is less than it should be: the command was run twice."""
        assert 0 <= count <= wanted
        self.repeated += count < wanted

    def round(self, thread: int, number: int) -> None:
        """What one request does. AssertionError if it reads something else than it wrote."""

    def judge(self, rounds: int, unknown: int) -> None:
        """Looks at the whole at the end: so many rounds are done, and of so many commands the outcome is unknown."""
        assert rounds


def is_unknown(error: BaseException | None) -> bool:
    """Whether a command was answered TIMEOUT: the library tells so in its error, or in one that it has caught."""
    while error is not None:
        if "TIMEOUT" in str(error):  # in a pipeline it stands behind the command
            return True
        error = error.__cause__ or error.__context__
    return False


class _Worker(threading.Thread):
    def __init__(self, stack: Stack, place: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.rounds = self.unknown = 0
        self.failure: BaseException | None = None
        self._stack, self._place, self._halt = stack, place, stop

    def run(self) -> None:
        number = 0
        while not self._halt.is_set():
            number += 1
            try:
                self._stack.round(self._place, number)
                self.rounds += 1
            except Exception as error:  # noqa: BLE001
                if not is_unknown(error):
                    self.failure = error
                    return
                self.unknown += 1

    def has_done(self, goal: int) -> bool:
        """Whether it has done so many rounds."""
        if self.failure is not None:
            raise self.failure
        return self.rounds >= goal


def work_in_calm(stack: Stack) -> None:
    """The stack works in a healthy cluster: no error, and nothing is done twice."""
    for number in range(CALM_ROUNDS):
        stack.round(0, number)
    assert not stack.repeated
    stack.judge(CALM_ROUNDS, 0)


def work_under_faults(cluster: WireCluster, stack: Stack) -> None:
    """The stack works while nothing happens, while a node is dead, while another is frozen, and when all are back."""
    stop = threading.Event()
    workers = [_Worker(stack, place, stop) for place in range(THREADS)]
    for worker in workers:
        worker.start()
    _, victim, sleeper = cluster.nodes

    def more() -> None:
        for worker, goal in [(worker, worker.rounds + ROUNDS) for worker in workers]:
            wait_for(partial(worker.has_done, goal), f"{goal} rounds of one thread", PHASE_S)

    try:
        more()
        victim.kill()
        more()
        victim.start()
        cluster.wait_healthy()  # from then on another one may fail
        with sleeper.frozen():
            more()
        more()
    finally:
        stop.set()
        for worker in workers:
            worker.join(30)
    for worker in workers:
        assert not worker.is_alive(), "a thread hangs"
        worker.has_done(0)
    unknown = sum(worker.unknown for worker in workers)
    assert unknown <= UNKNOWN_MAX, unknown
    assert stack.repeated <= REPEATED_MAX, stack.repeated
    stack.judge(sum(worker.rounds for worker in workers), unknown)
