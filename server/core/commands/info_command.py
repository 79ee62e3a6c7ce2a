"""INFO: sections of `name:value` lines about this node (https://redis.io/docs/latest/commands/info/).

Theory. Most lines come from the core. Facts that only the process knows (its id, its memory, its CPU time) are in
`Process.facts`, under the names used here; the shell puts them there. A fact that is not there is left out: a missing line
is better than a wrong one. For `redis_mode` and `cluster_enabled` see login.py.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1

from protocol import resp
from protocol.slots import SLOTS
from server.core.base.histogram import recent_of
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.base.subscriber import CHANNEL, PATTERN, SHARD
from server.core.commands.login import REDIS_VERSION, redis_mode
from server.core.commands.shapes import show
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.services import Services

Facts = dict[str, object]

_SERVER_FACTS = (
    "os",
    "arch_bits",
    "process_id",
    "executable",
    "dyn_version",
    "dyn_build",
    "config_file",
    "io_threads_active",
)
_MEMORY_FACTS = (
    "used_memory",
    "used_memory_human",
    "used_memory_rss",
    "used_memory_rss_human",
    "used_memory_peak",
    "used_memory_peak_human",
    "total_system_memory",
    "total_system_memory_human",
    "mem_fragmentation_ratio",
    "mem_allocator",
)
_RATES = ("instantaneous_ops_per_sec", "instantaneous_input_kbps", "instantaneous_output_kbps")
_CPU_FACTS = ("used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children")


def _given(services: Services, names: tuple[str, ...]) -> Facts:
    return {name: services.process.facts[name] for name in names if name in services.process.facts}


def _run_id(services: Services) -> str:
    """Forty hexadecimal digits for this run of the node: a hash of its actor, which is new at each start."""
    return sha1(services.state.actor).hexdigest()


def _server(services: Services) -> Facts:
    state = services.state
    uptime_s = (state.now_ms - services.process.started_ms) // 1000
    return {
        "redis_version": REDIS_VERSION,
        "redis_mode": redis_mode(state.config),
        **_given(services, _SERVER_FACTS),
        "run_id": _run_id(services),
        "tcp_port": state.member.address.rpartition(":")[2],
        "server_time_usec": state.time_ms * 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86_400,
    }


def _clients(services: Services) -> Facts:
    return {
        "connected_clients": len(services.clients.sessions),
        "maxclients": services.state.config.clients_max,
        "blocked_clients": services.waiting.blocked.waiting,
        "tracking_clients": len(services.tracking.clients),
        "pubsub_clients": services.subscriptions.clients,
    }


def _memory(services: Services) -> Facts:
    config = services.state.config
    return {
        **_given(services, _MEMORY_FACTS),
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
        "cache_memory_percent": config.cache_memory_percent,
        "number_of_cached_scripts": services.scripts.count(),
        "record_cache_bytes": services.state.records.cache.size_bytes,
        "record_cache_bytes_max": config.record_cache_bytes,
        "deferred_patches_bytes": services.state.records.deferred.memory_bytes,
        "block_cache_bytes_max": config.block_cache_bytes,
    }


def _persistence(services: Services) -> Facts:
    return {
        "loading": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_bgsave_status": "ok",
        "aof_enabled": int(services.state.config.engine != "memory"),
        "aof_rewrite_in_progress": 0,
        "aof_last_write_status": "err" if services.state.disk_full else "ok",
    }


def _stats(services: Services) -> Facts:
    counted = services.state.statistics.shown()
    return {
        "total_connections_received": counted["connections"],
        "total_commands_processed": counted["commands"],
        "rejected_connections": counted["rejected_connections"],
        **_given(services, _RATES),
        "total_net_input_bytes": counted["net_input_bytes"],
        "total_net_output_bytes": counted["net_output_bytes"],
        **_given(services, ("loop_lag_ms", "loop_lag_ms_max", "gc_collections", "gc_ms_max")),
        "background_keys_per_s": services.background.keys_per_s,
        "keyspace_hits": counted["keyspace_hits"],
        "keyspace_misses": counted["keyspace_misses"],
        "total_error_replies": counted["error_replies"],
        "expired_keys": counted["expired_collected"],
        "evicted_keys": 0,
        "pubsub_channels": len(services.subscriptions.tables[CHANNEL]),
        "pubsub_patterns": len(services.subscriptions.tables[PATTERN]),
        "pubsubshard_channels": len(services.subscriptions.tables[SHARD]),
        "tracking_total_keys": len(services.tracking.keys),
        "tracking_total_items": sum([len(sessions) for sessions in services.tracking.keys.values()]),
        "tracking_total_prefixes": len(services.tracking.prefixes),
    }


def _replication(services: Services) -> Facts:
    """Always a master without replicas: every node takes writes, and Redis' replication does not exist here."""
    return {"role": "master", "connected_slaves": 0, "master_replid": _run_id(services), "master_repl_offset": 0}


def _cpu(services: Services) -> Facts:
    return _given(services, _CPU_FACTS)


def _cluster(services: Services) -> Facts:
    return {"cluster_enabled": int(services.state.config.cluster_mode)}


def _keyspace(services: Services) -> Facts:
    """Keys that have a value on this node, by database, expired ones included until they are collected, as in Redis:
    DBSIZE counts those of the cluster. Tombstones are counted in the section `Dyn`."""
    trees = services.state.records.trees
    facts: Facts = {}
    for database, space in enumerate(services.state.numbering.spaces):
        keys, expiring = trees.keys_of(space, 0, SLOTS)
        if keys:
            facts[f"db{database}"] = f"keys={keys},expires={expiring},avg_ttl=0"
    return facts


def _dyn(services: Services) -> Facts:
    state = services.state
    member, layout = state.member, state.layout
    facts: Facts = {"node_id": member.id, "node_name": member.name, "node_address": member.address, "zone": member.zone}
    if layout is not None:
        live = sum(state.liveness.is_live(other.id) for other in layout.members if other.id != state.id)
        facts |= {
            "cluster_id": layout.cluster,
            "layout_epoch": layout.epoch,
            "members": len(layout.members),
            "live_peers": live,
            "partitions": layout.partitions,
            "n": layout.serving_n,
            "r": layout.effective_r,
            "w": layout.effective_w,
        }
    facts |= {
        "records": state.records.keys,
        "tombstones": state.records.keys - state.records.live,
        "damaged_records": state.records.damaged,
        "clock_refused": state.clock.refused,
        **_clock(state),
        "requests_in_flight": state.in_flight,
        "silence_limit_ms": services.relays.silences.own_limit_ms,
        "disk_full": int(state.disk_full),
    }
    return facts | state.statistics.shown()


def _commands(services: Services) -> Facts:
    """The commands of clients and the time until their replies left: see services/latencies.py for what is timed."""
    return {
        f"cmdstat_{name}": f"calls={times.calls},usec={times.sum_us},usec_per_call={int(times.sum_us) / times.calls:.2f}"
        for name, times in sorted(recent_of(services.latencies.by_command).items())
    }


def _percentiles(services: Services) -> Facts:
    """The percentiles that Redis shows, of the same times."""
    return {
        f"latency_percentiles_usec_{name}": ",".join([f"p{each}={times.percentile_us(each)}" for each in _PERCENTS])
        for name, times in sorted(recent_of(services.latencies.by_command).items())
    }


def _modules(services: Services) -> Facts:
    """There are none."""
    return {}


def _errors(services: Services) -> Facts:
    """The errors that clients have got, by their first word."""
    counts = sorted(services.state.statistics.errors_by_code.items())
    return {f"errorstat_{code}": f"count={count}" for code, count in counts}


def _clock(state: State) -> Facts:
    """How well this node knows cluster time, and by how much its own wall clock is off; bound -1: the clocks of no majority
    are known."""
    bound_ms = state.cluster_time.bound_ms(state.now_ms)
    return {
        "clock_bound_ms": -1 if bound_ms is None else bound_ms,
        "clock_gap_ms": state.cluster_time.gap_ms(state.now_ms),
        "clock_own_error_ms": state.cluster_time.own_error_ms(state.now_ms),
        "clock_steps": state.cluster_time.steps,
    }


_SECTIONS: dict[str, Callable[[Services], Facts]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "CPU": _cpu,
    "Modules": _modules,
    "Errorstats": _errors,
    "Cluster": _cluster,
    "Keyspace": _keyspace,
    "Dyn": _dyn,
}
_ON_DEMAND: dict[str, Callable[[Services], Facts]] = {"Commandstats": _commands, "Latencystats": _percentiles}
_EVERYTHING = ("all", "everything")
_PERCENTS = (50, 99, 99.9)


def _info(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """INFO [section …]: the named sections, each once; without names, or for `default`, all but those of single commands.
    Unknown names are ignored."""
    wanted = [show(arg).lower() for arg in args[1:]]
    every = any(name in _EVERYTHING for name in wanted)
    usual = not wanted or every or "default" in wanted
    sections = []
    for title, facts_of in (_SECTIONS | _ON_DEMAND).items():
        if title.lower() in wanted or (usual if title in _SECTIONS else every):
            lines = [f"{name}:{value}\r\n" for name, value in facts_of(services).items()]
            sections.append(f"# {title}\r\n" + "".join(lines))
    return resp.verbatim("\r\n".join(sections), sink.resp3)


INFO: CommandSpec = CommandSpec(
    "info",
    -1,
    IMMEDIATE,
    _info,
    "Returns facts and counters of this node.",
    "server",
    "loading stale dangerous",
    arguments="[section [section ...]]",
    tips="nondeterministic_output",
)
