"""Error replies: Redis' own texts where Redis has one, and our own, whose first word is the code (DESIGN §6).

An `ErrorReply` is the encoded reply, as a type of its own. So a command with several steps can tell an error from a
result without parsing it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mypy_extensions import mypyc_attr

from protocol import resp
from server.core.base.quorum import Tally


@mypyc_attr(native_class=False)  # compiled classes cannot inherit from a builtin
class ErrorReply(bytes):
    """An encoded error, ready for the socket."""

    __slots__ = ()

    @classmethod
    def of(cls, message: str) -> ErrorReply:
        """Encodes an error; `message` begins with the code, as in `ERR syntax error`."""
        return cls(resp.error(message))


class CommandError(Exception):
    """Raised by a command to answer with an error."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reply = ErrorReply.of(message)


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
_SHOWN_BYTES = 128  # how much of a client's command an error shows
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
BUSY = ErrorReply.of("BUSY this node has as many requests in flight as it is allowed to: try again later")
NO_LAYOUT = ErrorReply.of("ERR this node is not part of a cluster yet: run `dyn cluster init` or `dyn up` first")


def has_left(name: str, epoch: int) -> ErrorReply:
    """Node `name` was a member once. CLUSTERDOWN makes cluster clients ask for CLUSTER SLOTS again."""
    return ErrorReply.of(
        f"CLUSTERDOWN node {name} has left its cluster at epoch {epoch}: use another node of the cluster"
    )


def refused_as_copy(reason: str) -> ErrorReply:
    """The members refuse this process, because they believe that it runs on a copy of a node's directory."""
    return ErrorReply.of(f"CLUSTERDOWN this process serves no requests, for the cluster refuses it: {reason}")


def has_gone_back(name: str) -> ErrorReply:
    """Node `name` runs on an older copy of its directory, and the others refuse it."""
    return ErrorReply.of(
        f"CLUSTERDOWN node {name} runs on an older copy of its directory, and other members refuse it: use "
        "another node of the cluster"
    )


def is_leaving(name: str) -> ErrorReply:
    """Node `name` is about to leave its cluster, and begins no more commands, because it could not finish them."""
    return ErrorReply.of(f"CLUSTERDOWN node {name} is leaving its cluster: use another node of the cluster")


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
    told = b"ERR unknown command '%b', with args beginning with: %b" % (_as_c_string(args[0], _SHOWN_BYTES), shown)
    return ErrorReply.of(told.decode("utf-8", "surrogateescape"))


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


def disks_full(tally: Tally, names: Sequence[str]) -> ErrorReply:
    """Too few replicas have room for a write; `names` are the nodes without room."""
    return ErrorReply.of(
        f"DISKFULL write: got={tally.got} wanted={tally.wanted} hinted=0 outcome=unwritten: nothing was written, for there "
        f"is no room on {', '.join(names)}: free some disk space there"
    )


def timed_out(tally: Tally, operation: str, outcome: str, timeout_ms: int) -> ErrorReply:
    """The quorum was not met by the deadline."""
    return _quorum_error("TIMEOUT", tally, f"{operation} within {timeout_ms} ms", outcome)


_EXPLAINED = {
    "unwritten": "nothing was written",
    "maybe-written": "the write may survive on the nodes that acknowledged it",
    "unread": "nothing was read",
}


def _quorum_error(code: str, tally: Tally, operation: str, outcome: str) -> ErrorReply:
    got = tally.got
    return ErrorReply.of(
        f"{code} {operation}: got={got} wanted={tally.wanted} hinted={tally.hinted} outcome={outcome}: "
        f"{got} of {tally.replicas} replicas answered, {tally.wanted} are needed; {_EXPLAINED[outcome]}"
    )


def coordinator_lost(outcome: str) -> ErrorReply:
    """The coordinator of a command was lost or silent, and the command may not be run again, or not in time."""
    advice = "" if outcome == "unread" else ": read the key before you try again"
    return ErrorReply.of(
        f"TIMEOUT the node that coordinates this key was lost before it answered: got=0 wanted=1 hinted=0 "
        f"outcome={outcome}{advice}"
    )


def damaged_here(name: str, error: Exception) -> ErrorReply:
    """The record that a write would supersede is damaged on its coordinator, and could not be mended in time."""
    return ErrorReply.of(
        f"ERR node {name}: {error}: got=0 wanted=1 hinted=0 outcome=unwritten: its other owners have it and could not be "
        "asked in time; try again"
    )


def internal_error(word: str, error: str, doing: str, name: str, outcome: str) -> ErrorReply:
    """A command has raised an unexpected exception (unexpected.py). The log of node `name` has it under `word`."""
    return ErrorReply.of(
        f"ERR internal error {word}: {error} in {doing}: outcome={outcome}: {_EXPLAINED[outcome]}; the log of node {name} "
        f"has the traceback under {word}"
    )


def no_owner(name: str, outcome: str) -> ErrorReply:
    """No owner of the key can be reached from node `name`."""
    return ErrorReply.of(
        f"NOQUORUM no owner of this key can be reached from node {name}: got=0 wanted=1 hinted=0 outcome={outcome}: "
        f"{_EXPLAINED[outcome]}"
    )
