"""MEMORY: what keys and the node take (https://redis.io/docs/latest/commands/?group=server).

Theory. USAGE tells the bytes of the stored record: the value with its clock and its siblings, and the key. What the caches
of a node and its engine take for it beside that is not counted. STATS tells what the node knows of its process; Redis has
more fields there, for parts that do not exist here. Memory is Python's and RocksDB's, so there is nothing to purge and no
allocator to ask.
"""

from __future__ import annotations

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.spec import IMMEDIATE, READ, CommandSpec
from server.core.commands.typed import ANY, reading
from server.core.records.kinds import NONE
from server.core.records.views import View
from server.core.services.services import Services

_DOCTOR = "dyn has no memory doctor. INFO memory shows what this node takes, and its limits are in dyn-commands(7).\n"
# Redis' names of what is known, and the facts of INFO that tell it.
_FACTS = {
    "peak.allocated": "used_memory_peak",
    "total.allocated": "used_memory",
    "allocator.resident": "used_memory_rss",
}


def _usage(view: View, args: list[bytes], sink: Sink) -> bytes:
    """MEMORY USAGE key [SAMPLES count]: the bytes of the key and of its record. All of it is counted, not samples."""
    place = 3
    while place < len(args):
        if args[place].upper() != b"SAMPLES" or place + 1 == len(args) or integer(args[place + 1]) < 0:
            raise CommandError(SYNTAX)
        place += 2
    if view.key_type == NONE:
        return resp.null(sink.resp3)
    return resp.integer(len(args[2]) + len(view.base or b""))


def _stats(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    facts = services.process.facts
    known: dict[Value, Value] = {name: int(facts[fact]) for name, fact in _FACTS.items() if fact in facts}
    cache = services.state.records.cache
    return resp.encode({**known, "keys.cache.bytes": cache.size_bytes}, sink.resp3)


def _doctor(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.verbatim(_DOCTOR, sink.resp3)


def _malloc_stats(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.bulk(b"Stats not supported for the current allocator")


def _purge(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.OK


_CHANCE = "nondeterministic_output"
_SUBCOMMANDS = (
    CommandSpec(
        "memory|doctor",
        2,
        IMMEDIATE,
        _doctor,
        "Says where to look: there is no doctor.",
        "server",
        since="4.0.0",
        tips=_CHANCE,
    ),
    CommandSpec(
        "memory|malloc-stats",
        2,
        IMMEDIATE,
        _malloc_stats,
        "Says that the allocator has no statistics.",
        "server",
        since="4.0.0",
        tips=_CHANCE,
    ),
    CommandSpec(
        "memory|purge", 2, IMMEDIATE, _purge, "Does nothing: there is nothing to purge.", "server", since="4.0.0"
    ),
    CommandSpec(
        "memory|stats", 2, IMMEDIATE, _stats, "Returns what this node takes.", "server", since="4.0.0", tips=_CHANCE
    ),
    CommandSpec(
        "memory|usage",
        -3,
        READ,
        reading(ANY, _usage, place=2),
        "Returns the bytes of a key and its record.",
        "server",
        "readonly",
        (2, 2, 1),
        since="4.0.0",
        complexity="O(N)",
        access="RO",
        arguments="key [SAMPLES count]",
    ),
)

COMMANDS: tuple[CommandSpec, ...] = (
    container(
        "memory",
        "Tells what keys and this node take.",
        "server",
        _SUBCOMMANDS,
        since="4.0.0",
        help_since="4.0.0",
    ),
)
