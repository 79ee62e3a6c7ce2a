"""Bounds of the numbers and names that nodes tell each other: a value beyond its bound is refused, never adopted.

The problem. Some numbers only grow (clocks, epochs, incarnations), and a node that hears of a greater one adopts it. So a
single wrong number would stay in the cluster for good.

So each has a bound that no sound node can reach, and that leaves room for arithmetic in 64 bits. A hybrid clock reading
has the milliseconds since 1970 in its upper 44 bits: up to the year 2527.
"""

from __future__ import annotations

import re
from typing import Final

TIME_MS_MAX: Final = (1 << 44) - 1  # of wall clocks, and of incarnations, which are readings of them: the year 2527
COUNTER_MAX: Final = (1 << 60) - 1  # of hybrid clock readings, and so of dots
NUMBER_MAX: Final = (1 << 64) - 1  # of requests; the first of a process is its incarnation shifted by 20 bits
EPOCH_MAX: Final = (1 << 32) - 1  # of a layout; also of its revisions
COUNT_MAX: Final = (1 << 53) - 1  # of keys and bytes: every JSON reader reads such a number exactly
WEIGHT_MAX: Final = 1_000_000  # of a member
NODE_ID_BYTES_MAX: Final = 128

_NODE_ID: Final = re.compile(rf"[!-~]{{1,{NODE_ID_BYTES_MAX}}}")


def is_node_id(text: str) -> bool:
    """Whether `text` may be the id of a node: 1 to 128 printable ASCII characters without blanks."""
    return _NODE_ID.fullmatch(text) is not None
