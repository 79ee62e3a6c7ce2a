"""Long computations of the ring, cut into steps so that a node can do other work in between.

Theory. Owners are computed by loops over all partitions. In a large cluster that takes a second and more, and a node
has one thread. So such a function is a generator. At each yield it says how much it has done since the last one, in
*units* of about one function call. At its end it returns the result. A node runs some units in each turn
(work/computing.py); a program that has nothing else to do calls `compute_now`. The result does not depend on where the
steps were cut, because it is a pure function of the arguments.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
Computation = Generator[int, None, Result]  # yields the units done since the last yield


def compute_now(computation: Computation[Result]) -> Result:
    """Runs a computation to its end, and returns its result."""
    while True:
        try:
            next(computation)
        except StopIteration as stop:
            result: Result = stop.value
            return result
