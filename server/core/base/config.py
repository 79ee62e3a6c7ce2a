"""Every limit and setting of a node in one place (promise P10), each with its default, its unit and its reason.

Theory. A queue without a limit ends in an outage under load. Each buffer and table in the code names the field here
that limits it; at the limit the client gets a clear error. Fields are plain integers; the unit comes last in the name.
`Config.of` makes a config from a mapping (a TOML file, for example) and refuses unknown names.

Whatever a client may send must fit into the messages between nodes. Otherwise a node would accept a write that no link
can carry. So the size limits depend on each other, and `Config.of` refuses settings where one limit does not fit into
the next (`_FITS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

LEAF_BITS_MIN = 14  # one leaf per slot; no partition is smaller than a slot
LEAF_BITS_MAX = 24  # 128 MiB of leaves
PORT_MAX = 65_535
_EVENT_CLASSES = frozenset("Ag$lshzxeKEtmdn")  # core/pubsub/events.py
_CERTIFICATES = ("no", "optional", "required")
_COMPRESSIONS = ("none", "lz4", "zstd")
_PEERS = ("no", "optional", "yes")
CACHE_MEMORY_PERCENT_MAX = 80  # the rest of the node and the kernel's page cache need memory, too


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type, or out of range; the message names it."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one node; all have defaults that suit a small cluster."""

    # Storage
    engine: str = "rocksdb"
    fsync: str = "everysec"
    encryption_key_file: str = ""  # keys by which values are encrypted on the disk (storage/keyring.py); mode 600
    compression: str = "lz4"  # of the files on the disk: none, lz4 or zstd (storage/rocksdb_options.py has the prices)
    cache_memory_percent: int = 10  # share of the machine's memory for the two caches below, if they are not set
    record_cache_bytes: int = 128 << 20  # cached records, as Python objects: four fifths of that share
    block_cache_bytes: int = 64 << 20  # RocksDB's block cache: one fifth of that share
    disk_free_bytes_min: int = 64 << 20  # with less free, writes are refused with DISKFULL before the engine would fail

    orders_bytes_max: int = (
        256 << 20
    )  # kept orders of sorted sets by score, and of scanned collections, with their records

    # Data
    key_bytes_max: int = 64 << 10
    value_bytes_max: int = 16 << 20
    record_bytes_max: int = 32 << 20  # all siblings of a key together; a write past it is refused with TOOMANYSIBLINGS
    gathered_bytes_max: int = 256 << 20  # records or values of one command over several keys; past it, it is refused
    patch_record_bytes_min: int = 16 << 10  # of records of entries of this size, only changes are sent and stored
    patch_rows_bytes_max: int = 64 << 20  # patch rows of all records in the store; past it records are written whole
    siblings_max: int = 100  # siblings of a key; a write past it is refused with TOOMANYSIBLINGS

    # Who is served
    protected_mode: bool = True  # while there is no password: clients of this machine only, as in Redis

    metrics: str = ""  # HOST:PORT of another port, for Prometheus and for probes (shell/metrics.py); empty: none

    tls_port: int = 0  # takes TLS only; if it is the port of --listen, that one takes TLS only; 0: none
    tls_ca_file: str = ""  # certificates of the CAs that sign those of clients and other nodes (PEM)
    tls_crl_file: str = ""  # certificates that these CAs have revoked, a list of each CA (PEM)
    tls_cert_file: str = ""  # this node's certificate and its chain (PEM)
    tls_key_file: str = ""  # its key (PEM, not encrypted)
    tls_client_certificates: str = "no"  # whether clients show one: no, optional, required
    tls_peers: str = "no"  # links between nodes by TLS: no; optional while this is changed node by node; yes
    tls_handshakes_max: int = 256  # under way at a time
    tls_handshake_ms_max: int = 5000

    # Clients
    clients_max: int = 10_000
    request_bytes_max: int = 64 << 20
    arguments_max: int = 1 << 20
    inline_bytes_max: int = 64 << 10
    client_buffers_bytes_max: int = 512 << 20  # requests and replies of all clients; past it the largest client is cut
    client_input_bytes_max: int = 1 << 20  # requests not begun; past it we stop reading from that client
    client_output_bytes_max: int = 1 << 20  # unread replies; past it no more commands of that client begin
    subscriptions_bytes_max: int = 64 << 20  # names of what all clients of a node have subscribed to
    notify_keyspace_events: str = ""  # classes of keyspace events that are published, as in Redis, until CONFIG SET
    tracked_keys_max: int = 1_000_000  # keys that clients of a node cache (CLIENT TRACKING); past it the first are told
    push_bytes_max: int = 32 << 20  # messages pushed to a client and not read; past it the client is cut
    push_soft_bytes_max: int = 8 << 20  # the same, if it lasts for push_soft_ms
    push_soft_ms: int = 60_000  # these three are Redis' client-output-buffer-limit pubsub
    pipeline_max: int = 8192  # plain commands of one client in flight; see shell/connections.py
    turn_commands_max: int = 200  # commands of clients in one turn; at this number the turn ends
    turn_ms_max: int = 8  # in one pass of the event loop, commands begin for so long; the others wait for the next pass
    requests_running_max: int = 8192  # requests in flight for all clients; more wait until others are answered
    requests_in_flight_max: int = 200_000  # the same, parts of commands included; past it the answer is BUSY
    waiting_rows_max: int = 200_000  # clients that wait for keys of this node, once for each key; past it it is BUSY
    values_in_flight_bytes_max: int = 48 << 20  # values for the clients of all nodes; each node reads up to its share
    keepalive_ms: int = 300_000  # a silent connection is probed after this time, and closed without an answer; 0: never
    idle_timeout_ms: int = 0  # idle clients are closed after this time; 0: never, as Redis' `timeout`

    # Transactions
    multi_slots: str = "relaxed"  # keys of several slots in one transaction: relaxed (command by command), or strict
    transaction_commands_max: int = 100_000  # queued by one client since MULTI
    transaction_bytes_max: int = 64 << 20  # of them
    transaction_keys_max: int = 4096  # of one slot, which a transaction or a script reads at once; also watched keys

    # Peers
    peer_auth_required: bool = (
        True  # once all members have the secret, refuse who does not prove it (authentication.py)
    )
    handshakes_max: int = 64  # connections that have begun a handshake and not ended it; past it the oldest is closed
    handshake_ms_max: int = 5000  # from its first command to its proof
    peers_max: int = 256  # connections of other nodes
    peer_input_bytes_max: int = 512 << 20  # incomplete messages of all nodes; past it the largest sender is cut
    frame_bytes_max: int = 256 << 20
    large_message_bytes: int = 256 << 10  # a message of this size travels in pieces of a quarter of it
    batch_bytes_max: int = 4 << 20  # a write group of this size is sent before the end of the turn
    peer_buffer_bytes_max: int = 512 << 20  # unsent bytes to a peer; past it the link is cut
    peer_backlog_bytes_max: int = (
        128 << 20
    )  # unsent bytes; past it a peer gets hints for large writes, if W allows that
    peer_stall_ms_max: int = 3000  # a link whose peer reads nothing for this time is cut
    unconfirmed_bytes_max: int = 256 << 20  # writes that some owner has not confirmed; past it they get hints early

    # Hints
    hints_bytes_max: int = 256 << 20  # the storage keys of all hints, and their list in memory
    hint_age_ms_max: int = 86_400_000  # older hints are dropped, unless this holds the only copy; anti-entropy repairs
    hint_after_ms: int = 1500  # an owner that has not confirmed a write within this time gets a hint

    # Time
    request_timeout_ms: int = 3000
    relay_silence_ms: int = 1500  # relays to a node that has sent nothing for this time go to the next owner
    relay_stale_ms: int = 1000  # a relay that arrives later than this is refused: its sender may have sent it elsewhere
    tick_ms: int = 100
    gossip_interval_ms: int = 1000
    clock_drift_ms_max: int = 600_000  # hybrid clocks further ahead are refused; past this error cluster time steps
    clock_warn_ms: int = 5000  # the status names wall clocks that are further off than this

    # Long work
    scan_page_keys: int = 1000
    pattern_bytes_max: int = 64 << 10  # pattern of KEYS, SCAN MATCH and the like
    tree_leaf_bits: int = 20  # the hash tree has 2**this leaves of 8 bytes; it should be the same on all nodes
    repair_interval_ms: int = 600_000  # anti-entropy compares each record with all other owners once in this time
    background_keys_per_s: int = 1000  # repair, hint replay and scrub together, while clients are served
    background_keys_per_s_idle: int = 40_000  # the same, while no clients are served

    collect_wait_ms: int = 5000  # between vote and fence of a collection, at least
    collect_queue_max: int = 100_000  # dead records queued for collection; the scrub finds those that find no room
    clock_entries_max: int = 8  # a longer clock is pruned by the agreement that collects tombstones (collection.py)
    scrub_interval_ms: int = 86_400_000  # each record is read and verified once in this time
    damaged_records_max: int = 100_000  # damaged records queued for mending; reads find those that find no room again

    requirepass: str = ""  # password of the user `default`, until ACL SETUSER changes that user; empty: none is needed
    users_max: int = 1000
    user_rules_max: int = 1000  # patterns, commands, passwords and selectors of one user
    users_bytes_max: int = 1 << 20  # the rules of all users together, which every node keeps, and gossip carries

    script_instructions_max: int = 2_000_000  # of Lua in one run, some 25 ms; a command counts as 1000
    script_memory_bytes_max: int = 32 << 20  # of one run, with the garbage that it makes
    scripts_bytes_max: int = 32 << 20  # texts of scripts that are kept; past it those used longest ago are forgotten
    libraries_bytes_max: int = 2 << 20  # of functions: all texts together, which every node keeps

    cluster_mode: bool = False  # INFO and HELLO report a cluster, for redis-cli --cluster; libraries do not need it
    flushall: bool = False  # allow FLUSHALL without its confirmation word
    flushdb: bool = True  # the same for FLUSHDB: frameworks clear their caches by it

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Config:
        """Returns a config: the defaults, changed by `settings`. Raises ConfigError, which names the wrong setting."""
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
        if "transaction_bytes_max" not in settings:  # limits that fitted before there were transactions still do
            room = min(config.client_buffers_bytes_max, config.frame_bytes_max // 2)
            config = replace(config, transaction_bytes_max=min(config.transaction_bytes_max, room))
        if config.engine not in ("memory", "rocksdb"):
            raise ConfigError(f"setting 'engine' must be memory or rocksdb, not {config.engine!r}")
        if config.compression not in _COMPRESSIONS:
            raise ConfigError(f"setting 'compression' must be none, lz4 or zstd, not {config.compression!r}")
        if not LEAF_BITS_MIN <= config.tree_leaf_bits <= LEAF_BITS_MAX:
            raise ConfigError(f"setting 'tree_leaf_bits' must be from {LEAF_BITS_MIN} to {LEAF_BITS_MAX}")
        if config.cache_memory_percent > CACHE_MEMORY_PERCENT_MAX:
            raise ConfigError(f"setting 'cache_memory_percent' must be {CACHE_MEMORY_PERCENT_MAX} at most")
        if not config.repair_interval_ms:
            raise ConfigError("setting 'repair_interval_ms' must be positive")
        if config.multi_slots not in ("relaxed", "strict"):
            raise ConfigError(f"setting 'multi_slots' must be relaxed or strict, not {config.multi_slots!r}")
        if config.fsync not in ("always", "everysec", "no"):
            raise ConfigError(f"setting 'fsync' must be always, everysec or no, not {config.fsync!r}")
        if set(config.notify_keyspace_events) - _EVENT_CLASSES:
            raise ConfigError("setting 'notify_keyspace_events' may have these characters: Ag$lshzxeKEtmdn")
        if config.metrics and not is_address(config.metrics):
            raise ConfigError(f"setting 'metrics' must be HOST:PORT, not {config.metrics!r}")
        _check_tls(config)
        _check_fit(config)
        return config


def is_address(text: str) -> bool:
    """Whether it is HOST:PORT."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) <= PORT_MAX


def _check_tls(config: Config) -> None:
    """Raises ConfigError, which says which settings of TLS do not go together."""
    for name, words in (("tls_client_certificates", _CERTIFICATES), ("tls_peers", _PEERS)):
        if getattr(config, name) not in words:
            raise ConfigError(f"setting '{name}' must be {', '.join(words)}, not {getattr(config, name)!r}")
    if config.tls_port > PORT_MAX:
        raise ConfigError(f"setting 'tls_port' must be {PORT_MAX} at most, not {config.tls_port}")
    if bool(config.tls_cert_file) != bool(config.tls_key_file):
        raise ConfigError("settings 'tls_cert_file' and 'tls_key_file' go together: one of them is not given")
    asked = [name for name in ("tls_port", "tls_ca_file") if getattr(config, name)]
    asked += ["tls_peers"] if config.tls_peers != "no" else []
    if asked and not config.tls_cert_file:
        raise ConfigError(f"setting '{asked[0]}' needs the node's certificate: tls_cert_file and tls_key_file")
    if config.tls_crl_file and not config.tls_ca_file:
        raise ConfigError("setting 'tls_crl_file' needs tls_ca_file: it has the CA's list of revoked certificates")
    for name in ("tls_client_certificates", "tls_peers"):
        if getattr(config, name) != "no" and not config.tls_ca_file:
            raise ConfigError(
                f"setting '{name}' is {getattr(config, name)!r} and needs tls_ca_file to check certificates"
            )


# Inner limit, outer limit, how many times the inner one must fit, and why. A request or record has a key and a few words
# besides its value.
_FITS = (
    ("value_bytes_max", "record_bytes_max", 1, "a record holds one value at least"),
    ("value_bytes_max", "request_bytes_max", 1, "a request carries one value at least"),
    ("request_bytes_max", "client_buffers_bytes_max", 1, "one request must fit into the buffers of all clients"),
    ("request_bytes_max", "frame_bytes_max", 1, "nodes relay requests to each other"),
    ("transaction_bytes_max", "frame_bytes_max", 2, "a transaction travels to its coordinator in one message"),
    (
        "transaction_bytes_max",
        "client_buffers_bytes_max",
        1,
        "one transaction must fit into the buffers of all clients",
    ),
    ("record_bytes_max", "frame_bytes_max", 4, "replicas join what several coordinators have written meanwhile"),
    ("record_bytes_max", "gathered_bytes_max", 4, "a command over several keys reads some of them at once"),
    ("frame_bytes_max", "peer_buffer_bytes_max", 1, "a link must carry the largest message"),
    ("frame_bytes_max", "peer_input_bytes_max", 1, "the largest message must come whole"),
    ("peer_backlog_bytes_max", "peer_buffer_bytes_max", 1, "a slow peer is spared before its link is cut"),
    ("values_in_flight_bytes_max", "peer_buffer_bytes_max", 1, "all clients' values may be on their way to one peer"),
)
_WORDS_BYTES = 4096


def _check_fit(config: Config) -> None:
    """Raises ConfigError, which names both settings, if one limit does not fit into another."""
    for inner, outer, count, reason in _FITS:
        smaller, larger = getattr(config, inner), getattr(config, outer)
        need = count * smaller + (config.key_bytes_max + _WORDS_BYTES if inner == "value_bytes_max" else 0)
        if need > larger:
            raise ConfigError(
                f"setting '{outer}' is {larger} and must be at least {need}, as '{inner}' is {smaller}: {reason}"
            )
