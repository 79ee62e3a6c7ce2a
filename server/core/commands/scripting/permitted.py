"""Which commands a script may run: Redis' rules, and what its user may do.

Theory. A script runs as the user who called it, also where another node coordinates its keys: the job names the user, and
every node has the document of all users. Commands that are about a connection, that wait, or that are the operator's are
refused, as in Redis; those about all keys run only command by command (steps.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from server.core.base.errors import ErrorReply
from server.core.base.sinks import Access, Session
from server.core.commands.permissions import NO_CHANNEL, NO_KEY
from server.core.commands.registry import find_command
from server.core.commands.spec import CommandSpec
from server.core.services.services import Services

PLAIN: Final = frozenset(
    ("ping", "echo", "time", "lolwut", "select")
)  # without keys, and about nothing but their arguments
ABOUT_ALL: Final = frozenset(("keys", "scan", "dbsize", "randomkey", "flushall", "flushdb", "publish", "swapdb"))
NOPERM_COMMAND: Final = "ERR The user executing the script can't run this command or subcommand"
NOPERM_KEY: Final = (
    "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments"
)
NOPERM_CHANNEL: Final = "ERR The user executing the script can't publish to the channel mentioned in the command"
_NOPERM: Final[dict[bytes, str]] = {NO_KEY: NOPERM_KEY, NO_CHANNEL: NOPERM_CHANNEL}
_UNKNOWN: Final = ErrorReply.of("ERR Unknown Redis command called from script")
_ARITY: Final = ErrorReply.of("ERR Wrong number of args calling Redis command from script")
_NOT_ALLOWED: Final = ErrorReply.of("ERR This Redis command is not allowed from script")
_READ_ONLY: Final = ErrorReply.of("ERR Write commands are not allowed from read-only scripts.")


class Permitted:
    """What the script of a user may run."""

    def __init__(self, services: Services, user: bytes, read_only: bool) -> None:
        self._read_only = read_only
        self._session = Session(0, "script", "", services.state.now_ms, [], services.state.statistics)
        self._session.user = user
        self._session.runs_script = True
        self._access: Access | None = services.users.access_for(user)

    def refusal(self, args: list[bytes]) -> ErrorReply | None:
        """The error for a command; None if the script may run it."""
        spec = find_command(args)
        if spec is None:
            return _UNKNOWN
        if not spec.accepts(len(args)):
            return _ARITY
        flags = spec.flags.split()
        if not _may_stand_in_scripts(spec, flags):
            return _NOT_ALLOWED
        if self._read_only and "write" in flags:
            return _READ_ONLY
        return self._user_refusal(args)

    def _user_refusal(self, args: list[bytes]) -> ErrorReply | None:
        refusal = None if self._access is None else self._access.refusal(self._session, args)
        return None if refusal is None else ErrorReply.of(_NOPERM.get(refusal, NOPERM_COMMAND))

    def may_run(self, args: list[bytes]) -> bool | None:
        """Whether the user may run a command; None if there is no such command (redis.acl_check_cmd)."""
        spec = find_command(args)
        if spec is None:
            return None
        return not spec.accepts(len(args)) or self._access is None or self._access.allows(self._session, args)


def _may_stand_in_scripts(spec: CommandSpec, flags: Sequence[str]) -> bool:
    if "noscript" in flags or ("blocking" in flags and not spec.has_keys()) or spec.name.startswith("dyn."):
        return False
    return spec.has_keys() or spec.name in PLAIN or spec.name in ABOUT_ALL
