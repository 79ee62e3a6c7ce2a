"""What a user's rules allow: a table of commands for each user, computed once for each change of its rules.

Theory. A session whose user may do everything has no `Access`, and dispatch asks nothing. Any other session has one, with a
table of commands of its own, in which dispatch looks calls of the usual form up instead of in the common one. So a command
costs a user with restricted rights nothing more, but for the comparison of the key with the user's patterns. All other
calls are looked at by the permit of the user for the command (permits.py). What no permit covers takes the whole check, as
Redis makes it: the selectors are tried in turn, each allows the command and all keys of the call or not, and the error
tells of what came nearest.

Keys are found by the key specifications (key_specs.py). What they say of a key (access; update, insert, delete) says which
patterns count: reading needs one that reads, the others one that writes. A call whose keys cannot be found is
permitted, and answered with its error.

SORT with BY and GET reads keys that stand nowhere in the call. So it needs a selector that may read all keys, as in Redis.

A name stands for a command, for a container with all its subcommands, or for one of these. First arguments (`+select|0`)
are as in Redis: they allow a call with exactly this first argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

from server.core.base.errors import ErrorReply
from server.core.base.sinks import Access, Session
from server.core.commands.command_docs import categories_of, specs_of
from server.core.commands.glob import Glob
from server.core.commands.key_patterns import KeyRights, Patterns
from server.core.commands.key_specs import NOT_KEY
from server.core.commands.permits import AnyCall, OneKey, Permit, key_permit
from server.core.commands.registry import commands_by_name, every_command, find_command
from server.core.commands.spec import CommandSpec
from server.core.users.rules import COMMAND, CONTAINER, SUBCOMMAND, UNKNOWN, Selector, User

# Which rule a call breaks, in the order in which Redis prefers to tell it.
DENIED_COMMAND, DENIED_KEY, DENIED_CHANNEL = "command", "key", "channel"
_RANKS: Final = {DENIED_COMMAND: 0, DENIED_KEY: 1, DENIED_CHANNEL: 2}
Report = Callable[[Session, str, str], None]  # of a refused call: what was denied, and the command or the key
NO_AUTH: Final = ErrorReply.of("NOAUTH Authentication required.")
NO_KEY: Final = ErrorReply.of("NOPERM this user has no permissions to access one of the keys used as arguments")
NO_CHANNEL: Final = ErrorReply.of("NOPERM this user has no permissions to access one of the channels used as arguments")
_HIDDEN_READ: Final = "ERR %s option of SORT denied due to insufficient ACL permissions."
# By command: where its channels begin, where they end (-1: with the call), and whether they are patterns. Unsubscribing is
# always permitted, as in Redis.
_CHANNELS: Final = {
    "publish": (1, 2, False), "spublish": (1, 2, False), "subscribe": (1, -1, False), "ssubscribe": (1, -1, False),
    "psubscribe": (1, -1, True),
}  # fmt: skip
_SORTS: Final = ("sort", "sort_ro")  # they may read keys that stand nowhere in the call


@cache
def acl_commands() -> dict[bytes, CommandSpec]:
    """All commands and subcommands by the name that rules use, those included that COMMAND does not show."""
    return {spec.name.encode(): spec for top in every_command() for spec in (top, *top.subcommands)}


def kind_of_name(name: bytes) -> int:
    """What a name in a rule stands for (users/rules.py)."""
    spec = acl_commands().get(name)
    if spec is None:
        return UNKNOWN
    return CONTAINER if spec.subcommands else SUBCOMMAND if b"|" in name else COMMAND


@cache
def _in_category(name: bytes) -> tuple[CommandSpec, ...]:
    word = name.decode("latin-1")
    return tuple([spec for spec in acl_commands().values() if word in categories_of(spec)])


class Rights:
    """What one selector allows."""

    def __init__(self, selector: Selector) -> None:
        self.selector = selector
        commands = acl_commands()
        self._allowed: dict[str, bool] = dict.fromkeys([spec.name for spec in commands.values()], selector.all_commands)
        self._first_arguments: dict[str, list[bytes]] = {}
        for rule in selector.commands:
            self._apply(rule[:1] == b"+", rule[1:])
        self.keys = KeyRights(selector)
        self._channel_globs = [Glob(each) for each in selector.channels]

    def _apply(self, allow: bool, name: bytes) -> None:
        if name[:1] == b"@":
            for spec in _in_category(name[1:]):
                self._set(spec, allow)
            return
        named = acl_commands().get(name)
        if named is not None:
            self._set(named, allow)
            return
        command, _, argument = name.partition(b"|")
        container = acl_commands().get(command)
        if container is not None and not container.subcommands and allow:  # else it is a name that later versions know
            self._first_arguments.setdefault(container.name, []).append(argument.lower())

    def _set(self, spec: CommandSpec, allow: bool) -> None:
        for each in (spec, *spec.subcommands):
            self._allowed[each.name] = allow
            self._first_arguments.pop(each.name, None)

    def allows(self, spec: CommandSpec, args: list[bytes]) -> bool:
        """Whether the selector allows the command, whatever its keys."""
        if self._allowed[spec.name] or is_for_all(spec):
            return True
        known = self._first_arguments.get(spec.name)
        return known is not None and len(args) > 1 and args[1].lower() in known

    def always_allows(self, spec: CommandSpec) -> bool:
        """Whether the selector allows the command with any arguments, except for its keys."""
        return self._allowed[spec.name] or is_for_all(spec)

    def has_channel(self, name: bytes, is_pattern: bool) -> bool:
        """Whether the selector allows a channel; or a pattern of channels, which must be one of its own, as in Redis."""
        if self.selector.all_channels:
            return True
        return name in self.selector.channels if is_pattern else any(glob.matches(name) for glob in self._channel_globs)

    def refused_place(
        self, keys: list[tuple[int, bytes, str]], channels: list[tuple[int, bytes, bool]]
    ) -> tuple[str, int] | None:
        """What the selector refuses of the keys and channels of a call, and where that stands; None if nothing."""
        place = next((place for place, key, access in keys if not self.keys.allow(key, access)), None)
        if place is not None:
            return DENIED_KEY, place
        place = next((place for place, name, is_pattern in channels if not self.has_channel(name, is_pattern)), None)
        return None if place is None else (DENIED_CHANNEL, place)


def is_for_all(spec: CommandSpec) -> bool:
    """Whether every client may run the command, also one that has not logged in."""
    return "no_auth" in spec.flags.split()


def used_keys(spec: CommandSpec, args: list[bytes]) -> list[tuple[int, bytes, str]]:
    """The keys of a call: place, key, and what the call does with it, in the words of key specifications."""
    found = []
    for key_spec in specs_of(spec):
        if key_spec.access == NOT_KEY:
            continue
        access = key_spec.access_of(args) if key_spec.access_of else key_spec.access
        found += [(place, args[place], access) for place in key_spec.positions(args) or ()]
    return found


def used_channels(spec: CommandSpec, args: list[bytes]) -> list[tuple[int, bytes, bool]]:
    """The channels of a call that a user must have the right to: place, name, and whether that is a pattern."""
    if spec.name not in _CHANNELS:
        return []
    start, end, is_pattern = _CHANNELS[spec.name]
    return [(place, args[place], is_pattern) for place in range(start, len(args) if end < 0 else end)]


def denied(rights: list[Rights], spec: CommandSpec, args: list[bytes]) -> tuple[str, int] | None:
    """What a call breaks: DENIED_COMMAND; or DENIED_KEY or DENIED_CHANNEL, and the place; None if it is permitted. Of the
    selectors that tells which got farthest, as in Redis."""
    keys, channels = used_keys(spec, args), used_channels(spec, args)
    worst, last = DENIED_COMMAND, 0
    for each in rights:
        if not each.allows(spec, args):
            continue
        refused = each.refused_place(keys, channels)
        if refused is None:
            return None
        what, place = refused
        if _RANKS[what] > _RANKS[worst] or (what == worst and place > last):
            worst, last = what, place
    return worst, last


def hidden_read(rights: list[Rights], spec: CommandSpec, args: list[bytes]) -> str:
    """The option of SORT that would read keys which the user may not read; empty if there is none."""
    if any(each.allows(spec, args) and _reads_all(each.selector) for each in rights):
        return ""
    place = 2
    while place < len(args):
        word, left = args[place].upper(), len(args) - place - 1
        if word == b"LIMIT" and left >= 2:
            place += 2
        elif word == b"STORE" and left >= 1:
            place += 1
        elif word == b"BY" and left >= 1:
            place += 1
            if b"*" in args[place]:
                return "BY"
        elif word == b"GET" and left >= 1:
            return "GET"
        elif word not in (b"ASC", b"DESC", b"ALPHA"):
            break
        place += 1
    return ""


def _reads_all(selector: Selector) -> bool:
    return selector.all_keys or any(each.pattern == b"*" and each.reads for each in selector.keys)


class Restricted(Access):
    """What a user may do who may not do everything. `report` gets each refusal, for the log."""

    def __init__(self, user: User, report: Report) -> None:
        self._rights = [Rights(selector) for selector in (user.root, *user.selectors)]
        self._report = report
        self._usual: dict[bytes, CommandSpec] = {}
        self._permits: dict[bytes, Permit] = {}  # of commands that were called, by their names in usual spellings
        self._name = b""  # of the last call; most calls of a pipeline have the name of the one before
        self._permit = Permit()  # for calls of that name
        for spec in every_command():
            if spec.usual_count > 0:
                self._enter(spec)

    def _enter(self, spec: CommandSpec) -> None:
        """Enters a command with a usual form, whose key is the second word, in the table if some selector allows it."""
        usual = [spec.name.encode(), *[b""] * (spec.usual_count - 1)]
        key_specs = specs_of(spec)
        if len(key_specs) != 1 or not key_specs[0].is_range() or list(key_specs[0].positions(usual) or ()) != [1]:
            return
        access = key_specs[0].access_of(usual) if key_specs[0].access_of else key_specs[0].access
        able = [each for each in self._rights if each.always_allows(spec)]
        if not able:
            return
        if not any(each.selector.all_keys for each in able):
            patterns = [pattern for each in able for pattern in each.keys.patterns_of(access).patterns]
            spec = replace(spec, allowed_keys=Patterns(patterns))
        self._usual[spec.name.encode()] = self._usual[spec.name.upper().encode()] = spec

    def _permit_of(self, name: bytes) -> Permit:
        """The permit for a command by its name. In a usual spelling it is kept from now on; in others it covers no call."""
        kept = self._permits.get(name)
        if kept is not None:
            return kept
        spec = commands_by_name().get(name)
        if spec is None:
            return Permit()
        able = [each for each in self._rights if each.always_allows(spec)]
        if spec.subcommands or spec.name in _SORTS:
            permit = Permit()
        elif spec.name in _CHANNELS:
            permit = _channel_permit(spec, [each.selector for each in able])
        else:
            specs = [each for each in specs_of(spec) if each.access != NOT_KEY]
            permit = key_permit(specs, [each.keys for each in able])
        self._permits[name] = permit
        return permit

    def usual_commands(self) -> dict[bytes, CommandSpec] | None:
        """HOT. The commands with a usual form that some selector allows, each with the keys it is allowed for."""
        return self._usual

    def refusal(self, session: Session, args: list[bytes]) -> bytes | None:
        """HOT. The error for a call of a known command with the right number of arguments; None if it is permitted."""
        name = args[0]
        if name != self._name:
            self._permit = self._permit_of(name)
            self._name = name
        return None if self._permit.covers(args) else self._refusal(session, args)

    def _refusal(self, session: Session, args: list[bytes]) -> bytes | None:
        """As `refusal`, by the whole check."""
        spec = find_command(args)
        assert spec is not None, "dispatch has found it"
        broken = denied(self._rights, spec, args)
        if broken is None:
            option = self._hidden_read(spec, args)
            return ErrorReply.of(_HIDDEN_READ % option) if option else None
        what, place = broken
        if what == DENIED_COMMAND:
            self._report(session, what, spec.name)
            return ErrorReply.of(f"NOPERM this user has no permissions to run the '{spec.name}' command")
        self._report(session, what, args[place].decode("utf-8", "surrogateescape"))
        return NO_KEY if what == DENIED_KEY else NO_CHANNEL

    def allows(self, session: Session, args: list[bytes]) -> bool:
        """Whether such a call is permitted."""
        spec = find_command(args)
        assert spec is not None, "the caller has found it"
        return denied(self._rights, spec, args) is None and not self._hidden_read(spec, args)

    def _hidden_read(self, spec: CommandSpec, args: list[bytes]) -> str:
        return hidden_read(self._rights, spec, args) if spec.name in _SORTS else ""

    def may_subscribe(self, name: bytes, is_pattern: bool) -> bool:
        """Whether a channel, or a pattern of channels, may be subscribed to."""
        return any(each.has_channel(name, is_pattern) for each in self._rights)


def _channel_permit(spec: CommandSpec, selectors: list[Selector]) -> Permit:
    """The permit for a command that publishes to one channel. Those that subscribe have none."""
    start, end, is_pattern = _CHANNELS[spec.name]
    if end != start + 1 or is_pattern or not selectors:
        return Permit()
    if any(each.all_channels for each in selectors):
        return AnyCall()
    return OneKey(start, [Patterns(list(each.channels)) for each in selectors])


class LoggedOut(Access):
    """What a client may do that has to log in first."""

    def usual_commands(self) -> dict[bytes, CommandSpec] | None:
        """HOT. None is permitted for sure: the whole check decides."""
        return {}

    def refusal(self, session: Session, args: list[bytes]) -> bytes | None:
        """NOAUTH, except for the commands by which a client logs in or goes."""
        spec = find_command(args)
        return None if spec is not None and is_for_all(spec) else NO_AUTH

    def may_subscribe(self, name: bytes, is_pattern: bool) -> bool:
        """It may not."""
        return False


def access_of(user: User, report: Report) -> Access | None:
    """What a user may do; None if that is everything."""
    selectors = (user.root, *user.selectors)
    return None if any(selector.is_unlimited for selector in selectors) else Restricted(user, report)


def dry_run(user: User, spec: CommandSpec, args: list[bytes]) -> str:
    """What ACL DRYRUN answers: why the call would be refused; empty if it would not."""
    broken = denied([Rights(selector) for selector in (user.root, *user.selectors)], spec, args)
    if broken is None:
        return ""
    what, place = broken
    if what == DENIED_COMMAND:
        return f"This user has no permissions to run the '{spec.name}' command"
    return f"This user has no permissions to access the '{args[place].decode('utf-8', 'surrogateescape')}' {what}"
