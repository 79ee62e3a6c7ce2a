"""What the core asks of an engine for scripts. server/scripting/ has the engine, which runs Lua; tests may have another.

Theory. A script is a function of its keys, its arguments and the replies of its commands: it sees no clock but by a
command, and its random numbers begin with a seed. So a run that was stopped can begin again and does the same. A run within
a turn has a budget of some milliseconds; the engine stops a script that spends it. Then nothing the script did counts,
and it begins anew in a worker (workers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

# Runs a command of a script; returns the encoded reply. What it raises ends the script, and comes out of the engine.
Call = Callable[[list[bytes], bool], bytes]
# Why a script was stopped: it has spent its budget, its processor time, or its memory, or the host wanted it.
BUDGET: Final = "budget"
TIME: Final = "time"
MEMORY: Final = "memory"
HOST: Final = "host"
WHOLE: Final = "whole"  # one function that cannot be stopped could cost more than a run in a worker may
# The flags of scripts (https://redis.io/docs/latest/develop/interact/programmability/lua-api/#script_flags).
NO_WRITES: Final = "no-writes"
ALLOW_OOM: Final = "allow-oom"
ALLOW_STALE: Final = "allow-stale"
NO_CLUSTER: Final = "no-cluster"
ALLOW_CROSS_SLOT_KEYS: Final = "allow-cross-slot-keys"
FLAGS: Final = (NO_WRITES, ALLOW_OOM, ALLOW_STALE, NO_CLUSTER, ALLOW_CROSS_SLOT_KEYS)


class Function(NamedTuple):
    """What a library says of a function that it registers."""

    name: bytes
    description: bytes | None
    flags: tuple[str, ...]


class Program(NamedTuple):
    """What is to run: a script; or a function of a library, whose text is `text`. `sha` is the SHA1 of the whole text,
    of which `text` may lack the first line."""

    sha: bytes
    text: bytes
    function: bytes = b""


class ScriptError(Exception):
    """A text that cannot be compiled; `args[0]` is the error for the client, as bytes."""


class Stopped(Exception):
    """A script was stopped; `args[0]` says why."""


class Limits(NamedTuple):
    """What a run may spend, and how it reaches what is no command.

    `instructions_max`: instructions of the interpreter, one command counting as 1,000. The processor time of the run and
    its commands is limited to twice what so many simple instructions take on a fast machine. `whole_max`: what one function
    that cannot be stopped may cost, in the same unit. `seed` starts the random numbers of the run. `log` gets a level (0
    debug to 3 warning) and a text; `may_run` says whether the user may run a command, None if there is no such command.
    `in_worker`: nobody waits for the thread of this run. It has no budget, and ends once its clock shows infinity.
    """

    instructions_max: float
    whole_max: float
    seed: int
    log: Callable[[int, bytes], None]
    may_run: Callable[[list[bytes]], bool | None]
    in_worker: bool = False


class ScriptEngine(Protocol):
    """Runs scripts, one at a time, within a turn."""

    def compile(self, sha: bytes, text: bytes) -> None:
        """Compiles a script. Raises ScriptError."""

    def load(self, sha: bytes, text: bytes, limits: Limits) -> list[Function]:
        """Compiles a library, and runs its text; returns the functions that it registers. Raises ScriptError, Stopped."""

    def run(
        self, program: Program, keys: Sequence[bytes], args: Sequence[bytes], call: Call, limits: Limits, resp3: bool
    ) -> bytes:
        """Runs a program; returns the encoded reply, which may be an error. Raises Stopped, and what `call` raises."""
