"""Permits: a quick yes to the calls of a command that a user may make.

Theory. The whole check of a call (permissions.py) tries the selectors in turn, and finds out which of them came nearest,
for the error. That costs some 26,000 instructions of the processor, half of an INCR or SET NX in a pipeline. But nearly
every call is permitted, and nobody asks by which selector. So each command of a user has a permit, which knows where the
keys of the command stand, and the patterns that they must match. If a permit covers a call, the user may make it. If not,
the whole check decides. The permit of the last call is at hand for the next one: most calls of a pipeline have the same
name. Rules never change under a permit: a user whose rules change gets other permits (services/users.py).

A permit may therefore be narrower than the rules, and must never be wider: it covers a call only if one selector allows the
command with any arguments and allows all keys or the channel of the call. What a permit leaves to the whole check: first
arguments (`+select|0`), subcommands, subscriptions, SORT, and calls whose keys cannot be found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mypy_extensions import i64

from server.core.commands.key_patterns import KeyRights, Patterns
from server.core.commands.key_specs import KeySpec


class Permit:
    """The permit for a command of which no call is surely permitted."""

    def covers(self, args: list[bytes]) -> bool:
        """HOT. Whether the user may make this call, with the right number of arguments; False: the whole check decides."""
        return False


class AnyCall(Permit):
    """The permit for a command that the user may call with any arguments."""

    def covers(self, args: list[bytes]) -> bool:
        """HOT. It may."""
        return True


class OneKey(Permit):
    """The permit for a command with one key, or one channel, at a fixed place: any pattern of any selector will do."""

    def __init__(self, place: int, selectors: list[Patterns]) -> None:
        self._place: i64 = place
        self._patterns = _any_of(selectors)

    def covers(self, args: list[bytes]) -> bool:
        """HOT. Whether some selector allows the key."""
        return self._patterns.match(args[self._place])


class KeyRun(Permit):
    """The permit for a command whose keys are a range, as those of MGET and MSET."""

    def __init__(self, spec: KeySpec, selectors: list[Patterns]) -> None:
        self._first: i64 = spec.start
        self._last: i64 = spec.last
        self._step: i64 = spec.step
        self._selectors = selectors

    def covers(self, args: list[bytes]) -> bool:
        """HOT. Whether some selector allows all keys."""
        first, last, step = self._first, self._last, self._step
        count: i64 = len(args)
        last += first if last >= 0 else count
        if not first <= last < count:
            return False
        for patterns in self._selectors:
            place = first
            while place <= last and patterns.match(args[place]):
                place += step
            if place > last:
                return True
        return False


class KeyByOptions(Permit):
    """The permit for a command whose options say what it does with its key: SET reads it with GET, and else does not.

    They are looked at only if the user may not both read and write the key: the access of the specification is the most
    that options can ask for.
    """

    def __init__(self, spec: KeySpec, access_of: Callable[[Sequence[bytes]], str], selectors: list[KeyRights]) -> None:
        self._place: i64 = spec.start
        self._access_of = access_of
        self._selectors = selectors
        self._for_all_options = _any_of([each.patterns_of(spec.access) for each in selectors])

    def covers(self, args: list[bytes]) -> bool:
        """HOT. Whether some selector allows this use of the key."""
        key = args[self._place]
        if self._for_all_options.match(key):
            return True
        access = self._access_of(args)
        return any(rights.patterns_of(access).match(key) for rights in self._selectors)


class SeveralSpecs(Permit):
    """The permit for a command with several key specifications, or whose keys are no range at a fixed place."""

    def __init__(self, specs: list[KeySpec], selectors: list[KeyRights]) -> None:
        self._specs = specs
        self._selectors = selectors

    def covers(self, args: list[bytes]) -> bool:
        """Whether some selector allows all keys."""
        found = [(spec.access, spec.positions(args) or ()) for spec in self._specs]
        for rights in self._selectors:
            if all(rights.patterns_of(access).match(args[place]) for access, places in found for place in places):
                return True
        return False


def _any_of(selectors: list[Patterns]) -> Patterns:
    """The patterns of all selectors: for one key it does not matter which selector allows it."""
    return Patterns([pattern for patterns in selectors for pattern in patterns.patterns])


def key_permit(specs: list[KeySpec], selectors: list[KeyRights]) -> Permit:
    """The permit for a command with these key specifications. Each of the selectors allows the command with any
    arguments."""
    if not selectors:
        return Permit()
    if not specs or any(each.all_keys for each in selectors):
        return AnyCall()
    first = specs[0]
    if len(specs) == 1 and first.is_range():
        if first.access_of is not None:
            return KeyByOptions(first, first.access_of, selectors) if first.last == 0 else Permit()
        patterns = [each.patterns_of(first.access) for each in selectors]
        return OneKey(first.start, patterns) if first.last == 0 else KeyRun(first, patterns)
    return Permit() if any(each.access_of is not None for each in specs) else SeveralSpecs(specs, selectors)
