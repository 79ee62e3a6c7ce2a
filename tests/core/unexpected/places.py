"""Raises an exception at any call that the core makes while it serves a command: the fuzz of test_commands.py.

Theory. `sys.settrace` is told of each call, and an exception that it raises comes up in the called function as if its first
line had raised. So a recorded run tells the places (a function, and who called it), and for each place another run raises
there, once. While it raises it notes whether a command's own code was on the stack, and whether anything had been stored
since that began: with that the rule of base/unexpected.py says what must follow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

from server.core.base.unexpected import PlantedFault
from server.core.node import Node

CORE = "/server/core/"
_HOUSE = (
    "unexpected.py",
    "errors.py",
    "config.py",
)  # what answers for the failed command, or fails before there is a node
_BEGINNERS = (
    "_run_hot",
    "execute",
    "run_all",
    "_step",
    "_complete",
    "_reply",
    "_joined",
)  # who calls commands' own code
_COMMANDS = ("/core/commands/", "/core/chains.py")
Place = tuple[CodeType, CodeType]


@cache
def _is_watched(code: CodeType) -> bool:
    """Whether calls of a function are places. It is asked at each call, of the same few thousand functions."""
    return CORE in code.co_filename and not code.co_filename.endswith(_HOUSE)


def _is_own_code(frame: FrameType) -> bool:
    """Whether a frame is the beginning of a command's own code."""
    code, caller = frame.f_code, frame.f_back
    if caller is None or caller.f_code.co_name not in _BEGINNERS or code.co_name == "answer":  # the last: a sink's
        return False
    if code.co_filename.endswith("/core/commands/execution.py"):
        return False
    return any(part in code.co_filename for part in _COMMANDS)


class Fault:
    """Raises at `place`, once, while it watches; without one it only notes all places that it sees."""

    def __init__(self, node: Node, place: Place | None = None) -> None:
        self.places: dict[Place, None] = {}
        self.raised = False
        self.is_commands = False  # it was raised in a command's own code
        self.has_stored = False  # after that had stored something
        self._node = node
        self._place = place
        self._begun: dict[FrameType, int] = {}  # own code on the stack, and how much had been stored before it

    def watch(self, work: Callable[[], object]) -> object:
        """Does `work`, and whatever this fault raises meanwhile comes up in it."""
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            return work()
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, event: str, arg: Any) -> None:
        code, caller = frame.f_code, frame.f_back
        if not _is_watched(code) or caller is None or self.raised:
            return
        if _is_own_code(frame):
            self._begun[frame] = self._node.state.records.changes
        place = (code, caller.f_code)
        self.places[place] = None
        if place == self._place:
            self.raised = True
            self._judge(frame)
            raise PlantedFault(f"in {code.co_name}, called by {caller.f_code.co_name}")

    def _judge(self, frame: FrameType | None) -> None:
        while frame is not None:
            if frame in self._begun:
                self.is_commands = True
                self.has_stored = self._node.state.records.changes != self._begun[frame]
                return
            frame = frame.f_back
