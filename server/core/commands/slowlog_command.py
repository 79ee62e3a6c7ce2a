"""SLOWLOG and LATENCY: how long commands took (https://redis.io/docs/latest/commands/slowlog/, .../latency-histogram/).

Theory. Both show what core/services/latencies.py keeps: what clients have waited for, quorums and commits included. Redis
times the processor only. Redis' latency monitor samples events of its own process that do not exist here, and is off by
default there; LATENCY LATEST, HISTORY, GRAPH and RESET answer as it does then.
"""

from __future__ import annotations

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import CommandError
from server.core.base.histogram import Histogram, recent_of
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.shapes import show
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.services.latencies import SlowCommand
from server.core.services.services import Services

_SHOWN_COUNT = 10


def _slowlog_get(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SLOWLOG GET [count]: the last slow commands, the latest first; -1 for all."""
    count = _SHOWN_COUNT
    if len(args) > 3:
        raise CommandError(
            f"ERR unknown subcommand or wrong number of arguments for '{show(args[1])}'. Try SLOWLOG HELP."
        )
    if len(args) == 3:
        count = integer(args[2], "ERR count should be greater than or equal to -1")
        if count < -1:
            raise CommandError("ERR count should be greater than or equal to -1")
    slow = list(services.latencies.slow)
    return resp.array([_line(each, sink.resp3) for each in (slow if count == -1 else slow[:count])])


def _line(slow: SlowCommand, resp3: bool) -> bytes:
    arguments: list[Value] = list(slow.arguments)
    return resp.encode(
        [slow.number, slow.time_ms // 1000, slow.took_us, arguments, slow.address, slow.client_name], resp3
    )


def _slowlog_len(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(len(services.latencies.slow))


def _slowlog_reset(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.latencies.slow.clear()
    return resp.OK


def _histogram(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """LATENCY HISTOGRAM [command …]: the named commands, or all, as far as they were called. A container's
    name stands for its subcommands."""
    known = recent_of(services.latencies.by_command)
    wanted = [show(name).lower() for name in args[2:]]
    names = [name for each in wanted for name in known if name == each or name.startswith(f"{each}|")]
    found: dict[Value, Value] = {name: _shown(known[name]) for name in (names if wanted else known)}
    return resp.encode(found, sink.resp3)


def _shown(histogram: Histogram) -> Value:
    """The calls that took so many microseconds or less, by powers of two, as Redis has it."""
    by_power: dict[Value, Value] = {}
    for end_us, calls in histogram.cumulative():
        by_power[1 << max(end_us - 1, 0).bit_length()] = calls
    return {"calls": histogram.calls, "histogram_usec": by_power}


def _no_samples(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.array([])


def _latency_reset(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(0)


def _graph(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise CommandError(f"ERR No samples available for event '{show(args[2])}'")


def _doctor(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """LATENCY DOCTOR: the commands with the highest 99th percentile, the phases of requests, how late the loop was."""
    lines = ["The commands of this node's clients with the highest 99th percentile, replies included:"]
    slowest = sorted(
        recent_of(services.latencies.by_command).items(), key=lambda each: (-each[1].percentile_us(99), each[0])
    )
    for name, times in slowest[:5]:
        p50, p99 = times.percentile_us(50), times.percentile_us(99)
        lines.append(f"- {name}: {times.calls} calls, p50 {p50} us, p99 {p99} us")
    lines.append("The parts of the work:")
    for name, times in recent_of(services.phases()).items():
        lines.append(
            f"- {name}: {times.calls} times, p50 {times.percentile_us(50)} us, p99 {times.percentile_us(99)} us"
        )
    lag = services.process.facts.get("loop_lag_ms_max")
    if lag is not None:
        lines.append(f"The event loop was late by {lag} ms at most (loop_lag_ms in INFO is that of the last second).")
    lines.append("SLOWLOG GET shows the last slow commands, and `dyn cluster status` what is wrong with the nodes.")
    return resp.verbatim("\n".join(lines) + "\n", sink.resp3)


_CHANCE = "nondeterministic_output"


def _spec(
    name: str,
    arity: int,
    handler: Handler,
    summary: str,
    flags: str,
    since: str,
    arguments: str = "",
    tips: str = _CHANCE,
) -> CommandSpec:
    return CommandSpec(
        name, arity, IMMEDIATE, handler, summary, "server", flags, since=since, complexity="O(N)", arguments=arguments,
        tips=tips,
    )  # fmt: skip


_NO_MONITOR = "Has no samples: there is no monitor of events."
_SLOW, _TIMES = "admin loading stale", "admin noscript loading stale"

SLOWLOG = container(
    "slowlog",
    "The last commands of this node's clients that took long.",
    "server",
    (
        _spec("slowlog|get", -2, _slowlog_get, "Returns the last slow commands.", _SLOW, "2.2.12", "[count]"),
        _spec("slowlog|len", 2, _slowlog_len, "Returns how many slow commands are kept.", _SLOW, "2.2.12"),
        _spec("slowlog|reset", 2, _slowlog_reset, "Forgets the slow commands.", _SLOW, "2.2.12", tips=""),
    ),
    since="2.2.12",
    help_since="6.2.0",
)
LATENCY = container(
    "latency",
    "How long the commands of this node's clients take.",
    "server",
    (
        _spec("latency|doctor", 2, _doctor, "Tells which commands take longest.", _TIMES, "2.8.13"),
        _spec("latency|graph", 3, _graph, _NO_MONITOR, _TIMES, "2.8.13", "event"),
        _spec(
            "latency|histogram", -2, _histogram, "Returns the times of commands by powers of two of microseconds.",
            _TIMES, "7.0.0", "[command [command ...]]",
        ),
        _spec("latency|history", 3, _no_samples, _NO_MONITOR, _TIMES, "2.8.13", "event"),
        _spec("latency|latest", 2, _no_samples, _NO_MONITOR, _TIMES, "2.8.13"),
        _spec(
            "latency|reset", -2, _latency_reset, "Resets nothing: there is no monitor of events.", _TIMES, "2.8.13",
            "[event [event ...]]", "",
        ),
    ),
    since="2.8.13",
    help_since="2.8.13",
)  # fmt: skip
COMMANDS = (SLOWLOG, LATENCY)
