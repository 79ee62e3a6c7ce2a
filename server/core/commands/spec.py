"""What a command is: the facts that COMMAND tells clients, how it may overlap with others, and the function that runs it.

Theory. A client that pipelines expects its commands to take effect in order. The kinds below say which commands may run
side by side on one connection without anybody being able to tell (see base/lanes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.core.base.sinks import Sink
from server.core.services.services import Services

# Runs a command for an asker under a number. Answers the reply, or None when the sink will get it later.
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
    `usual_count` is that of a hot command whose handler answers through the sink: such calls take a short cut.
    `is_exclusive` says of a WRITE's arguments whether they make it EXCLUSIVE: it reads first, or takes several turns.
    `once` says of a command's arguments whether running it twice could be told: such a one does not go to the next owner
    when its coordinator is lost. `access` is what it does with its keys, in the words of Redis' key specifications; `tips`
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
        """Whether it reads or writes keys; by Redis' flag for what a node answers whose data are of no use."""
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
