"""The scripts that this node knows, and the engine that runs them.

Theory. A script is known by the SHA1 of its text. Every node keeps those that its clients have sent, as Redis does: in
memory, until SCRIPT FLUSH. EVALSHA works through any node: one that does not know a script asks the others, and keeps what
it gets (commands/scripting/). The texts have a limit; past it those are forgotten that were used longest ago, and their
clients hear NOSCRIPT and send them again, as clients of Redis must be able to after a restart.

The engine is made when the first script comes, so that a node without scripts spends no memory on it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from typing import Final

from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.scripts.engine import ScriptEngine, ScriptError
from server.core.scripts.shebang import Script, script_in
from server.core.services.script_workers import ScriptWorkers
from server.core.work.timers import Timers

SHA_BYTES: Final = 40
SCRIPT_BYTES_MAX: Final = 1 << 20  # compiling more would hold up the turn: a megabyte takes some 50 ms
_LINES_MAX: Final = 1000
_NO_ENGINE: Final = "ERR this node has no engine for scripts"


class Scripts:
    """The scripts of a node by SHA1. The shell sets `make_engine`; without it there are no scripts."""

    def __init__(self, state: State, timers: Timers) -> None:
        self._state = state
        self.workers = ScriptWorkers(state, timers)
        self._texts: dict[bytes, bytes] = {}  # the last used ones at the end
        self.size_bytes = 0
        self._parsed: dict[bytes, Script] = {}
        self._engine: ScriptEngine | None = None
        self._lines: list[tuple[int, str]] = []
        self.make_engine: Callable[[], ScriptEngine] | None = None

    def engine(self) -> ScriptEngine:
        """The engine of this node. Raises CommandError if it has none."""
        if self._engine is None:
            if self.make_engine is None:
                raise CommandError(_NO_ENGINE)
            self._engine = self.make_engine()
        return self._engine

    def load(self, text: bytes) -> bytes:
        """Compiles a script and keeps it. Returns its SHA1 in hexadecimal digits. Raises CommandError."""
        if len(text) > SCRIPT_BYTES_MAX:
            raise CommandError(f"ERR a script has {SCRIPT_BYTES_MAX} bytes at most")
        sha = sha1(text, usedforsecurity=False).hexdigest().encode()
        if sha in self._texts:
            self.text_of(sha)
            return sha
        try:
            script = script_in(text)
            self.engine().compile(sha, script.body)
        except ScriptError as error:
            raise CommandError(error.args[0].decode("utf-8", "surrogateescape")) from None
        self._texts[sha], self._parsed[sha] = text, script
        self.size_bytes += len(text)
        while self.size_bytes > self._state.config.scripts_bytes_max and len(self._texts) > 1:
            oldest = next(iter(self._texts))
            self.size_bytes -= len(self._texts.pop(oldest))
            del self._parsed[oldest]
        return sha

    def text_of(self, sha: bytes) -> bytes | None:
        """The text of a script, if it is known here; it counts as used."""
        text = self._texts.pop(sha, None)
        if text is not None:
            self._texts[sha] = text
        return text

    def script(self, sha: bytes) -> Script:
        """A script that is known here."""
        return self._parsed[sha]

    def known(self, shas: list[bytes]) -> list[bool]:
        """Which of these are known here."""
        return [sha in self._texts for sha in shas]

    def count(self) -> int:
        """How many scripts are kept."""
        return len(self._texts)

    def flush(self) -> None:
        """Forgets all scripts."""
        self._texts.clear()
        self._parsed.clear()
        self.size_bytes = 0

    def log(self, level: int, text: bytes) -> None:
        """A script has logged a line; those past a limit in one turn are dropped."""
        if len(self._lines) < _LINES_MAX:
            self._lines.append((level, text.decode("utf-8", "replace")))

    def drain_lines(self) -> list[tuple[int, str]]:
        """The lines that scripts have logged since the last call: level (0 debug to 3 warning) and text."""
        lines, self._lines = self._lines, []
        return lines
