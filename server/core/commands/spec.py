"""What a command is: the facts that COMMAND tells clients, which commands it may overlap with, and the function that runs
it.

Theory. A client that pipelines expects its commands to take effect in order. The kinds below say which commands of one
connection may run concurrently without a difference that its client could see (base/lanes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.core.base.sinks import Sink
from server.core.services.services import Services

# Runs a command for a sink, under the number that the sink knows it by. Answers the reply, or None if the sink gets it
# later.
Handler = Callable[[Services, Sink, int, list[bytes]], bytes | None]

# How a command overlaps with others of its connection, as plain integers for the hot path.
IMMEDIATE = 0  # touches nothing that others in flight touch
READ = 1  # beside other reads
WRITE = 2  # beside other plain writes: their coordinator takes them in order
EXCLUSIVE = 3  # reads, then writes: alone on its key
ALONE = 4  # alone on its connection


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command, as Redis' COMMAND DOCS would describe it.

    `arity` counts the name: exact if positive, a minimum if negative. `keys` is (first, last, step) as in COMMAND INFO.
    `usual_count` is the usual number of arguments of a hot command, whose handler answers through the sink: such calls take
    a fast path.
    `is_exclusive` says of a WRITE's arguments whether they make it EXCLUSIVE: it reads first, or takes several turns.
    `once` says of a command's arguments whether it must not run twice: then it is not sent to the next owner when its
    coordinator is lost. `access` is what it does with its keys, in the words of Redis' key specifications; `tips`
    are those of COMMAND INFO; `deprecated` is (since, in favour of).
    """

    name: str
    arity: int
    overlap: int
    handler: Handler
    summary: str
    group: str
    flags: str = ""
    keys: tuple[int, int, int] = (0, 0, 0)
    since: str = "1.0.0"
    complexity: str = "O(1)"
    arguments: str = ""
    usual_count: int = -1
    is_exclusive: Callable[[list[bytes]], bool] = lambda args: False
    access: str = ""
    tips: str = ""
    deprecated: tuple[str, str] = ("", "")
    once: Callable[[list[bytes]], bool] = lambda args: False
    subcommands: tuple[CommandSpec, ...] = ()

    def needs_data(self) -> bool:
        """Whether it needs keys. Commands with Redis' flag `stale` do not: a node whose data is stale answers them, too."""
        return self.overlap != IMMEDIATE and "stale" not in self.flags.split()

    def kind_of(self, args: list[bytes]) -> int:
        """How a command with these arguments overlaps with others."""
        return EXCLUSIVE if self.overlap == WRITE and self.is_exclusive(args) else self.overlap

    def accepts(self, count: int) -> bool:
        """Whether `count` arguments, the name included, fit the arity."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def keys_of(self, args: list[bytes]) -> list[bytes]:
        """The keys among a command's arguments."""
        first, last, step = self.keys
        if not first:
            return []
        return args[first : len(args) if last < 0 else last + 1 : step]
