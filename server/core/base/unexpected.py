"""What no code expected: which of it is contained, which of it ends the node, and raising it on purpose (DESIGN §13).

Theory. Code handles what it expects where it happens: CommandError, DamagedRecord, a peer that is lost. Any other exception
is a fault in this program, and nobody knows what it has left behind. A restart is safe (commit, then speak), so the rule is
to end the process. Two exceptions to the rule keep one request from ending one node after the other:

    raised by                                   nothing was stored              something was stored
    a client's command, a step of its           the command is answered with    the node ends
    procedure, what makes its reply             ERR internal error
    a message that asks or announces            it is refused to its sender     the node ends
    a message that answers, or is said once     the node ends                   the node ends
    anything else: timers, background           the node ends                   the node ends
    procedures, the end of a turn

How we know that nothing was stored. Promises speak of records, hints and documents, and all of them go through
`Records`, which counts its changes (`Records.changes`). `Records` changes its own memory (cache, trees, counts) only after
everything that may raise. So if that count is what it was when the command or message began, then memory still agrees with
what the node has promised. What remains in other tables is harmless: a command enters a table of requests in flight as its
last act, so an exception comes before that, and announcements only repeat what the next gossip says again. Messages that
answer are different: they take requests out of tables before they finish them, and a request that was taken out and not
finished would never be answered. That is why an exception there ends the node.

A contained exception is counted, answered in words, and kept as an `Incident`, which the shell logs with its traceback. The
word in the answer is a hash of the place that raised, so that all answers with the same cause lead to the same traceback.

`plant` raises an exception at a named place, once: `message STORE`, `question VOTE`, `procedure scrub`. Tests and the
simulator do so; nothing else does.
"""

from __future__ import annotations

from types import TracebackType

from xxhash import xxh32_hexdigest

from server.core.base.errors import ErrorReply, internal_error
from server.core.base.statistics import Statistics
from server.core.records.records import Records

INCIDENTS_MAX = 16  # kept until the shell takes them, with the next tick


class Fatal(Exception):
    """Ends the node: raised from what was not expected and may not be contained. Nobody catches it in the core."""


class PlantedFault(Exception):
    """What `plant` raises unless it is told otherwise."""


class Incident:
    """A contained exception: the word that answers name it by, what was being done, and the exception."""

    __slots__ = ("doing", "error", "word")

    def __init__(self, word: str, doing: str, error: Exception) -> None:
        self.word = word
        self.doing = doing
        self.error = error


class Unexpected:
    """The unexpected exceptions of one node. `name` is the node's, for answers."""

    def __init__(self, records: Records, statistics: Statistics, name: str) -> None:
        self._records = records
        self._statistics = statistics
        self._name = name
        self._incidents: dict[str, Incident] = {}  # by word
        self.planted: dict[str, Exception] = {}  # by place

    @property
    def changes(self) -> int:
        """`Records.changes`, for those who do not have the records."""
        return self._records.changes

    def contain(self, error: Exception, changes: int, doing: str, outcome: str = "unwritten") -> ErrorReply:
        """The answer to a client's command that has raised `error`. `changes` is what `Records.changes` was before.

        Raises Fatal if something was stored since."""
        word = self.note(error, changes, doing)
        self._statistics.internal_errors += 1
        return internal_error(word, type(error).__name__, doing, self._name, outcome)

    def note(self, error: Exception, changes: int, doing: str) -> str:
        """Keeps a contained exception for the log, and answers its word. Raises Fatal as `contain` does."""
        if isinstance(error, Fatal):
            raise error
        if self._records.changes != changes:
            raise Fatal(f"{doing} has stored something and then raised {error!r}") from error
        word = place_of(error)
        if len(self._incidents) < INCIDENTS_MAX:
            self._incidents.setdefault(word, Incident(word, doing, error))
        return word

    def note_unmergeable(self, error: Exception) -> None:
        """Two records could not be joined: the one that came was refused, and nothing of it was stored."""
        self.note(error, self._records.changes, "merging a record")

    def drain_incidents(self) -> list[Incident]:
        """The exceptions contained since the last call, one for each word, for the log."""
        incidents, self._incidents = self._incidents, {}
        return list(incidents.values())

    # Fault injection

    def plant(self, place: str, error: Exception | None = None) -> None:
        """The next time that the node comes to `place` it raises `error`."""
        self.planted[place] = error or PlantedFault(f"planted at {place}")

    def pass_by(self, place: str) -> None:
        """The node has come to `place`: raises what is planted there. Called only while something is planted."""
        error = self.planted.pop(place, None)
        if error is not None:
            raise error


def place_of(error: BaseException) -> str:
    """A word for the place where an exception was raised: the same for all with the same type and the same stack."""
    parts = [type(error).__name__]
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        parts.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return xxh32_hexdigest(" ".join(parts).encode())


def is_planted(error: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised from, was planted."""
    while error is not None and not isinstance(error, PlantedFault):
        error = error.__cause__
    return error is not None
