"""Makes a sequence that differs as short as it can, and prints a script that reproduces it.

Commands are left out, in ever smaller pieces, as long as what is left still differs; then words of the commands that are
left. What is left runs one command a batch if it still differs so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from server.core.commands.table import find_command
from tests.wire.differential.calls import Command
from tests.wire.differential.running import Sequence_, keys_in

Batch = tuple[int, tuple[Command, ...]]
RUNS_MAX = 400
T = TypeVar("T")

_SCRIPT = '''\
"""Asks a redis-server and a node of ours the same: python script.py REDIS_PORT OUR_PORT…"""
import sys
from tests.wire.differential.servers import Asker
KEYS = {keys!r}
COMMANDS = [
{commands}
]
redis, *ours = [Asker(int(port), {protocol}) for port in sys.argv[1:]]
if KEYS:
    redis.ask((b"DEL", *KEYS)), ours[0].ask((b"DEL", *KEYS))
for node, *batch in COMMANDS:
    both = zip(batch, redis.ask_each(batch), ours[node % len(ours)].ask_each(batch))
    for command, theirs, our in both:
        print("  " if theirs == our else "* ", *command, "\\n    redis", theirs, "\\n    ours ", our)
'''


def shrunk(sequence: Sequence_, differs: Callable[[Sequence_], bool]) -> Sequence_:
    """The shortest sequence found that still differs."""
    runs = 0

    def still(batches: Sequence[Batch]) -> bool:
        nonlocal runs
        runs += 1
        return runs <= RUNS_MAX and differs(_of(sequence, batches))

    items = [(node, batch) for node, batch in sequence.batches]
    single = [(node, (command,)) for node, batch in items for command in batch]
    if still(single):
        items = single
    items = _fewer(items, still)
    for place in range(len(items)):
        node, batch = items[place]
        if len(batch) == 1:
            fixed = 2 if _is_container(batch[0]) else 1
            before, after = items[:place], items[place + 1 :]
            name, words = batch[0][:fixed], list(batch[0][fixed:])
            words = _fewer(words, lambda left: still([*before, (node, ((*name, *left),)), *after]))  # noqa: B023
            items[place] = (node, ((*name, *words),))
    return _of(sequence, items)


def _is_container(command: Command) -> bool:
    spec = find_command(list(command))
    return spec is not None and "|" in spec.name


def _of(sequence: Sequence_, batches: Sequence[Batch]) -> Sequence_:
    keys = keys_in([command for _, batch in batches for command in batch])
    return Sequence_(sequence.protocol, tuple(dict.fromkeys((*keys, *sequence.keys))), tuple(batches))


def _fewer(items: list[T], still: Callable[[list[T]], bool]) -> list[T]:
    """The items without those that can be left out, tried in halves, quarters, and so on."""
    size = max(1, len(items) // 2)
    while True:
        place = 0
        while place < len(items):
            left = items[:place] + items[place + size :]
            if still(left):
                items = left
            else:
                place += size
        if size == 1:
            return items
        size = max(1, size // 2)


def script_of(sequence: Sequence_) -> str:
    """A script that runs the sequence on both and marks what differs."""
    used = keys_in(sequence.commands())
    lines = [f"    ({node}, {', '.join(map(repr, batch))})," for node, batch in sequence.batches]
    return _SCRIPT.format(keys=tuple(used), commands="\n".join(lines), protocol=sequence.protocol)
