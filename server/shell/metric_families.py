"""What a node tells Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/), made anew at each scrape.

Theory. Nothing is counted twice for this: the counters are those of `DYN.STATS`, the times those of LATENCY HISTOGRAM. So a
scrape costs some milliseconds in one turn, and nothing between scrapes. Names end in their unit; a limit has the name of
what it limits and `_max`, so that an alert can compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from server.core.base.histogram import Histogram
from server.core.base.statistics import counter_names
from server.core.liveness.liveness import PeerState
from server.core.services.services import Services
from server.shell.clients import Clients
from server.shell.limit_families import limit_families

_US_PER_S = 1e6
_BOUNDS_US = tuple(1 << power for power in range(6, 25))  # 64 us to 17 s: fewer series than LATENCY HISTOGRAM has
_FACTS = {  # gauges that only the shell knows, by the name of the fact
    "loop_lag_ms": ("dyn_loop_lag_seconds", "How late the event loop was at most in the last second.", 1000.0),
    "loop_lag_ms_max": ("dyn_loop_lag_seconds_max", "The same since the start.", 1000.0),
    "gc_ms_max": ("dyn_gc_seconds_max", "The longest collection of garbage since the start.", 1000.0),
    "disk_free_bytes": ("dyn_disk_free_bytes", "The free space on the disk of this node's directory.", 1.0),
    "certificate_left_s": ("dyn_certificate_left_seconds", "How long this node's certificate is still valid.", 1.0),
}

_PROGRESS = {  # gauges of a transfer to this node, by the field of its document
    "partitions": "Partitions that this node fetches now, as a new owner or after the loss of its disk.",
    "partitions_done": "Those of them that it has whole.",
    "keys": "Keys of these partitions, as far as the former owners have told.",
    "keys_done": "Those of them that it has.",
}


class NodeCollector(Collector):
    """The families of one node. `engine_stats` returns the gauges of its storage engine."""

    def __init__(
        self, services: Services, clients: Clients, engine_stats: Callable[[], Mapping[str, int | str]]
    ) -> None:
        self._services = services
        self.clients = clients
        self._engine_stats = engine_stats

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._counters()
        yield from self._times()
        yield from self._load()
        yield from limit_families(self._services, self.clients)
        yield from self._data()
        yield from self._cluster()
        yield from self._transfers()
        yield from self._hints()
        yield from self._engine()

    def _counters(self) -> Iterator[Metric]:
        counted = self._services.state.statistics
        for name in counter_names():
            words = name.replace("_", " ")
            yield CounterMetricFamily(f"dyn_{name}", f"The counter of {words} in DYN.STATS.", getattr(counted, name))

    def _times(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "dyn_command_seconds",
            "The time from when commands of clients begin until their replies leave, the quorum and the commit included.",
            labels=["command"],
        )
        for name, times in sorted(self._services.latencies.by_command.items()):
            _add_times(family, name, times)
        yield family
        phases = HistogramMetricFamily(
            "dyn_phase_seconds",
            "The time of a part of the work: of each request until a quorum of reads or writes has answered, or another "
            "coordinator (in steps of 1 ms); of the commit of a turn; of a sync of the disk.",
            labels=["phase"],
        )
        for name, times in self._services.phases().items():
            _add_times(phases, name, times)
        yield phases

    def _load(self) -> Iterator[Metric]:
        services, state = self._services, self._services.state
        facts = services.process.facts
        yield _gauge("dyn_clients_blocked", "Clients that wait for an element.", services.waiting.blocked.waiting)
        yield _gauge("dyn_clients_queued", "Connections whose commands wait for a pass.", state.clients_queued)
        yield _gauge(
            "dyn_clients_paused", "1 while CLIENT PAUSE holds clients.", int(bool(services.clients.pause.mode))
        )
        yield _gauge("dyn_requests_running_max", "Past this commands wait to begin.", state.config.requests_running_max)
        yield _gauge(
            "dyn_commands_waiting", "Commands that wait for others of their connection.", state.commands_waiting
        )
        for fact, (name, words, divisor) in _FACTS.items():
            if fact in facts:
                yield _gauge(name, words, float(facts[fact]) / divisor)

    def _data(self) -> Iterator[Metric]:
        state, records = self._services.state, self._services.state.records
        yield _gauge("dyn_keys", "Keys with a value on this node.", records.live)
        yield _gauge("dyn_records", "Records on this node, tombstones included.", records.keys)
        yield _gauge("dyn_records_unreadable", "Ranges that could not be read.", len(records.unreadable))
        if (counted := self._services.scrub.keys_with_siblings) is not None:
            yield _gauge("dyn_keys_with_siblings", "Keys with siblings here, as the last scrub has found.", counted)
        least_bytes = state.config.disk_free_bytes_min
        yield _gauge("dyn_disk_free_bytes_min", "With less free space this node refuses writes.", least_bytes)
        yield _gauge("dyn_disk_full", "1 while this node refuses writes for lack of space.", int(state.disk_full))

    def _cluster(self) -> Iterator[Metric]:
        services, state = self._services, self._services.state
        layout, now_ms = state.layout, state.now_ms
        yield _gauge("dyn_ready", "1 if this node serves clients.", int(not not_ready(self.clients)))
        yield _gauge("dyn_filling", "1 while the others fill this node's store.", int(state.is_filling))
        pace = services.background.keys_per_s
        yield _gauge("dyn_background_keys_per_second", "What background work may handle at the moment.", pace)
        yield _gauge(
            "dyn_background_failing", "Procedures that met an error lately.", len(services.background.failing())
        )
        bound_ms = state.cluster_time.bound_ms(now_ms)
        if bound_ms is not None:
            yield _gauge("dyn_clock_bound_seconds", "How well cluster time is known.", bound_ms / 1000)
        own_error_ms = state.cluster_time.own_error_ms(now_ms)
        yield _gauge("dyn_clock_own_error_seconds", "How far this node's own clock is off.", own_error_ms / 1000)
        if layout is None:
            return
        yield _gauge("dyn_layout_epoch", "The epoch of the layout.", layout.epoch)
        yield _gauge("dyn_members", "Members of the cluster.", len(layout.members))
        family = GaugeMetricFamily("dyn_peer_state", "1 for the state of another member.", labels=["peer", "state"])
        compared = GaugeMetricFamily(
            "dyn_compared_age_seconds",
            "Since this node's last whole comparison with another member, which it leads; without one, since that came up.",
            labels=["peer"],
        )
        for member in layout.members:
            if member.id == state.id:
                continue
            for each in PeerState:
                family.add_metric([member.name, each.value], float(state.liveness.state(member.id) is each))
            if (compared_ms := services.anti_entropy.last_compared_ms(member.id)) is not None:
                compared.add_metric([member.name], (now_ms - compared_ms) / 1000)
        yield family
        yield compared

    def _transfers(self) -> Iterator[Metric]:
        """The progress of what this node fetches now; without samples if that is nothing."""
        services = self._services
        fetching = {"transfer": services.transfers.document(), "filling": services.filling.document()}
        for name, words in _PROGRESS.items():
            family = GaugeMetricFamily(f"dyn_transfer_{name}", words, labels=["kind"])
            for kind, document in fetching.items():
                if document is not None:
                    family.add_metric([kind], document[name])
            yield family

    def _hints(self) -> Iterator[Metric]:
        state, layout = self._services.state, self._services.state.layout
        names = {member.id: member.name for member in layout.members} if layout is not None else {}
        count = GaugeMetricFamily("dyn_hints", "Hints kept for an owner.", labels=["owner"])
        size = GaugeMetricFamily("dyn_hints_bytes", "Their memory.", labels=["owner"])
        age = GaugeMetricFamily("dyn_hints_age_seconds", "The age of the oldest one.", labels=["owner"])
        for owner, hints, size_bytes, age_s in state.hints.summary(state.wall_ms):
            for family, value in ((count, hints), (size, size_bytes), (age, age_s)):
                family.add_metric([names.get(owner, owner)], value)
        dropped = GaugeMetricFamily("dyn_hints_dropped", "Hints dropped since the last repair.", labels=["owner"])
        for owner, hints in state.hints.dropped_hints.items():
            dropped.add_metric([names.get(owner, owner)], hints)
        yield from (count, size, age, dropped)
        yield _gauge("dyn_hints_bytes_max", "The limit of all of them.", state.config.hints_bytes_max)

    def _engine(self) -> Iterator[Metric]:
        for name, value in self._engine_stats().items():
            if isinstance(value, int):
                words = name.replace("_", " ")
                yield _gauge(f"dyn_engine_{name}", f"The storage engine's figure of {words}.", value)


def _add_times(family: HistogramMetricFamily, label: str, times: Histogram) -> None:
    buckets, passed, ends = [], 0, list(times.cumulative())
    for bound_us in _BOUNDS_US:
        passed = max([calls for end_us, calls in ends if end_us <= bound_us], default=passed)
        buckets.append((f"{bound_us / _US_PER_S:.6f}", float(passed)))
    family.add_metric([label], [*buckets, ("+Inf", float(times.calls))], int(times.sum_us) / _US_PER_S)


def not_ready(clients: Clients) -> str:
    """Why clients should not be sent to this node; empty if they may be."""
    state = clients.context.node.state
    if state.layout is None:
        return "this node is not a member of a cluster yet"
    if not state.has_time:
        return "this node does not know cluster time yet"
    if clients.is_stopping:
        return "this node is stopping"
    if state.requests_max < 0:
        return state.refusal[1:].decode().strip()  # it is about to leave, or is a copy of another node
    return ""


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value)
