"""Every limit and tunable of a node, in one place (promise P10), with its default, its unit and its reason.

Theory. A queue without a named bound is an outage waiting for load. Each buffer and table in the code names the field
here that bounds it; at the bound the client gets a clear error. Fields are plain integers with the unit last in the
name. `Config.of` builds one from a mapping (a TOML file, say) and refuses names it does not know.

What a client may send must fit into what nodes may send each other, or a write would be taken that no link carries. So the
limits on sizes stand on each other, and `Config.of` refuses settings of which one does not fit into the next (`_FITS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

LEAF_BITS_MIN = 14  # a leaf is a slot then, and a partition is never less
LEAF_BITS_MAX = 24  # 128 MiB
CACHE_MEMORY_PERCENT_MAX = 80  # the rest of the node, and the kernel's cache of its files, need some, too


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type, or out of range; the message names it."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one node; all have defaults that suit a small cluster."""

    # Storage
    engine: str = "rocksdb"
    fsync: str = "everysec"
    cache_memory_percent: int = 10  # of the machine's memory: for the two caches below, unless the settings name them
    record_cache_bytes: int = 128 << 20  # of records, as Python objects: four fifths of that share
    block_cache_bytes: int = 64 << 20  # of RocksDB's blocks: one fifth of that share
    disk_free_bytes_min: int = 64 << 20  # below this, writes are refused with DISKFULL before the engine would fail

    # Data
    key_bytes_max: int = 64 << 10
    value_bytes_max: int = 16 << 20
    record_bytes_max: int = 32 << 20  # all values under one key together: a write past it is refused, TOOMANYSIBLINGS
    siblings_max: int = 100  # more concurrent values than this under one key: TOOMANYSIBLINGS

    # Clients
    clients_max: int = 10_000
    request_bytes_max: int = 64 << 20
    arguments_max: int = 1 << 20
    inline_bytes_max: int = 64 << 10
    client_buffers_bytes_max: int = 512 << 20  # requests and replies of all clients: past it the greediest is cut
    client_input_bytes_max: int = 1 << 20  # requests not begun at which we stop reading from a client
    client_output_bytes_max: int = 1 << 20  # unread replies at which we begin no more commands of a client
    pipeline_max: int = 1024  # commands of one client in flight
    turn_commands_max: int = 200  # of clients in one turn, which ends at this many without waiting for more
    turn_ms_max: int = 8  # commands begin for so long in one pass of the loop; the others wait for the next
    requests_running_max: int = 8192  # in flight for all clients: more wait until others are answered
    requests_in_flight_max: int = 200_000  # of all clients, parts of commands included: BUSY above
    values_in_flight_bytes_max: int = 48 << 20  # of all nodes' clients: past its share a node reads no more of them
    keepalive_ms: int = 300_000  # a silent connection is probed after so long, and closed if nobody answers; 0 never
    idle_timeout_ms: int = 0  # close clients idle for longer; 0 never, as Redis' `timeout`

    # Peers
    peers_max: int = 256  # connections of other nodes
    peer_input_bytes_max: int = (
        512 << 20
    )  # of all nodes' messages that have not come whole: past it the greediest is cut
    frame_bytes_max: int = 256 << 20
    large_message_bytes: int = 256 << 10  # from so many on a message travels in pieces of a quarter of that
    batch_bytes_max: int = 4 << 20  # a group of writes is sent once it has grown to this, at the latest
    peer_buffer_bytes_max: int = 512 << 20  # unsent bytes at which a peer's link is cut instead of growing
    peer_backlog_bytes_max: int = 128 << 20  # past it a peer gets hints instead of writes, if it can be spared
    peer_stall_ms_max: int = 3000  # a peer that takes nothing that is sent to it for so long gets its link cut
    unconfirmed_bytes_max: int = 256 << 20  # writes that some owner has not confirmed: past it they become hints early

    # Hints
    hints_bytes_max: int = 256 << 20  # keys, and what listing them in memory costs
    hint_age_ms_max: int = 86_400_000  # an owner's older hints are left to Merkle repair
    hint_after_ms: int = 1500  # an owner that has not confirmed a write for so long gets a hint

    # Time
    request_timeout_ms: int = 3000
    relay_silence_ms: int = 1500  # a relay to a node that has been silent for so long goes to the next owner
    relay_stale_ms: int = 1000  # a relay that arrives this late is refused: its sender may have gone elsewhere
    tick_ms: int = 100
    gossip_interval_ms: int = 1000
    clock_drift_ms_max: int = 600_000  # a hybrid clock further ahead is not followed; further off, cluster time steps
    clock_warn_ms: int = 5000  # the status complains of a wall clock that is further off than this

    # Long work
    scan_page_keys: int = 1000
    pattern_bytes_max: int = 64 << 10  # of KEYS, SCAN MATCH and the like
    tree_leaf_bits: int = 20  # 2**this leaves of 8 bytes; best the same on all nodes
    repair_interval_ms: int = 600_000  # within this each node has compared what it stores with all other owners
    background_keys_per_s: int = 1000  # repair, hints and scrubbing together, while clients are served
    background_keys_per_s_idle: int = 40_000  # and while they are not

    collect_wait_ms: int = 5000  # between the vote and the fence of a collection, if requests do not take longer
    collect_queue_max: int = 100_000  # dead records noticed and not yet collected; the scrub finds the others
    clock_entries_max: int = 8  # a longer clock is pruned, by the agreement that collects tombstones
    scrub_interval_ms: int = 86_400_000  # every record is read and verified once in so long
    damaged_records_max: int = 100_000  # damaged records known and not yet mended; reading finds the others again

    cluster_mode: bool = (
        False  # INFO and HELLO call this a cluster: for redis-cli --cluster; libraries adapt themselves
    )
    flushall: bool = False  # allow FLUSHALL without its confirmation word

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Config:
        """A config with `settings` over the defaults. Raises ConfigError that names the offending setting."""
        known = {field.name: field for field in fields(cls)}
        for name, value in settings.items():
            if name not in known:
                raise ConfigError(f"unknown setting '{name}'; known are {', '.join(sorted(known))}")
            default = known[name].default
            if type(value) is not type(default):
                raise ConfigError(f"setting '{name}' must be {type(default).__name__}, not {value!r}")
            if name.startswith("background_") and not value:
                raise ConfigError(f"setting '{name}' must be positive")
            if isinstance(value, int) and value < 0:
                raise ConfigError(f"setting '{name}' must not be negative, but is {value}")
        config = replace(cls(), **settings)  # type: ignore[arg-type]
        if config.engine not in ("memory", "rocksdb"):
            raise ConfigError(f"setting 'engine' must be memory or rocksdb, not {config.engine!r}")
        if not LEAF_BITS_MIN <= config.tree_leaf_bits <= LEAF_BITS_MAX:
            raise ConfigError(f"setting 'tree_leaf_bits' must be from {LEAF_BITS_MIN} to {LEAF_BITS_MAX}")
        if config.cache_memory_percent > CACHE_MEMORY_PERCENT_MAX:
            raise ConfigError(f"setting 'cache_memory_percent' must be {CACHE_MEMORY_PERCENT_MAX} at most")
        if not config.repair_interval_ms:
            raise ConfigError("setting 'repair_interval_ms' must be positive")
        if config.fsync not in ("always", "everysec", "no"):
            raise ConfigError(f"setting 'fsync' must be always, everysec or no, not {config.fsync!r}")
        _check_fit(config)
        return config


# What must fit into what, how often, and why. Besides the value a request or record has a key and a few words.
_FITS = (
    ("value_bytes_max", "record_bytes_max", 1, "a record holds one value at least"),
    ("value_bytes_max", "request_bytes_max", 1, "a request carries one value at least"),
    ("request_bytes_max", "client_buffers_bytes_max", 1, "one request must fit into the buffers of all clients"),
    ("request_bytes_max", "frame_bytes_max", 1, "nodes relay requests to each other"),
    ("record_bytes_max", "frame_bytes_max", 4, "replicas join what several coordinators have written meanwhile"),
    ("frame_bytes_max", "peer_buffer_bytes_max", 1, "a link must carry the largest message"),
    ("frame_bytes_max", "peer_input_bytes_max", 1, "the largest message must come whole"),
    ("peer_backlog_bytes_max", "peer_buffer_bytes_max", 1, "a slow peer is spared before its link is cut"),
    ("values_in_flight_bytes_max", "peer_buffer_bytes_max", 1, "all clients' values may be on their way to one peer"),
)
_WORDS_BYTES = 4096


def _check_fit(config: Config) -> None:
    """Raises ConfigError, naming both settings, where one limit does not fit into another."""
    for inner, outer, count, reason in _FITS:
        smaller, larger = getattr(config, inner), getattr(config, outer)
        need = count * smaller + (config.key_bytes_max + _WORDS_BYTES if inner == "value_bytes_max" else 0)
        if need > larger:
            raise ConfigError(
                f"setting '{outer}' is {larger} and must be at least {need}, as '{inner}' is {smaller}: {reason}"
            )
