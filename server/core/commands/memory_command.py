"""MEMORY: what keys and the node take (https://redis.io/docs/latest/commands/?group=server).

Theory. USAGE tells the bytes of the stored record: the value with its clock and its siblings, and the key. What the caches
of a node and its engine take for it beside that is not counted. STATS tells what the node knows of its process and its
buffers; Redis has more fields there, for parts that do not exist here. DOCTOR compares these with each other and with the
limits. Memory is Python's and RocksDB's, so there is nothing to purge and no allocator to ask.
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

_FULL = 0.8  # of a limit, or of the machine's memory
_PEAK = 1.5
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


def _client_bytes(services: Services) -> int:
    """The requests and replies that are held for clients."""
    return sum([services.process.buffers_of(number).total_bytes for number in services.clients.sessions])


def _stats(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    facts, records = services.process.facts, services.state.records
    known: dict[Value, Value] = {name: int(facts[fact]) for name, fact in _FACTS.items() if fact in facts}
    known |= {
        "clients.normal": _client_bytes(services),
        "functions.caches": services.scripts.size_bytes,
        "keys.count": records.live,
        "keys.cache.bytes": records.cache.size_bytes,
        "hints.bytes": _hint_bytes(services),
    }
    if "used_memory" in facts:
        used, peak = int(facts["used_memory"]), int(facts["used_memory_peak"])
        known |= {
            "keys.bytes-per-key": used // (records.live or 1),
            "peak.percentage": f"{100 * used / (peak or 1):.2f}",
            "fragmentation": facts["mem_fragmentation_ratio"],
        }
    return resp.encode(known, sink.resp3)


def _hint_bytes(services: Services) -> int:
    state = services.state
    return sum([size_bytes for _, _, size_bytes, _ in state.hints.summary(state.wall_ms)])


def _doctor(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """MEMORY DOCTOR: what is nearly full, each with the setting, in a line."""
    return resp.verbatim("".join([f"{line}\n" for line in _findings(services)]), sink.resp3)


def _findings(services: Services) -> list[str]:
    facts, config, found = services.process.facts, services.state.config, []
    used, peak = int(facts.get("used_memory", 0)), int(facts.get("used_memory_peak", 0))
    machine = int(facts.get("total_system_memory", 0))
    if machine and used > _FULL * machine:
        found.append(
            f"This node takes {used >> 20} of the machine's {machine >> 20} MiB: lower cache_memory_percent, or run fewer "
            "nodes on it."
        )
    if used and peak > _PEAK * used:
        found.append(
            f"It took {peak >> 20} MiB at its peak, and {used >> 20} MiB now: large requests, or many at once, may need "
            "that again."
        )
    for what, taken, name in (
        ("requests and replies of clients", _client_bytes(services), "client_buffers_bytes_max"),
        ("hints", _hint_bytes(services), "hints_bytes_max"),
        ("names of subscriptions", services.subscriptions.names_bytes, "subscriptions_bytes_max"),
        ("writes that owners have not confirmed", services.writes.unconfirmed_bytes, "unconfirmed_bytes_max"),
    ):
        limit = getattr(config, name)
        if taken > _FULL * limit:
            found.append(f"The {what} take {taken >> 20} MiB, and {name} is {limit >> 20} MiB.")
    return found or ["This node has no trouble with its memory: INFO memory shows what it takes."]


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
        "Says what takes too much memory.",
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
