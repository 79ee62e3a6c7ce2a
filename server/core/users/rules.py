"""A user and the rules that describe it: Redis' ACL rules (https://redis.io/docs/latest/operate/oss_and_stack/management/
security/acl/).

Theory. A user has passwords and *selectors*. A selector is a set of commands, of key patterns and of channel patterns; a
command may run if one selector allows it together with all its keys. The first selector is the user's own, the others
stand in parentheses.

The rules about commands are kept as they were given, in order: a later rule takes the place of an earlier one about the
same name. What they mean is computed from them and the commands that there are (commands/permissions.py). Redis 7.0 keeps
the set of allowed commands instead, and makes up rules when it describes a user; Redis 7.2 keeps the rules, as we do. A set
would not do here: the document of users travels between nodes of several versions, and `+@read` must mean the reading
commands of the node where a client connects.

Error texts are Redis' own. A rule that names an unknown command is an error when an operator gives it, and is passed over
when it comes from another node or from the disk: a later version may know it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from protocol.requests import ProtocolError, split_arguments

CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream",
    "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting", "dyn",
)  # fmt: skip
# What a name in a rule stands for.
UNKNOWN, COMMAND, CONTAINER, SUBCOMMAND = 0, 1, 2, 3
Kind = Callable[[bytes], int]  # of a command's name in lower case, `config|get` for a subcommand

_UNKNOWN_NAME = "Unknown command or category name in ACL"
_SYNTAX = "Syntax error"
_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the '{0}' flag) is not valid and does not have any effect. Try '{1}' to "
    "start with an empty list of {2}"
)
_AFTER_ALL_KEYS = _AFTER_ALL.format("allkeys", "resetkeys", "patterns")
_AFTER_ALL_CHANNELS = _AFTER_ALL.format("allchannels", "resetchannels", "channels")
_NO_SUCH_PASSWORD = "The password you are trying to remove from the user does not exist"
_NO_HASH = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
_NO_FIRST_ARGUMENT = "Allowing first-arg of a subcommand is not supported"
_HEXADECIMAL = frozenset(b"0123456789abcdef")
_SPACE = re.compile(rb"[ \t\n\v\f\r\0]")
_SANITIZE = (b"sanitize-payload", b"skip-sanitize-payload")  # kept and shown; RESTORE checks every payload


class RuleError(ValueError):
    """A rule that cannot be applied; the message says why, in Redis' words."""


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """A pattern of keys, and what may be done with them."""

    pattern: bytes
    reads: bool = True
    writes: bool = True

    def encode(self) -> bytes:
        """The rule that adds it."""
        return (b"~" if self.reads and self.writes else b"%R~" if self.reads else b"%W~") + self.pattern


@dataclass(frozen=True, slots=True)
class Selector:
    """Commands, keys and channels. `commands` are rules (`+get`, `-@dangerous`) over all commands, or over none."""

    all_commands: bool = False
    commands: tuple[bytes, ...] = ()
    all_keys: bool = False
    keys: tuple[KeyPattern, ...] = ()
    all_channels: bool = False
    channels: tuple[bytes, ...] = ()

    @property
    def is_unlimited(self) -> bool:
        """Whether it allows every command on every key and every channel."""
        return self.all_commands and not self.commands and self.all_keys and self.all_channels

    def describe_commands(self) -> bytes:
        """The rules about commands, as one text."""
        return b" ".join([b"+@all" if self.all_commands else b"-@all", *self.commands])

    def describe_keys(self) -> bytes:
        """The rules about keys, as one text."""
        return b" ".join([*[each.encode() for each in self.keys], *[b"~*"] * self.all_keys])

    def describe_channels(self) -> bytes:
        """The rules about channels, as one text."""
        return b" ".join([*[b"&" + each for each in self.channels], *[b"&*"] * self.all_channels])

    def rules(self) -> list[bytes]:
        """All rules, as ACL LIST shows them."""
        channels = [b"&*"] if self.all_channels else [b"resetchannels", *[b"&" + each for each in self.channels]]
        keys = [b"~*"] if self.all_keys else [each.encode() for each in self.keys]
        return [*keys, *channels, b"+@all" if self.all_commands else b"-@all", *self.commands]


@dataclass(frozen=True, slots=True)
class User:
    """A user. Passwords are kept as SHA-256, in hexadecimal digits."""

    enabled: bool = False
    no_password: bool = False  # any password will do
    sanitize: bytes = b""
    passwords: tuple[bytes, ...] = ()
    root: Selector = Selector()
    selectors: tuple[Selector, ...] = ()

    def flags(self) -> list[bytes]:
        """The flags, as ACL GETUSER shows them."""
        flags = [b"on" if self.enabled else b"off"]
        return flags + [b"nopass"] * self.no_password + [self.sanitize] * bool(self.sanitize)

    def rules(self) -> list[bytes]:
        """All rules, as ACL LIST shows them. Applied to a new user, they make the same user."""
        return [*self.own_rules(), *[b"(" + b" ".join(each.rules()) + b")" for each in self.selectors]]

    def rule_count(self) -> int:
        """How many rules there are, those within the selectors and the selectors themselves included."""
        rules = [len(each.commands) + len(each.keys) + len(each.channels) for each in (self.root, *self.selectors)]
        return len(self.passwords) + len(self.selectors) + sum(rules)

    def own_rules(self) -> list[bytes]:
        """The rules without the selectors in parentheses."""
        return [*self.flags(), *[b"#" + each for each in self.passwords], *self.root.rules()]


EVERYTHING: Final = Selector(all_commands=True, all_keys=True, all_channels=True)
DEFAULT: Final = User(enabled=True, no_password=True, root=EVERYTHING)  # the user `default` before anybody changes it


def hashed(password: bytes) -> bytes:
    """A password as it is kept."""
    return sha256(password).hexdigest().encode()


def has_spaces(text: bytes) -> bool:
    """Whether a name or a pattern has blanks or zero bytes, which no rule may have."""
    return _SPACE.search(text) is not None


def changed(user: User, rules: Sequence[bytes], kind: Kind | None) -> User:
    """The user after these rules. `kind` tells what a command's name stands for; None passes over unknown names.

    Raises RuleError with Redis' text, which names the rule.
    """
    for rule in _joined(rules):
        try:
            user = _changed(user, rule, kind)
        except RuleError as error:
            shown = rule.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            raise RuleError(f"Error in ACL SETUSER modifier '{shown}': {error}") from None
    return user


def selector_of(rules: Sequence[bytes], kind: Kind | None) -> Selector:
    """The selector that these rules describe. Raises RuleError."""
    selector = Selector()
    for rule in rules:
        selector = _with_rule(selector, rule, kind)
    return selector


def _joined(rules: Sequence[bytes]) -> list[bytes]:
    """The rules, where a selector that is spread over several words is one rule."""
    found: list[bytes] = []
    opened: list[bytes] = []
    for rule in rules:
        if rule[:1] == b"(" and rule[-1:] != b")":
            opened = [rule]  # what was open before is dropped, as in Redis
        elif opened:
            opened.append(rule)
            if rule[-1:] == b")":
                found.append(b" ".join(opened))
                opened = []
        else:
            found.append(rule)
    if opened:
        shown = opened[0].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        raise RuleError(f"Unmatched parenthesis in acl selector starting at '{shown}'.")
    return found


def _changed(user: User, rule: bytes, kind: Kind | None) -> User:
    word, sign = rule.lower(), rule[:1]
    if word in (b"on", b"off"):
        return replace(user, enabled=word == b"on")
    if word in _SANITIZE:
        return replace(user, sanitize=word)
    if word in (b"nopass", b"resetpass"):
        return replace(user, no_password=word == b"nopass", passwords=())
    if word == b"clearselectors":
        return replace(user, selectors=())
    if word == b"reset":
        return User(sanitize=_SANITIZE[0])
    if sign in (b">", b"#", b"<", b"!"):
        return _with_password(user, sign, rule[1:])
    if sign == b"(" and rule[-1:] == b")":
        return replace(user, selectors=(*user.selectors, selector_of(_split(rule[1:-1]), kind)))
    return replace(user, root=_with_rule(user.root, rule, kind)) if rule else user


def _with_password(user: User, sign: bytes, text: bytes) -> User:
    if sign in (b">", b"<"):
        text = hashed(text)
    elif len(text) != 64 or not _HEXADECIMAL.issuperset(text):
        raise RuleError(_NO_HASH)
    if sign in (b">", b"#"):
        known = user.passwords if text in user.passwords else (*user.passwords, text)
        return replace(user, no_password=False, passwords=known)
    if text not in user.passwords:
        raise RuleError(_NO_SUCH_PASSWORD)
    return replace(user, passwords=tuple([each for each in user.passwords if each != text]))


def _with_rule(selector: Selector, rule: bytes, kind: Kind | None) -> Selector:
    """The selector after a rule about commands, keys or channels."""
    word, sign = rule.lower(), rule[:1]
    if word in (b"allcommands", b"+@all", b"nocommands", b"-@all"):
        return replace(selector, all_commands=word in (b"allcommands", b"+@all"), commands=())
    if word in (b"allkeys", b"~*", b"resetkeys"):
        return replace(selector, all_keys=word != b"resetkeys", keys=())
    if word in (b"allchannels", b"&*", b"resetchannels"):
        return replace(selector, all_channels=word != b"resetchannels", channels=())
    if sign in (b"~", b"%"):
        return _with_key_pattern(selector, rule)
    if sign == b"&":
        if selector.all_channels:
            raise RuleError(_AFTER_ALL_CHANNELS)
        pattern = _checked(rule[1:])
        known = selector.channels if pattern in selector.channels else (*selector.channels, pattern)
        return replace(selector, channels=known)
    if sign in (b"+", b"-"):
        name = _command_rule(sign, rule[1:].partition(b"\0")[0], kind)
        kept = [each for each in selector.commands if each[1:] != name and not each[1:].startswith(name + b"|")]
        return replace(selector, commands=(*kept, sign + name))
    raise RuleError(_SYNTAX)


def _checked(pattern: bytes) -> bytes:
    if has_spaces(pattern):
        raise RuleError(_SYNTAX)
    return pattern


def _with_key_pattern(selector: Selector, rule: bytes) -> Selector:
    if selector.all_keys:
        raise RuleError(_AFTER_ALL_KEYS)
    before, _, pattern = rule.partition(b"~")
    access = before.upper()
    if access not in (b"", b"%R", b"%W", b"%RW", b"%WR"):  # `%R` is taken for `%R~`, as in Redis
        raise RuleError(_SYNTAX)
    new = KeyPattern(_checked(pattern), access != b"%W", access != b"%R")
    for place, each in enumerate(selector.keys):
        if each.pattern == new.pattern:
            joined = KeyPattern(each.pattern, each.reads or new.reads, each.writes or new.writes)
            return replace(selector, keys=(*selector.keys[:place], joined, *selector.keys[place + 1 :]))
    return replace(selector, keys=(*selector.keys, new))


def _command_rule(sign: bytes, name: bytes, kind: Kind | None) -> bytes:
    """The name in a rule about commands, in lower case; only a first argument keeps its case. Raises RuleError."""
    if name[:1] == b"@":
        if kind is not None and name[1:].lower().decode("latin-1") not in CATEGORIES:
            raise RuleError(_UNKNOWN_NAME)
        return _checked(name.lower())
    if kind is None:
        command, bar, argument = name.partition(b"|")
        return _checked(command.lower() + bar + argument)
    before, bar, last = name.rpartition(b"|")
    if sign == b"-" or not bar:
        if kind(name.lower()) == UNKNOWN:
            raise RuleError(_UNKNOWN_NAME)
        return name.lower()
    what = kind(before.lower())
    if what == UNKNOWN:
        raise RuleError(_UNKNOWN_NAME)
    if what == SUBCOMMAND:
        raise RuleError(_NO_FIRST_ARGUMENT)
    if not last:
        raise RuleError(_SYNTAX)
    if what == COMMAND:
        return before.lower() + b"|" + _checked(last)
    if kind(name.lower()) == UNKNOWN:
        raise RuleError(_UNKNOWN_NAME)
    return name.lower()


def _split(text: bytes) -> list[bytes]:
    """The rules within a selector."""
    try:
        return split_arguments(text)
    except ProtocolError:
        raise RuleError(_SYNTAX) from None
