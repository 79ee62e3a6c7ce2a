"""Long computations of the ring, cut into steps so that a node can do other things between them.

Theory. Owners are computed by loops over all partitions, a second and more in a large cluster, and a node runs one thing
at a time. So such a function is a generator: it yields how much it has done since it last did, in *units* of about one
function call, and returns the result. Who waits for nothing else calls `finish`; a node runs some units in each turn
(work/computing.py). The result does not depend on where the steps were cut: all of it is a pure function of the arguments.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
Computation = Generator[int, None, Result]  # yields the units done since the last yield


def finish(computation: Computation[Result]) -> Result:
    """Runs the computation to its end, and answers its result."""
    while True:
        try:
            next(computation)
        except StopIteration as stop:
            result: Result = stop.value
            return result
