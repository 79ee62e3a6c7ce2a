"""LATENCY: how long commands took, and when something took long (https://redis.io/docs/latest/commands/latency-latest/).

Theory. HISTOGRAM shows the times of commands, which core/services/latencies.py keeps. LATEST, HISTORY, GRAPH and RESET are
about events, which core/services/latency_monitor.py keeps once `latency_monitor_threshold_ms` is set. DOCTOR tells of both,
in sentences.
"""

from __future__ import annotations

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import CommandError
from server.core.base.histogram import Histogram, recent_of
from server.core.base.sinks import Sink
from server.core.commands.containers import container
from server.core.commands.shapes import show
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.services.services import Services

_GRAPH_COLUMNS = 50  # of the longest bar


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


def _latest(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """LATENCY LATEST: of each event its last sample, and its longest time."""
    events = services.latencies.monitor.events
    found: list[Value] = [
        [name, event.samples[-1].second, event.samples[-1].took_ms, event.worst_ms] for name, event in events.items()
    ]
    return resp.encode(found, sink.resp3)


def _history(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """LATENCY HISTORY event: its samples, the earliest first."""
    event = services.latencies.monitor.events.get(show(args[2]).lower())
    samples: list[Value] = [] if event is None else [[sample.second, sample.took_ms] for sample in event.samples]
    return resp.encode(samples, sink.resp3)


def _reset(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(services.latencies.monitor.reset([show(name).lower() for name in args[2:]]))


def _graph(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """LATENCY GRAPH event: a line for each sample, with a bar in proportion to the longest of them."""
    name = show(args[2]).lower()
    event = services.latencies.monitor.events.get(name)
    if event is None:
        raise CommandError(f"ERR No samples available for event '{show(args[2])}'")
    times = [sample.took_ms for sample in event.samples]
    lines = [f"{name} - high {max(times)} ms, low {min(times)} ms (all time high {event.worst_ms} ms)"]
    now = services.state.time_ms // 1000
    for sample in event.samples:
        bar = "#" * max(1, sample.took_ms * _GRAPH_COLUMNS // max(times))
        lines.append(f"{now - sample.second:>8} s ago {bar} {sample.took_ms} ms")
    return resp.verbatim("\n".join(lines) + "\n", sink.resp3)


def _doctor(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """LATENCY DOCTOR: the commands with the highest 99th percentile, the phases of requests, how late the loop was."""
    lines = ["The commands of this node's clients with the highest 99th percentile, replies included:"]
    slowest = sorted(
        recent_of(services.latencies.by_command).items(), key=lambda each: (-each[1].percentile_us(99), each[0])
    )
    lines += [f"- {name}: {_percentiles(times, 'calls')}" for name, times in slowest[:5]]
    lines.append("The parts of the work:")
    lines += [f"- {name}: {_percentiles(times, 'times')}" for name, times in recent_of(services.phases()).items()]
    lines += _event_lines(services)
    lag = services.process.facts.get("loop_lag_ms_max")
    if lag is not None:
        lines.append(f"The event loop was late by {lag} ms at most (loop_lag_ms in INFO is that of the last second).")
    lines.append("SLOWLOG GET shows the last slow commands, and `dyn cluster status` what is wrong with the nodes.")
    return resp.verbatim("\n".join(lines) + "\n", sink.resp3)


def _percentiles(times: Histogram, unit: str) -> str:
    return f"{times.calls} {unit}, p50 {times.percentile_us(50)} us, p99 {times.percentile_us(99)} us"


def _event_lines(services: Services) -> list[str]:
    """What DOCTOR says of events."""
    threshold_ms = services.state.config.latency_monitor_threshold_ms
    if not threshold_ms:
        return ["No events are kept: CONFIG SET latency-monitor-threshold MS keeps those that take so long."]
    events, now = services.latencies.monitor.events, services.state.time_ms // 1000
    return [f"Events of {threshold_ms} ms or longer{':' if events else ': none.'}"] + [
        f"- {name}: in {len(event.samples)} seconds, the last one {now - event.samples[-1].second} s ago; "
        f"{event.worst_ms} ms at most (LATENCY HISTORY {name})"
        for name, event in events.items()
    ]


def _spec(
    name: str,
    arity: int,
    handler: Handler,
    summary: str,
    since: str = "2.8.13",
    arguments: str = "",
    tips: str = "nondeterministic_output",
) -> CommandSpec:
    return CommandSpec(
        name, arity, IMMEDIATE, handler, summary, "server", "admin noscript loading stale", since=since,
        complexity="O(N)", arguments=arguments, tips=tips,
    )  # fmt: skip


LATENCY: CommandSpec = container(
    "latency",
    "How long the commands of this node's clients take, and when something took long.",
    "server",
    (
        _spec("latency|doctor", 2, _doctor, "Tells which commands take longest."),
        _spec("latency|graph", 3, _graph, "Draws the samples of an event.", arguments="event"),
        _spec(
            "latency|histogram", -2, _histogram, "Returns the times of commands by powers of two of microseconds.",
            "7.0.0", "[command [command ...]]",
        ),
        _spec("latency|history", 3, _history, "Returns the samples of an event, by second.", arguments="event"),
        _spec("latency|latest", 2, _latest, "Returns of each event its last sample and its longest time."),
        _spec(
            "latency|reset", -2, _reset, "Forgets the samples of some events, or of all.",
            arguments="[event [event ...]]", tips="",
        ),
    ),
    since="2.8.13",
    help_since="2.8.13",
)  # fmt: skip
COMMANDS = (LATENCY,)
