"""The table of the commands about the expiry of a hash's fields: those of Redis 7.4 and 8.0."""

from __future__ import annotations

from server.core.base.sinks import Sink
from server.core.commands.hashes.expiries import hexpire, hgetdel, hgetex, hpersist, hsetex, httl
from server.core.commands.shared_drafts import if_few
from server.core.commands.sliced_replies import Sliced
from server.core.commands.spec import EXCLUSIVE, ONE_KEY, READ, CommandSpec, Handler
from server.core.commands.typed import ANY, always, check_type, reading, updating
from server.core.records.kinds import HASH
from server.core.records.views import View


def _once(args: list[bytes]) -> bool:
    return True


def _times(unit_ms: int, is_absolute: bool) -> Handler:
    """The handler of HTTL and its kin, which look at the type of the key before their arguments, as Redis does here."""
    read = httl(unit_ms, is_absolute)

    def read_hash(view: View, args: list[bytes], sink: Sink) -> Sliced:
        check_type(view, HASH)
        return read(view, args, sink)

    return reading(ANY, read_hash, sees_changes=always)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "hexpire",
        -6,
        EXCLUSIVE,
        updating(HASH, hexpire(1000, False), checks_type_first=True, shares=if_few),
        "Sets the expiry of fields of a hash in seconds.",
        "hash",
        "write denyoom fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RW update",
        arguments="key seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hpexpire",
        -6,
        EXCLUSIVE,
        updating(HASH, hexpire(1, False), checks_type_first=True, shares=if_few),
        "Sets the expiry of fields of a hash in milliseconds.",
        "hash",
        "write denyoom fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RW update",
        arguments="key milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hexpireat",
        -6,
        EXCLUSIVE,
        updating(HASH, hexpire(1000, True), checks_type_first=True, shares=if_few),
        "Sets the expiry of fields of a hash to a Unix time.",
        "hash",
        "write denyoom fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RW update",
        arguments="key unix-time-seconds [NX|XX|GT|LT] FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hpexpireat",
        -6,
        EXCLUSIVE,
        updating(HASH, hexpire(1, True), checks_type_first=True, shares=if_few),
        "Sets the expiry of fields of a hash to a Unix time in ms.",
        "hash",
        "write denyoom fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RW update",
        arguments="key unix-time-milliseconds [NX|XX|GT|LT] FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "httl",
        -5,
        READ,
        _times(1000, False),
        "Returns the seconds that fields of a hash have left.",
        "hash",
        "readonly fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RO access",
        arguments="key FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hpttl",
        -5,
        READ,
        _times(1, False),
        "Returns the milliseconds that fields of a hash have left.",
        "hash",
        "readonly fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RO access",
        arguments="key FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hexpiretime",
        -5,
        READ,
        _times(1000, True),
        "Returns the expiries of fields of a hash as Unix times.",
        "hash",
        "readonly fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RO access",
        arguments="key FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hpexpiretime",
        -5,
        READ,
        _times(1, True),
        "Returns the expiries of fields of a hash as Unix times in ms.",
        "hash",
        "readonly fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RO access",
        arguments="key FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hpersist",
        -5,
        EXCLUSIVE,
        updating(HASH, hpersist, checks_type_first=True, shares=if_few),
        "Removes the expiry of fields of a hash.",
        "hash",
        "write fast",
        ONE_KEY,
        since="7.4.0",
        complexity="O(N)",
        access="RW update",
        arguments="key FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hgetdel",
        -5,
        EXCLUSIVE,
        updating(HASH, hgetdel, deletes=True, shares=if_few),
        "Returns the values of fields of a hash, and removes them.",
        "hash",
        "write fast",
        ONE_KEY,
        since="8.0.0",
        complexity="O(N)",
        access="RW access delete",
        once=_once,
        arguments="key FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hgetex",
        -5,
        EXCLUSIVE,
        updating(HASH, hgetex, shares=if_few),
        "Returns the values of fields of a hash, and sets their expiry.",
        "hash",
        "write fast",
        ONE_KEY,
        since="8.0.0",
        complexity="O(N)",
        access="RW access update",
        arguments="key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]"
        " FIELDS numfields field [field ...]",
    ),
    CommandSpec(
        "hsetex",
        -6,
        EXCLUSIVE,
        updating(HASH, hsetex, shares=if_few),
        "Sets fields of a hash and their expiry.",
        "hash",
        "write denyoom fast",
        ONE_KEY,
        since="8.0.0",
        complexity="O(N)",
        access="RW update",
        once=_once,
        arguments="key [FNX|FXX] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL]"
        " FIELDS numfields field value [field value ...]",
    ),
)
