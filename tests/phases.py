"""The phases of the workload whose instructions are counted (tests/instructions.py)."""

from __future__ import annotations

from dataclasses import dataclass

VALUE = b"v" * 100
KEYS = 2_000  # that have a value: key:000000000000 and so on
PIPE_KEYS = 600
FEW_KEYS = 100
MANY_KEYS = 1_000_000  # so many that hardly any is drawn twice


@dataclass(frozen=True)
class Phase:
    """A part of the workload: `clients` of the first node send `count` commands in batches of `depth`. Of several commands
    in `command` each key gets one after the other. A `+` separates the words of a command; KEY and VALUE stand for these,
    and without KEY the key is the second word. Keys are `prefix` and a number, the same ones for the same `seed`.
    `reply_bytes`: of all replies for one key, if they are not those of SET and GET.
    """

    name: str
    command: str
    clients: int
    depth: int
    count: int
    keys: int = KEYS
    prefix: bytes = b"key:"
    seed: str = ""
    reply_bytes: int = 0


PHASES = (
    Phase("SET -P 1", "SET", 50, 1, 500),
    Phase("GET -P 1", "GET", 50, 1, 500),
    Phase("SET -P 16", "SET", 50, 16, 1600),
    Phase("GET -P 16", "GET", 50, 16, 1600),
    Phase("SETs by one pipeline", "SET", 1, 3_000, 3_000, PIPE_KEYS),
    Phase("SETs and GETs by one pipeline", "SET GET", 1, 3_000, 3_000, FEW_KEYS),
    Phase("SET NX by one pipeline", "SET+NX", 1, 600, 600, 1_000_000, b"key:new:"),
    Phase("SET NX of one key by one pipeline", "SET+NX", 1, 600, 600, 1, b"key:one:"),
)


def _command(name: str, command: str, reply_bytes: int, kind: str = "") -> tuple[Phase, Phase]:
    """A command by one pipeline and by clients that wait for each reply. Commands of one `kind` get the same new keys;
    without a kind the keys have values."""
    prefix, keys = (f"key:{kind}:".encode(), MANY_KEYS) if kind else (b"key:", KEYS)
    return (
        Phase(f"{name} by one pipeline", command, 1, 600, 600, keys, prefix, f"{kind} pipeline", reply_bytes),
        Phase(f"{name} -P 1", command, 50, 1, 500, keys, prefix + b"1:" * bool(kind), f"{kind} alone", reply_bytes),
    )


COMMANDS = (
    *_command("SET", "SET", 5),
    *_command("GET", "GET", 108),
    *_command("SET NX", "SET+NX", 5, "nx"),
    *_command("SET EX", "SET+EX+1000", 5, "ex"),
    *_command("SET GET", "SET+GET", 108),
    *_command("SETNX", "SETNX+KEY+v", 4, "setnx"),
    *_command("INCR", "INCR", 4, "number"),
    *_command("EXISTS", "EXISTS", 4),
    *_command("TTL", "TTL", 5),
    *_command("EXPIRE", "EXPIRE+KEY+1000", 4),
    *_command("MGET of 5", "MGET+KEY+KEY+KEY+KEY+KEY", 132),
    *_command("MSET of 5", "MSET" + "+KEY+v" * 5, 5, "several"),
    *_command("HSET", "HSET+KEY+f+v", 4, "hash"),
    *_command("HGET", "HGET+KEY+f", 7, "hash"),
    *_command("HINCRBY", "HINCRBY+KEY+n+1", 4, "hash"),
    *_command("LPUSH", "LPUSH+KEY+v", 4, "list"),
    *_command("RPOP", "RPOP", 7, "list"),
    *_command("SADD", "SADD+KEY+m", 4, "set"),
    *_command("SISMEMBER", "SISMEMBER+KEY+m", 4, "set"),
    *_command("ZADD", "ZADD+KEY+1+m", 4, "zset"),
    *_command("ZSCORE", "ZSCORE+KEY+m", 7, "zset"),
    *_command("XADD", "XADD+KEY+*+f+v", 22, "stream"),
    *_command("PUBLISH", "PUBLISH+KEY+m", 4, "channel"),
    *_command("DEL", "DEL", 4),
)
