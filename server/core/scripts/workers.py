"""What the core asks of a worker: a thread that runs one script at a time, with an interpreter of its own.

Theory. A script that computes for longer than a turn may last, or that waits for the replies of other nodes, runs in a
worker. The core decides everything, as for a script that runs within a turn: it begins a run, gets events, answers them.

    event    when                                           what the worker does
    Ask      the script has called a command, or asks for   waits for `answer`
             something else that only the core can tell
    End      the script has ended                           takes the next run

Events arrive as calls of `tell` within a turn of the node, never from the thread itself: to the core a worker is another
node. A test may drive a worker step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from server.core.scripts.engine import Program

CALL: Final = "call"  # `words` are a command, `option` is the version of RESP; the answer is the encoded reply
MAY_RUN: Final = (
    "may run"  # whether the user may run the command `words`; the answer is None if there is no such command
)
LOG: Final = "log"  # `words` has a text, `option` is its level; the answer is None


class Ask(NamedTuple):
    """A script waits for an answer."""

    kind: str
    words: list[bytes]
    option: int


class End(NamedTuple):
    """A script has ended: with its encoded reply; or it was `stopped`, see engine.py; or its worker has failed."""

    reply: bytes
    stopped: str = ""
    failure: BaseException | None = None


Event = Ask | End


class WorkerRun(Protocol):
    """A run that a worker has been given."""

    def answer(self, answer: bytes | bool | None) -> None:
        """Answers the last Ask."""

    def stop(self) -> None:
        """Ends the run soon; it tells nothing more."""


class Task(NamedTuple):
    """What a worker runs. `whole_max` is that of engine.Limits."""

    program: Program
    keys: Sequence[bytes]
    args: Sequence[bytes]
    seed: int
    resp3: bool
    whole_max: float


class Worker(Protocol):
    """A thread for scripts."""

    def begin(self, task: Task, tell: Callable[[Event], None]) -> WorkerRun:
        """Begins a run, once the one before it has ended, which was stopped if it has not."""
