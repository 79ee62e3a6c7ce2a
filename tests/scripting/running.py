"""A runtime for tests, and a redis-server to compare it with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from server.core.scripts.engine import Limits, Program
from server.scripting.runtime import Runtime

MEMORY_BYTES = 64 << 20
Clock = Callable[[], float]
Call = Callable[[list[bytes], bool], bytes]


def stands_still() -> float:
    """A clock for scripts that no machine is too slow for."""
    return 0.0


def no_command(args: list[bytes], resp3: bool) -> bytes:
    """A server that says OK to everything."""
    return b"+OK\r\n"


class Scripts:
    """A runtime, and what its scripts have logged."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, clock: Clock = stands_still) -> None:
        self.runtime = Runtime(memory_bytes, clock)
        self.logged: list[tuple[int, bytes]] = []

    def limits(self, instructions: float = math.inf, whole: float = math.inf) -> Limits:
        """Limits of a run; none if they are not given."""

        def log(level: int, text: bytes) -> None:
            self.logged.append((level, text))

        def may_run(args: list[bytes]) -> bool | None:
            return None if args[0] == b"sett" else True

        return Limits(instructions, whole, 0, log, may_run)

    def run(
        self,
        text: str | bytes,
        keys: Sequence[bytes] = (),
        args: Sequence[bytes] = (),
        call: Call = no_command,
        limits: Limits | None = None,
        resp3: bool = False,
    ) -> bytes:
        """Runs a script; its encoded reply."""
        data = text.encode("latin-1") if isinstance(text, str) else text
        sha = hashlib.sha1(data).hexdigest().encode()
        return self.runtime.run(Program(sha, data), list(keys), list(args), call, limits or self.limits(), resp3)
