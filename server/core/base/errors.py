"""Error replies: Redis' own texts where Redis has one, and ours, whose first word is the code (DESIGN §6).

An `ErrorReply` is the encoded reply itself, of a type of its own, so that a command made of several steps can tell an
error from a result without parsing.
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
        """`message` begins with the code, e.g. `ERR syntax error`."""
        return cls(resp.error(message))


class CommandError(Exception):
    """Raised by a command's handler to answer with an error."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.reply = ErrorReply.of(message)


class NoLayout(CommandError):
    """This node belongs to no cluster, or not any more; `reply` says which."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__("NOLAYOUT")
        self.reply = reply


class QuorumUnreachable(CommandError):
    """Fewer replicas than a write needs can be reached, or have room: it is refused before anything is written."""

    def __init__(self, tally: Tally, full: Sequence[str] = ()) -> None:
        super().__init__("DISKFULL" if full else "NOQUORUM")
        self.reply = disks_full(tally, full) if full else no_quorum(tally, "write", "unwritten")


SYNTAX = "ERR syntax error"
_SHOWN_BYTES = 128  # of a client's words, in an error
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
BUSY = ErrorReply.of("BUSY this node has as many requests in flight as it is allowed to: try again later")
NO_LAYOUT = ErrorReply.of("ERR this node is not part of a cluster yet: run `dyn cluster init` or `dyn up` first")


def has_left(name: str, epoch: int) -> ErrorReply:
    """Node `name` was a member once. Redis' code for a node that serves no slots: clients ask for CLUSTER SLOTS again."""
    return ErrorReply.of(
        f"CLUSTERDOWN node {name} has left its cluster at epoch {epoch}: use another node of the cluster"
    )


def refused_as_copy(reason: str) -> ErrorReply:
    """The members take this process for one on a copy of a node's directory."""
    return ErrorReply.of(f"CLUSTERDOWN this process serves no requests, for the cluster refuses it: {reason}")


def has_gone_back(name: str) -> ErrorReply:
    """The directory of node `name` is an older copy, and the others refuse it."""
    return ErrorReply.of(
        f"CLUSTERDOWN node {name} runs on an older copy of its directory, and other members refuse it: use "
        "another node of the cluster"
    )


def is_leaving(name: str) -> ErrorReply:
    """Node `name` is about to be let go, and begins nothing more that it might not see end."""
    return ErrorReply.of(f"CLUSTERDOWN node {name} is leaving its cluster: use another node of the cluster")


def wrong_arity(name: str) -> ErrorReply:
    """Redis' text for a wrong number of arguments; `name` as `client|list` for a subcommand."""
    return ErrorReply.of(f"ERR wrong number of arguments for '{name}' command")


def unknown_command(args: Sequence[bytes]) -> ErrorReply:
    """Redis' text, with the first arguments as it shows them."""
    shown = b""
    for arg in args[1:]:
        if len(shown) >= _SHOWN_BYTES:
            break
        shown += b"'%b' " % _as_c_string(arg, _SHOWN_BYTES - len(shown))
    told = b"ERR unknown command '%b', with args beginning with: %b" % (_as_c_string(args[0], _SHOWN_BYTES), shown)
    return ErrorReply.of(told.decode("utf-8", "surrogateescape"))


def _as_c_string(text: bytes, bytes_max: int) -> bytes:
    """What C's printf shows of it."""
    return text.partition(b"\0")[0][:bytes_max]


def unknown_subcommand(container: str, args: Sequence[bytes]) -> ErrorReply:
    """Redis' text for a subcommand that a container command does not have."""
    name = _as_c_string(args[1], _SHOWN_BYTES).decode("utf-8", "surrogateescape")
    return ErrorReply.of(f"ERR unknown subcommand '{name}'. Try {container.upper()} HELP.")


def no_quorum(tally: Tally, operation: str, outcome: str) -> ErrorReply:
    """Too few replicas could be reached. `outcome`: unwritten, maybe-written, unread."""
    return _quorum_error("NOQUORUM", tally, operation, outcome)


def disks_full(tally: Tally, names: Sequence[str]) -> ErrorReply:
    """Too few replicas have room for a write; these nodes have none."""
    return ErrorReply.of(
        f"DISKFULL write: got={tally.got} wanted={tally.wanted} hinted=0 outcome=unwritten: nothing was written, for there "
        f"is no room on {', '.join(names)}: free some disk space there"
    )


def timed_out(tally: Tally, operation: str, outcome: str, timeout_ms: int) -> ErrorReply:
    """The deadline came before the quorum."""
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
    """The node that ran a command was lost or silent, and there is no time, or no leave, to run it again elsewhere."""
    advice = "" if outcome == "unread" else ": read the key before you try again"
    return ErrorReply.of(
        f"TIMEOUT the node that coordinates this key was lost before it answered: got=0 wanted=1 hinted=0 "
        f"outcome={outcome}{advice}"
    )


def damaged_here(name: str, error: Exception) -> ErrorReply:
    """The record that a write stands on is damaged on its coordinator, and could not be mended in time."""
    return ErrorReply.of(
        f"ERR node {name}: {error}: got=0 wanted=1 hinted=0 outcome=unwritten: its other owners have it and could not be "
        "asked in time; try again"
    )


def internal_error(word: str, error: str, doing: str, name: str, outcome: str) -> ErrorReply:
    """A command has met what no code expected (unexpected.py). The log of node `name` tells more under `word`."""
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
