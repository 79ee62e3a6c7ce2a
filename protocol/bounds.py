"""Bounds of the numbers and names that nodes tell each other: what lies beyond them is refused, never adopted.

Theory. Numbers that only grow (clocks, epochs, incarnations) are followed by whoever hears of a greater one, so a single
wrong one would stay in the cluster for good. Each therefore has a bound that no sound node can reach, and that leaves room
for arithmetic in 64 bits. A hybrid clock reading has the milliseconds since 1970 in its upper 44 bits: up to the year 2527.
"""

from __future__ import annotations

import re
from typing import Final

TIME_MS_MAX: Final = (1 << 44) - 1  # the year 2527; of wall clocks, and of incarnations, which are readings of them
COUNTER_MAX: Final = (1 << 60) - 1  # of hybrid clock readings, and so of dots
NUMBER_MAX: Final = (1 << 64) - 1  # of requests; an incarnation shifted by 20 bits is one
EPOCH_MAX: Final = (1 << 32) - 1  # of a layout; its revisions and phases count as far
COUNT_MAX: Final = (1 << 53) - 1  # of keys and bytes: a JSON number that every reader takes exactly
WEIGHT_MAX: Final = 1_000_000  # of a member
NODE_ID_BYTES_MAX: Final = 128

_NODE_ID: Final = re.compile(rf"[!-~]{{1,{NODE_ID_BYTES_MAX}}}")


def is_node_id(text: str) -> bool:
    """Whether `text` may be the id of a node: printable ASCII without blanks, not too long."""
    return _NODE_ID.fullmatch(text) is not None
