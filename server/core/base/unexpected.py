"""Unexpected exceptions: which are contained and which end the node, and fault injection.

Theory. Code handles what it expects where it happens: CommandError, DamagedRecord, a lost peer. Any other exception is
a fault of this program, and the state that it leaves behind is unknown. A restart is safe (commit, then speak), so the
rule is to end the process. But then one bad request could end one node after the other. So there are two exceptions to
the rule:

    raised by                                   nothing was stored              something was stored
    a client's command, a step of its           the command is answered with    the node ends
    procedure, the code that makes its reply    ERR internal error
    a message that asks, or announces           its sender gets a refusal       the node ends
    something that is repeated
    a message that answers, or is sent once     the node ends                   the node ends
    anything else: timers, background           the node ends                   the node ends
    procedures, the end of a turn

How we know that nothing was stored. All that the promises speak of (records, hints, documents) is stored through
`Records`, which counts its changes (`Records.changes`). `Records` changes its own memory (cache, trees, counts) only
after everything that may raise. So if the count is the same as when the command or message began, memory still agrees
with what the node has promised. Other tables can hold nothing harmful: a command enters a table of requests in flight
as its last act, so an exception comes before that; an announcement only tells what the next gossip will tell again.
Answers are different. They take requests out of tables before they finish them. A request that was taken out and not
finished would never be answered. That is why an exception there ends the node.

A contained exception is counted, answered with a word that identifies it, and kept as an `Incident`, which the shell
logs with its traceback. The word is a hash of the place that raised, so all answers with the same cause lead to one
traceback.

What has ended the node would come again after the restart. So the exception that ends the node says what that was (its
`poison`), and the node refuses it for a while (quarantine.py).

Fault injection: `plant` makes the node raise an exception at a named place, once: `message STORE`, `question VOTE`,
`procedure scrub`. Only tests and the simulator use it.
"""

from __future__ import annotations

from types import TracebackType

from xxhash import xxh32_hexdigest

from server.core.base.errors import ErrorReply, internal_error
from server.core.base.poison import Poison, poison_of_command
from server.core.base.sinks import Sink
from server.core.base.statistics import Statistics
from server.core.records.records import Records

INCIDENTS_MAX = 16  # kept until the shell logs them, with the next tick


class Fatal(Exception):
    """Ends the node. Raised for an exception that was not expected and may not be contained; the core never stops it.

    `poison` is what the node was doing, if it can be known again.
    """

    def __init__(self, text: str, poison: Poison | None = None) -> None:
        super().__init__(text)
        self.poison = poison


class PlantedFault(Exception):
    """The exception that `plant` raises by default."""


class RefusedMessage(Exception):
    """Never raised: what the log shows for a message that is refused because it has ended this node."""


class Incident:
    """A contained exception: its word in answers, what the node was doing, and the exception."""

    __slots__ = ("doing", "error", "word")

    def __init__(self, word: str, doing: str, error: Exception) -> None:
        self.word = word
        self.doing = doing
        self.error = error


class Unexpected:
    """The unexpected exceptions of one node; `name` is its name, for answers."""

    def __init__(self, records: Records, statistics: Statistics, name: str) -> None:
        self._records = records
        self._statistics = statistics
        self._name = name
        self._incidents: dict[str, Incident] = {}  # by word
        self.planted: dict[str, Exception] = {}  # by the name of the place

    @property
    def changes(self) -> int:
        """`Records.changes`, for callers that do not have the records."""
        return self._records.changes

    def contain(
        self,
        error: Exception,
        changes: int,
        doing: str,
        outcome: str = "unwritten",
        sink: Sink | None = None,
        number: int = 0,
    ) -> ErrorReply:
        """Returns the reply to command `number` of `sink`, which has raised `error`.

        `changes` is the value of `Records.changes` before the command. Raises Fatal if something was stored since then.
        """
        try:
            word = self.note(error, changes, doing)
        except Fatal as fatal:
            args = None if sink is None else sink.command(number)
            if fatal.poison is None and args is not None:
                fatal.poison = poison_of_command(args)
            raise
        self._statistics.internal_errors += 1
        return internal_error(word, type(error).__name__, doing, self._name, outcome)

    def note(self, error: Exception, changes: int, doing: str) -> str:
        """Keeps a contained exception for the log, and returns its word. Raises Fatal as `contain` does."""
        if isinstance(error, Fatal):
            raise error
        if self._records.changes != changes:
            raise Fatal(f"{doing} has stored something and then raised {error!r}") from error
        word = place_of(error)
        if len(self._incidents) < INCIDENTS_MAX:
            self._incidents.setdefault(word, Incident(word, doing, error))
        return word

    def note_unmergeable(self, error: Exception) -> None:
        """Notes that a received record could not be merged. It was refused, and nothing of it was stored."""
        self.note(error, self._records.changes, "merging a record")

    def note_refused(self, message: str, peer: str) -> None:
        """Notes that a message was refused because it has ended this node before (quarantine.py)."""
        word = xxh32_hexdigest(message.encode())
        if len(self._incidents) < INCIDENTS_MAX:
            error = RefusedMessage("it has ended this node before, and is refused for a while")
            self._incidents.setdefault(word, Incident(word, f"message {message} of node {peer}", error))

    def drain_incidents(self) -> list[Incident]:
        """Returns the exceptions contained since the last call, one for each word, for the log."""
        incidents, self._incidents = self._incidents, {}
        return list(incidents.values())

    # Fault injection

    def plant(self, place: str, error: Exception | None = None) -> None:
        """Makes the node raise `error` the next time that it comes to `place`."""
        self.planted[place] = error or PlantedFault(f"planted at {place}")

    def pass_by(self, place: str) -> None:
        """The node has come to `place`: raises the exception planted there. Called only while something is planted."""
        error = self.planted.pop(place, None)
        if error is not None:
            raise error


def place_of(error: BaseException) -> str:
    """Returns a word for the place that raised an exception: equal for exceptions of the same type and stack."""
    parts = [type(error).__name__]
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        parts.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return xxh32_hexdigest(" ".join(parts).encode())


def is_planted(error: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised from, was planted by fault injection."""
    while error is not None and not isinstance(error, PlantedFault):
        error = error.__cause__
    return error is not None
