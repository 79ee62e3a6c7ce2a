"""What a command is: the facts that COMMAND tells clients, which commands it may overlap with, and the function that runs
it.

Theory. A client that pipelines expects its commands to take effect in order. The kinds below say which commands of one
connection may run concurrently without a difference that its client could see (base/lanes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from server.core.base.sinks import Sink
from server.core.commands.key_patterns import Patterns
from server.core.commands.key_specs import NOT_KEY, KeySpec, found_keys
from server.core.services.services import Services

# Runs a command for a sink, under the number that the sink knows it by. Returns the reply, or None if the sink gets it
# later.
Handler = Callable[[Services, Sink, int, list[bytes]], bytes | None]

# How a command overlaps with others of its connection, as plain integers for the hot path.
IMMEDIATE: Final = 0  # touches nothing that others in flight touch
READ: Final = 1  # beside other reads
WRITE: Final = 2  # beside other plain writes: their coordinator takes them in order
EXCLUSIVE: Final = 3  # reads, then writes: alone on its key
ALONE: Final = 4  # alone on its connection

ONE_KEY: Final = (1, 1, 1)  # the `keys` of a command whose first argument is its only key


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command, as Redis' COMMAND DOCS would describe it.

    `arity` counts the name: exact if positive, a minimum if negative. `keys` is (first, last, step) as in COMMAND INFO;
    a command whose keys are no such run has `key_specs` instead. It may have both if it does not do the same with all
    keys of the run.
    `usual_count` is the usual number of arguments of a hot command, whose handler answers through the sink: such calls take
    a fast path. They have one key, the second word, and are of the kind `overlap`.
    `overwrites`: with the usual arguments it sets its key to the third word, whatever the key holds, and replies OK.
    `is_exclusive` says of a WRITE's arguments whether they make it EXCLUSIVE: it reads first, or takes several turns.
    `once` says of a command's arguments whether it must not run twice: then it is not sent to the next owner when its
    coordinator is lost. `null_is_unsure` says of them whether the reply null means that a key had changed, and nothing was
    written: of a second attempt nobody knows that, as the first one may have changed the key.
    `access` is what it does with its `keys`, in the words of Redis' key specifications; `tips` are those of COMMAND INFO;
    `deprecated` is (since, in favour of).
    `alone_without_keys`: it may use any key if a call names none, as a script may. It needs data, whatever its flags say.
    `allowed_keys`, in a user's own table (permissions.py): which keys the user may call it with; None stands for any.
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
    overwrites: bool = False
    is_exclusive: Callable[[list[bytes]], bool] = lambda args: False
    access: str = ""
    tips: str = ""
    deprecated: tuple[str, str] = ("", "")
    once: Callable[[list[bytes]], bool] = lambda args: False
    null_is_unsure: Callable[[list[bytes]], bool] = lambda args: False
    subcommands: tuple[CommandSpec, ...] = ()
    key_specs: tuple[KeySpec, ...] = ()
    alone_without_keys: bool = False
    allowed_keys: Patterns | None = None

    def needs_data(self) -> bool:
        """Whether it needs keys. Commands with Redis' flag `stale` do not: a node whose data is stale answers them, too."""
        return self.overlap != IMMEDIATE and ("stale" not in self.flags.split() or self.alone_without_keys)

    def kind_of(self, args: list[bytes]) -> int:
        """How a command with these arguments overlaps with others."""
        if self.alone_without_keys and not self.keys_of(args):
            return ALONE
        return EXCLUSIVE if self.overlap == WRITE and self.is_exclusive(args) else self.overlap

    def accepts(self, count: int) -> bool:
        """Whether `count` arguments, the name included, fit the arity."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def has_keys(self) -> bool:
        """Whether some of its arguments are keys."""
        return self.keys[0] > 0 or any(spec.access != NOT_KEY for spec in self.key_specs)

    def key_places(self, args: list[bytes]) -> Sequence[int]:
        """The places of the keys among a command's arguments."""
        first, last, step = self.keys
        if not first:
            specs = [spec for spec in self.key_specs if spec.access != NOT_KEY]
            return [place for spec in specs for place in spec.positions(args) or ()]
        return range(first, last + 1 if last >= 0 else len(args) + last + 1, step)

    def keys_of(self, args: list[bytes]) -> list[bytes]:
        """The keys among a command's arguments."""
        first, last, step = self.keys
        if not first:
            return [key for key, _ in found_keys(self.key_specs, args)] if self.key_specs else []
        return args[first : last + 1 if last >= 0 else len(args) + last + 1 : step]
