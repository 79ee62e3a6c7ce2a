"""The cases of the differential test: what is asked, see exact.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations, product

from server.core.commands.table import find_command
from tests.wire.differential.exact import Case
from tests.wire.differential.servers import Command
from tests.wire.differential.words import NUMBERS

KEY = b"diff:k"
OTHER = b"diff:other"
# The states of KEY before the command.
STATES: Mapping[str, Case] = {
    "absent": (),
    "present": ((b"SET", KEY, b"old"),),
    "expiring": ((b"SET", KEY, b"old", b"EX", b"5000"),),
}
FAR_S, FAR_MS = b"5000000000", b"5000000000000"

# Of each command: what comes before its options, and its options with a value that is taken.
OPTIONS: Mapping[Command, tuple[Command, ...]] = {
    (b"SET", KEY, b"new"): (
        (b"NX",), (b"XX",), (b"GET",), (b"KEEPTTL",),
        (b"EX", b"100"), (b"PX", b"100000"), (b"EXAT", FAR_S), (b"PXAT", FAR_MS),
    ),
    **{
        (name, KEY, amount): ((b"NX",), (b"XX",), (b"GT",), (b"LT",))
        for name, amount in (
            (b"EXPIRE", b"100"), (b"PEXPIRE", b"100000"), (b"EXPIREAT", FAR_S), (b"PEXPIREAT", FAR_MS),
            (b"EXPIRE", b"10000"), (b"EXPIRE", b"-1"),
        )
    },
}  # fmt: skip

# A number stands where None does.
NUMBERED: tuple[tuple[bytes | None, ...], ...] = (
    *[(b"SET", KEY, b"new", unit, None) for unit in (b"EX", b"PX", b"EXAT", b"PXAT")],
    *[(name, KEY, None) for name in (b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT")],
    *[(name, KEY, None, option) for name in (b"EXPIRE", b"PEXPIREAT") for option in (b"NX", b"GT", b"LT", b"WRONG")],
    (b"SETEX", KEY, None, b"new"),
    (b"PSETEX", KEY, None, b"new"),
    (b"SELECT", None),
    (b"HELLO", None),
    (b"CLIENT", b"KILL", b"ID", None),
    (b"CLIENT", b"LIST", b"ID", None),
)

# Sequences on one connection: commands parted by |, words by one blank. Each leaves the connection answering.
SESSIONS = (
    "CLIENT REPLY ON",
    "CLIENT REPLY OFF|PING|GET x|NOSUCH|CLIENT REPLY ON|PING",
    "CLIENT REPLY SKIP|PING|ECHO a",
    "CLIENT REPLY SKIP|CLIENT REPLY SKIP|PING|ECHO b|ECHO c",
    "CLIENT REPLY SKIP|CLIENT REPLY ON|PING",
    "CLIENT REPLY OFF|CLIENT REPLY SKIP|PING|CLIENT REPLY ON|PING|ECHO d",
    "CLIENT REPLY OFF|CLIENT REPLY WRONG|CLIENT REPLY ON",
    "CLIENT REPLY SKIP|NOSUCH|CLIENT REPLY SKIP|SET diff:r 1|GET diff:r|CLIENT REPLY skip|"
    "MGET diff:r diff:none|MGET diff:r diff:none",
    "CLIENT REPLY SKIP|SET diff:r 2 XX GET|GET diff:r",
    "CLIENT REPLY WRONG|CLIENT REPLY",
    "CLIENT REPLY OFF|HELLO 2|CLIENT REPLY ON|PING",
    "CLIENT TRACKINGINFO|CLIENT TRACKINGINFO x",
    "CLIENT CACHING YES|CLIENT CACHING NO|CLIENT CACHING x|CLIENT CACHING",
    "CLIENT GETREDIR|CLIENT TRACKING OFF|CLIENT TRACKING x|CLIENT TRACKING",
    "CLIENT SETNAME a|CLIENT GETNAME|CLIENT SETNAME|CLIENT SETNAME a b|CLIENT SETNAME é|CLIENT GETNAME",
    "CLIENT NO-EVICT on|CLIENT NO-EVICT off|CLIENT NO-EVICT x|CLIENT NO-EVICT",
    "CLIENT KILL|CLIENT KILL x|CLIENT KILL x:1|CLIENT KILL ID|CLIENT KILL ID x|CLIENT KILL ID 0|"
    "CLIENT KILL ID -1|CLIENT KILL ID 99999 ID 99998|CLIENT KILL WRONG x|CLIENT KILL TYPE x|"
    "CLIENT KILL TYPE master|CLIENT KILL USER x|CLIENT KILL SKIPME x|CLIENT KILL ID 99999 SKIPME|"
    "CLIENT KILL ADDR 1.1.1.1:1|CLIENT KILL LADDR 1.1.1.1:1",
    "CLIENT LIST ID x|CLIENT LIST ID|CLIENT LIST TYPE|CLIENT LIST TYPE x|CLIENT LIST TYPE master|"
    "CLIENT LIST WRONG|CLIENT LIST ID 99999|CLIENT LIST TYPE master ID 1|CLIENT LIST ID 99998 TYPE normal",
    "CLIENT UNBLOCK|CLIENT UNBLOCK x|CLIENT UNBLOCK 99999|CLIENT UNBLOCK 99999 x|CLIENT UNBLOCK 99999 error|"
    "CLIENT UNBLOCK 99999 TIMEOUT|CLIENT UNBLOCK 99999 ERROR x",
    "BLPOP diff:q x|BLPOP diff:q -1|BLPOP diff:q nan|BLPOP diff:q -inf|"
    "BLPOP diff:q 0.001|BRPOP diff:q diff:r 0.01|BLMPOP 0.01 1 diff:q LEFT|BLMPOP 0.01 0 diff:q LEFT|"
    "BLMPOP x 1 diff:q LEFT|BLMPOP x 0 diff:q LEFT|BLMPOP -1 1 diff:q x|BLMPOP 0.01 2 diff:q LEFT|"
    "BLMPOP 0.01 1 diff:q LEFT COUNT 0|BLMPOP 0.01 1 diff:q LEFT COUNT 2 x|"
    "BZMPOP 0.01 1 diff:q MIN|BZMPOP 0.01 1 diff:q x|BZPOPMIN diff:q 0.01|BZPOPMAX diff:q diff:r 0.01|"
    "BLMOVE diff:q diff:r LEFT LEFT 0.01|BLMOVE diff:q diff:r x LEFT y|BLMOVE diff:q diff:r LEFT x 0|"
    "BLMOVE diff:q diff:r LEFT LEFT x|BRPOPLPUSH diff:q diff:r 0.01|BRPOPLPUSH diff:q diff:r -5",
    "BLPOP diff:q inf",
    "BLPOP diff:q 1e300",
    "BLMPOP 9223372036854775807 1 diff:q LEFT",
    "RPUSH diff:q a b c d e f g|BLPOP diff:none diff:q 0|BRPOP diff:q 0|BLMPOP 0 2 diff:none diff:q RIGHT COUNT 2|"
    "BLMPOP 0 1 diff:q left|BLMOVE diff:q diff:q LEFT RIGHT 0|LRANGE diff:q 0 -1|BRPOPLPUSH diff:q diff:r 0|"
    "LRANGE diff:r 0 -1|DEL diff:q diff:r",
    "ZADD diff:q 1 a 2.5 b 3 c inf d|BZPOPMIN diff:none diff:q 0|BZPOPMAX diff:q 0|BZMPOP 0 1 diff:q MIN COUNT 5|"
    "EXISTS diff:q|SET diff:s v|BLPOP diff:s 0|BLPOP diff:none diff:s 0|BZPOPMIN diff:s 0|BLMOVE diff:s diff:r LEFT LEFT 0|"
    "BZMPOP 0 1 diff:s MIN|RPUSH diff:q a|BLMOVE diff:q diff:s LEFT LEFT 0|LLEN diff:q|BLPOP diff:q diff:s 0|"
    "BLPOP diff:q 0.01|BLMOVE diff:none diff:s LEFT LEFT 0.01|DEL diff:q diff:s",
    "CLIENT NOSUCH|CLIENT|CONFIG|CONFIG NOSUCH|COMMAND NOSUCH|CLIENT NOSUCH a b c|ACL|ACL NOSUCH|"
    "ACL WHOAMI|ACL WHOAMI x",
    "COMMAND GETKEYS SET a b|COMMAND GETKEYS MSET a b c d|COMMAND GETKEYS MGET a b c|"
    "COMMAND GETKEYS DEL a b|COMMAND GETKEYS PING a|COMMAND GETKEYS NOSUCH a|COMMAND GETKEYS SET a|"
    "COMMAND GETKEYS MSET a b c|COMMAND GETKEYS EXPIRE a 1 NX|COMMAND GETKEYS post x|"
    "COMMAND GETKEYS host: x|COMMAND GETKEYS client list|COMMAND GETKEYS config get x",
    "COMMAND GETKEYSANDFLAGS SET a b|COMMAND GETKEYSANDFLAGS set a b gEt|"
    "COMMAND GETKEYSANDFLAGS MSET a b c d|COMMAND GETKEYSANDFLAGS MGET a b c|"
    "COMMAND GETKEYSANDFLAGS DEL a b|COMMAND GETKEYSANDFLAGS SET a b EX 1 GET|"
    "COMMAND GETKEYSANDFLAGS PING a|COMMAND GETKEYSANDFLAGS NOSUCH a|COMMAND GETKEYSANDFLAGS SET a|"
    "COMMAND GETKEYSANDFLAGS GETDEL a|COMMAND GETKEYSANDFLAGS EXPIRE a 1|COMMAND GETKEYSANDFLAGS TTL a|"
    "COMMAND GETKEYSANDFLAGS STRLEN a|COMMAND GETKEYSANDFLAGS GETSET a b|"
    "COMMAND GETKEYSANDFLAGS SETNX a b",
    "COMMAND INFO nosuch post host:|COMMAND INFO get nosuch|COMMAND DOCS nosuch|COMMAND LIST FILTERBY|"
    "COMMAND LIST FILTERBY MODULE x|COMMAND LIST FILTERBY ACLCAT nosuch|"
    "COMMAND LIST FILTERBY PATTERN getse*|COMMAND LIST FILTERBY WRONG x|COMMAND LIST WRONG|"
    "COMMAND LIST filterby pattern SETN*|COMMAND LIST FILTERBY PATTERN x y",
    "CONFIG GET MAXMEMORY maxmemory|CONFIG GET maxmemory MAXMEMORY|CONFIG GET MaxMemory max?emory|"
    "CONFIG GET max?emory MaxMemory|CONFIG GET nosuch|CONFIG GET|CONFIG GET requirepass|CONFIG GET hz|"
    "CONFIG GET notify-keyspace-events|CONFIG GET databases|CONFIG GET save|CONFIG GET maxmemory-policy|"
    "CONFIG GET timeout|CONFIG GET maxclients|CONFIG GET CLUSTER-enabled|CONFIG GET [m]axmemory|"
    "CONFIG RESETSTAT|CONFIG RESETSTAT x",
    "HELLO 4|HELLO x|HELLO 1|HELLO 2 WRONG|HELLO 2 SETNAME|HELLO 2 AUTH|HELLO 2 AUTH default|"
    "HELLO 2 AUTH x y|HELLO 2 SETNAME a b|HELLO 2 AUTH x y SETNAME b|HELLO AUTH default x|HELLO -0|"
    "HELLO 02|HELLO 9223372036854775808",
    "AUTH|AUTH x|AUTH default x|AUTH x y|AUTH a b c|AUTH default",
    "SELECT 0|SELECT 1|SELECT -1|SELECT x|SELECT|SELECT 0 0",
    "RESET|PING",
    "RESET x|TIME x|DBSIZE x|RANDOMKEY x",
    "CLIENT REPLY OFF|RESET|PING",
    "NOSUCH|NOSUCH a b|"
    "nosuch aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    "bbbbbb cccccccccccccccccccccccccccccccccccccccccccccccc",
    "MSET a|MSET a b c|MSET diff:a 1 diff:a 2|GET diff:a|MGET diff:a diff:a diff:none|DEL diff:a diff:a|"
    "EXISTS diff:a|SET diff:a 1|EXISTS diff:a diff:a diff:none|TOUCH diff:a diff:a|UNLINK diff:a diff:a",
    "SET diff:a 1|TYPE diff:a|TYPE diff:none|STRLEN diff:a|STRLEN diff:none|GETSET diff:a 2|"
    "GETSET diff:none 2|GETDEL diff:none|GETDEL diff:a|GETDEL diff:a|SETNX diff:a 1|SETNX diff:a 2|"
    "GET diff:a|PERSIST diff:a|PERSIST diff:none|EXPIRE diff:a 100|PERSIST diff:a|TTL diff:a|"
    "PTTL diff:none|PTTL diff:a|EXPIRETIME diff:a|PEXPIRETIME diff:none|DEL diff:a",
    "SET diff:a 1 EX 100|GETSET diff:a 2|TTL diff:a|SET diff:a 1 EX 100|SETNX diff:a 3|TTL diff:a|"
    "MSET diff:a 1|TTL diff:a|DEL diff:a",
    "SET  v|GET |DEL ",
    "KEYS diff:nosuch*|DBSIZE x",
    "INFO nosuch|INFO nosuch NOSUCH|INFO cluster|INFO CLUSTER cluster",
    "CONFIG GET tcp-keepalive|CONFIG GET cluster-enabled|CONFIG GET unixsocket?",
    "ASKING x|READONLY x|READWRITE x",
    "PING|PING a|PING a b|ECHO|ECHO a b|PiNG",
    "MULTI|EXEC|EXEC|DISCARD|MULTI x|EXEC x|DISCARD x|UNWATCH x|WATCH|MULTI|DISCARD|EXEC",
    "MULTI|SET diff:m 1|INCR diff:m|GET diff:m|LPUSH diff:m x|EXEC|GET diff:m|DEL diff:m",
    "MULTI|SET diff:m 1|NOSUCH a|SET diff:m|CLIENT NOSUCH|GET diff:m|EXEC|EXEC|EXISTS diff:m",
    "MULTI|MULTI|WATCH diff:m|UNWATCH|SET diff:m 1|EXEC|DEL diff:m",
    "MULTI|SET diff:m 1|EXEC x|EXEC|EXISTS diff:m|MULTI|DISCARD x|EXEC",
    "MULTI|WATCH|EXEC|MULTI|MULTI x|EXEC|MULTI|RESET x|EXEC",
    "MULTI|SET diff:m 1|RESET|EXEC|EXISTS diff:m|PING",
    "WATCH diff:m|SET diff:m 1|MULTI|GET diff:m|EXEC|MULTI|GET diff:m|EXEC|DEL diff:m",
    "WATCH diff:m diff:n diff:m|MULTI|SET diff:m 1|SET diff:n 2|EXEC|MULTI|EXEC|DEL diff:m diff:n",
    "WATCH diff:m|DEL diff:m|MULTI|PING|EXEC|WATCH diff:m|SET diff:m 1|UNWATCH|MULTI|PING x|EXEC|DEL diff:m",
    "SET diff:m 1|WATCH diff:m|DEL diff:m|SET diff:m 1|MULTI|EXEC|WATCH diff:m|SET diff:m 2|DISCARD|MULTI|DISCARD|MULTI|"
    "GET diff:m|EXEC|DEL diff:m",
    "SET diff:m 1|WATCH diff:m|SET diff:m 3 NX|EXPIRE diff:none 5|MULTI|GET diff:m|EXEC|DEL diff:m",
    "SET diff:m x|MULTI|INCR diff:m|HSET diff:m a b|APPEND diff:m y|SETRANGE diff:m -1 x|GET diff:m|EXEC|DEL diff:m",
    "MULTI|SUBSTR diff:m 0|EXEC|WATCH diff:m|SET diff:m 1|MULTI|EXEC x|MULTI|EXEC|DEL diff:m",
    "MULTI|SELECT 0|PING|ECHO a|CLIENT GETNAME|CLIENT SETNAME tx|CLIENT GETNAME|EXEC|CLIENT SETNAME",
    "MULTI|SET diff:m 1|SET diff:other 2|MGET diff:m diff:other|DEL diff:m diff:other|EXISTS diff:m|EXEC",
    "MULTI|SORT diff:m BY diff:w*|TYPE diff:m|RENAME diff:m diff:n|EXEC",
)
# Words that are no text, or longer than an error shows.
BINARY = (b"\xff\xfe", b"a\0b", b"a\r\nb", b"\xc3\xa9", b"", b"x" * 127, b"x" * 128, b"x" * 200)
_IN_MS = {b"PX", b"PEXPIRE", b"PSETEX"}


def _checked(state: str, command: Command) -> Case:
    """`command` on a key in that state, and what it has made of it."""
    return ((b"DEL", KEY), *STATES[state], command, (b"GET", KEY), (b"TTL", KEY), (b"EXPIRETIME", KEY))


def option_cases() -> Iterator[Case]:
    """Each command with each of its options alone, twice, and with each other one, in either order; some in threes."""
    for base, options in OPTIONS.items():
        told = [(), *[(one,) for one in options], *product(options, repeat=2)]
        if base[0] == b"SET":
            told += permutations(options, 3)
        for chosen, state in product(told, STATES):
            yield _checked(state, base + tuple([word for option in chosen for word in option]))
    for base, options in OPTIONS.items():
        for option in options:
            for words in (
                (option[0].lower(), *option[1:]),
                option[:1],
                (*option, b"WRONG"),
                (b"WRONG", *option),
                (b"",),
            ):
                yield _checked("present", base + words)


def number_cases() -> Iterator[Case]:
    """Each number of each command at the limits of numbers."""
    for words, number in product(NUMBERED, NUMBERS):
        if number in (b"1", b"100") and not _IN_MS.isdisjoint(words):
            continue  # it expires between two commands
        command = tuple([number if word is None else word for word in words])
        for state in ("absent", "expiring") if KEY in command else ("absent",):
            yield _checked(state, command)


def arity_cases(names: list[str]) -> Iterator[Case]:
    """Each command with none to seven arguments."""
    for name in names:
        words = tuple(name.upper().encode().split(b"|"))
        spec = find_command(list(words))
        blocks = spec is not None and "blocking" in spec.flags
        number = b"0.001" if blocks else b"0"  # with a timeout of 0 it would wait for ever
        for count in range(8):
            yield (words + tuple([b"diff:%d" % place for place in range(count)]),)
            yield ((words[0].lower().capitalize(), *words[1:], *[number for _ in range(count)]),)


def session_cases() -> Iterator[Case]:
    """Whole sequences, for what belongs to a connection and for answers that depend on the commands before."""
    for line in SESSIONS:
        yield tuple([tuple([word.encode() for word in command.split(" ")]) for command in line.split("|")])


def binary_cases() -> Iterator[Case]:
    """Words of all kinds where an error repeats them."""
    for word in BINARY:
        yield (
            (b"NOSUCH" + word, word, b"z", word),
            (b"CLIENT", word, word),
            (b"EXPIRE", KEY, b"1", word),
            (b"HELLO", b"2", word),
            (b"CLIENT", b"SETNAME", word),
            (b"CLIENT", b"KILL", b"TYPE", word),
            (b"CLIENT", b"KILL", b"USER", word),
            (b"CLIENT", b"LIST", b"TYPE", word),
            (b"CONFIG", b"GET", word),
            (b"COMMAND", b"INFO", word),
            (b"COMMAND", b"GETKEYS", word, b"a"),
            (b"SELECT", word),
            (word,),
        )
