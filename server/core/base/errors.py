"""Error replies: Redis' own texts where Redis has one, and our own, whose first word is the code.

An `ErrorReply` is the encoded reply, as a type of its own. So a command with several steps can tell an error from a
result without parsing it.

A `Failure` is an error whose outcome matters: whether something was written, or may have been. Its parts stay apart until
it is encoded, and the encoded reply keeps it. So whoever retries a command can say what is known of both attempts. An
error that came from another node has only its text; `Failure.read` takes that apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mypy_extensions import mypyc_attr

from protocol import resp
from server.core.base.quorum import Tally


@mypyc_attr(native_class=False)  # compiled classes cannot inherit from a builtin
class ErrorReply(bytes):
    """An encoded error, ready for the socket. `failure` is what it was encoded from, if that was a `Failure`."""

    failure: Failure | None = None

    @classmethod
    def of(cls, message: str) -> ErrorReply:
        """Encodes an error; `message` begins with the code, as in `ERR syntax error`."""
        return cls(resp.error(message))


EXPLAINED = {
    "unwritten": "nothing was written",
    "maybe-written": "the write may survive on the nodes that acknowledged it",
    "unread": "nothing was read",
}
_FAILURE = re.compile(
    r"(?P<what>.*?): (?:got=(?P<got>\d+) wanted=(?P<wanted>\d+) hinted=(?P<hinted>\d+) )?outcome=(?P<outcome>[a-z-]+)"
    r"(?:: (?P<details>.*))?",
    re.DOTALL,
)
_FOR = " for "  # between what has failed and the command of the client
_NAME_BYTES = 32
_MAYBE_BEFORE = "a node that has not answered may have written it before"


class Failure:
    """A command that has failed, and what is known of its outcome.

    what      the code and what has failed, as in `NOQUORUM write`
    counts    acknowledgements got, and wanted, and hints kept; None if the command was not that far
    outcome   a key of `EXPLAINED`; empty if the command was refused, for a reason that has no outcome
    reason    why it has failed; may be empty
    advice    what the client or the operator may do; may be empty
    """

    def __init__(
        self,
        what: str,
        counts: tuple[int, int, int] | None,
        outcome: str,
        reason: str = "",
        advice: str = "",
        explanation: str | None = None,
    ) -> None:
        """`explanation` takes the place of that in `EXPLAINED`."""
        self.what = what
        self.counts = counts
        self.outcome = outcome
        self.reason = reason
        self.advice = advice
        self.explanation = EXPLAINED.get(outcome, "") if explanation is None else explanation

    def reply(self) -> ErrorReply:
        """Returns the encoded error."""
        facts = "got={} wanted={} hinted={} ".format(*self.counts) if self.counts is not None else ""
        text = f"{self.what}: {facts}outcome={self.outcome}" if self.outcome else self.what
        details = "; ".join([part for part in (self.reason, self.explanation, self.advice) if part])
        encoded = ErrorReply.of(f"{text}: {details}" if details else text)
        encoded.failure = self
        return encoded

    @staticmethod
    def read(reply: bytes) -> Failure:
        """Returns the failure of an error reply, of this node or of another one, which may run an earlier version."""
        if isinstance(reply, ErrorReply) and reply.failure is not None:
            return reply.failure
        text = reply[1:].removesuffix(b"\r\n").decode("utf-8", "surrogateescape")
        found = _FAILURE.fullmatch(text)
        if found is None or found["outcome"] not in EXPLAINED:
            return Failure(text, None, "")
        counts = (int(found["got"]), int(found["wanted"]), int(found["hinted"])) if found["got"] else None
        outcome, details = found["outcome"], found["details"] or ""
        reasons = [part for part in details.split("; ") if not part.startswith(EXPLAINED[outcome])]
        return Failure(found["what"], counts, outcome, "; ".join(reasons))

    def after_lost_attempt(self) -> Failure:
        """Returns the failure of a write whose first attempt may have succeeded, on a coordinator that was lost."""
        what = self.what
        if not self.outcome and what.startswith("CLUSTERDOWN "):
            # Cluster clients send a command again by themselves after CLUSTERDOWN. This write may have happened.
            what = what.replace("CLUSTERDOWN ", "ERR ", 1)
        return Failure(what, self.counts, "maybe-written", self.reason, self.advice, _MAYBE_BEFORE)


@mypyc_attr(allow_interpreted_subclasses=True)
class CommandError(Exception):
    """Raised by a command to answer with an error, given as text that begins with its code, or as a failure."""

    def __init__(self, error: str | Failure) -> None:
        super().__init__(error if isinstance(error, str) else error.what)
        self.reply = ErrorReply.of(error) if isinstance(error, str) else error.reply()


class NoLayout(CommandError):
    """This node has not joined a cluster, or has left it; `reply` says which."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__("NOLAYOUT")
        self.reply = reply


class QuorumUnreachable(CommandError):
    """Too few replicas for a write can be reached or have room: the write is refused, and nothing was written."""

    def __init__(self, tally: Tally, full: Sequence[str] = ()) -> None:
        super().__init__("DISKFULL" if full else "NOQUORUM")
        self.reply = disks_full(tally, full) if full else no_quorum(tally, "write", "unwritten")


SYNTAX = "ERR syntax error"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
_SHOWN_BYTES = 128  # how much of a client's command an error shows
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
BUSY = ErrorReply.of("BUSY this node has as many requests in flight as it is allowed to: try again later")
WRONG_TYPE = ErrorReply.of(WRONGTYPE)
NO_LAYOUT = ErrorReply.of("ERR this node is not part of a cluster yet: run `dyn cluster init` or `dyn up` first")


def has_left(name: str, epoch: int) -> ErrorReply:
    """Node `name` was a member once. CLUSTERDOWN makes cluster clients ask for CLUSTER SLOTS again."""
    return ErrorReply.of(
        f"CLUSTERDOWN node {name} has left its cluster at epoch {epoch}: use another node of the cluster"
    )


def refused_as_duplicate(reason: str) -> ErrorReply:
    """The members refuse this process, because they believe that it runs on a copy of a node's directory."""
    return ErrorReply.of(f"CLUSTERDOWN this process serves no requests, because the cluster refuses it: {reason}")


def has_gone_back(name: str) -> ErrorReply:
    """Node `name` runs on an older copy of its directory, and the others refuse it."""
    return ErrorReply.of(
        f"CLUSTERDOWN node {name} runs on an older copy of its directory, and other members refuse it: use "
        "another node of the cluster"
    )


def is_leaving(name: str) -> ErrorReply:
    """Node `name` is about to leave its cluster, and begins no more commands, because it could not finish them."""
    return ErrorReply.of(f"CLUSTERDOWN node {name} is leaving its cluster: use another node of the cluster")


def of_earlier_version(node: str, command: str) -> ErrorReply:
    """The node that coordinates a key does not know the command."""
    return ErrorReply.of(
        f"ERR node {node}, which coordinates this key, runs an earlier version that does not know {command}: nothing was "
        "changed. Upgrade that node, and use the command again"
    )


def wrong_arity(name: str) -> ErrorReply:
    """Redis' text for a wrong number of arguments. The `name` of a subcommand is like `client|list`."""
    return ErrorReply.of(f"ERR wrong number of arguments for '{name}' command")


def unknown_command(args: Sequence[bytes]) -> ErrorReply:
    """Redis' text for an unknown command; it shows the first arguments."""
    shown = b""
    for arg in args[1:]:
        if len(shown) >= _SHOWN_BYTES:
            break
        shown += b"'%b' " % _as_c_string(arg, _SHOWN_BYTES - len(shown))
    text = b"ERR unknown command '%b', with args beginning with: %b" % (_as_c_string(args[0], _SHOWN_BYTES), shown)
    return ErrorReply.of(text.decode("utf-8", "surrogateescape"))


def _as_c_string(text: bytes, bytes_max: int) -> bytes:
    """Cuts a text at its first zero byte, as C's printf does."""
    return text.partition(b"\0")[0][:bytes_max]


def unknown_subcommand(container: str, args: Sequence[bytes]) -> ErrorReply:
    """Redis' text for an unknown subcommand of a container command."""
    name = _as_c_string(args[1], _SHOWN_BYTES).decode("utf-8", "surrogateescape")
    return ErrorReply.of(f"ERR unknown subcommand '{name}'. Try {container.upper()} HELP.")


def no_quorum(tally: Tally, operation: str, outcome: str) -> ErrorReply:
    """Too few replicas could be reached. `outcome` is unwritten, maybe-written or unread."""
    return _quorum_error("NOQUORUM", tally, operation, outcome)


def no_read_quorum(replicas: str, got: int, wanted: int, count: int) -> Failure:
    """Too few of the `count` replicas have answered a question that reads keys. `replicas`: how an error calls them."""
    reason = f"{got} of {count} {replicas} answered, {wanted} are needed"
    return Failure("NOQUORUM read", (got, wanted, 0), "unread", reason)


def node_stands_still(name: str, timeout_ms: int) -> ErrorReply:
    """The node stood still during each attempt of a read (base/pauses.py), for as long as a request may take."""
    reason = f"node {name} has stood still again and again for {timeout_ms} ms, so that what it read was outdated"
    return Failure("TIMEOUT read", None, "unread", reason, "try again, through another node").reply()


def read_failed(error: ErrorReply, args: list[bytes] | None) -> ErrorReply:
    """Returns the reply to a command whose read has met too few replicas, or none in time: the error of the read, with the
    name of the client's command. Any other error is returned as it is."""
    name = args[0][:_NAME_BYTES].decode("latin-1").upper() if args else ""
    if not name or name.startswith("DYN."):  # DYN.EVAL and others are sent by nodes only
        return error
    failure = Failure.read(error)
    if failure.outcome != "unread" or not failure.what.startswith(("NOQUORUM read", "TIMEOUT read")):
        return error
    what = f"{failure.what.partition(_FOR)[0]}{_FOR}{name}"  # a step may be a command, too, which no client knows
    return Failure(what, failure.counts, "unread", failure.reason, failure.advice).reply()


def disks_full(tally: Tally, names: Sequence[str]) -> ErrorReply:
    """Too few replicas have room for a write; `names` are the nodes without room."""
    counts, reason = (tally.got, tally.wanted, 0), f"there is no room on {', '.join(names)}"
    return Failure("DISKFULL write", counts, "unwritten", reason, "free some disk space there").reply()


def timed_out(tally: Tally, operation: str, outcome: str, timeout_ms: int) -> ErrorReply:
    """The quorum was not met by the deadline."""
    return _quorum_error("TIMEOUT", tally, f"{operation} within {timeout_ms} ms", outcome)


def _quorum_error(code: str, tally: Tally, operation: str, outcome: str) -> ErrorReply:
    counts = tally.got, tally.wanted, tally.hinted
    reason = f"{tally.got} of {tally.replicas} replicas answered, {tally.wanted} are needed"
    return Failure(f"{code} {operation}", counts, outcome, reason).reply()


def damaged_here(name: str, error: Exception) -> ErrorReply:
    """The record that a write would supersede is damaged on its coordinator, and could not be mended in time."""
    reason = "its other owners have it and could not be asked in time"
    return Failure(f"ERR node {name}: {error}", (0, 1, 0), "unwritten", reason, "try again").reply()


def covered_refused(refusal: str) -> ErrorReply:
    """This node could not store a record that its coordinator has stored, so one replica has the write (P5)."""
    return Failure(refusal, (1, 2, 0), "maybe-written").reply()


def internal_error(word: str, error: str, doing: str, name: str, outcome: str) -> ErrorReply:
    """A command has raised an unexpected exception (unexpected.py). The log of node `name` has it under `word`."""
    advice = f"the log of node {name} has the traceback under {word}"
    return Failure(f"ERR internal error {word}: {error} in {doing}", None, outcome, "", advice).reply()


def refused_command(name: str, outcome: str) -> ErrorReply:
    """A command has ended a node, and node `name` refuses it for a while (quarantine.py)."""
    what = f"ERR node {name} refuses this command for a while: it has ended a node by an internal error"
    advice = "see `dyn cluster status`, which names the node; its log has the traceback"
    return Failure(what, None, outcome, "", advice).reply()


def no_owner(name: str, outcome: str) -> ErrorReply:
    """No owner of the key can be reached from node `name`."""
    return Failure(f"NOQUORUM no owner of this key can be reached from node {name}", (0, 1, 0), outcome).reply()


def no_room_for_hint(name: str) -> str:
    """Node `name` holds as many hints as it may, in words."""
    return f"node {name} has no room for another hint"


def no_owner_and_no_hint(name: str) -> Failure:
    """No owner of the key can be reached, and node `name` has no room for a hint."""
    what = f"NOQUORUM no owner of this key can be reached, and {no_room_for_hint(name)}"
    return Failure(what, (0, 1, 0), "unwritten")
