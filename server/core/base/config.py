"""Every limit and setting of a node in one place (promise P10), each with its default, its unit and its reason.

Theory. A queue without a limit ends in an outage under load. Each buffer and table in the code names the field here
that limits it; at the limit the client gets a clear error. Fields are plain integers; the unit comes last in the name.
`Config.of` makes a config from a mapping (a TOML file, for example) and refuses unknown names. A running node follows
changes of the settings in `LIVE`: services/live_settings.py assigns their fields, and nobody else does. Whoever needs one
of them reads it when it is needed and keeps no copy. dyn.toml(5) is made from this class and the comments of its fields.

Whatever a client may send must fit into the messages between nodes. Otherwise a node would accept a write that no link
can carry. So the size limits depend on each other, and `Config.of` refuses settings where one limit does not fit into
the next (`_FITS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

LEAF_BITS_MIN = 14  # one leaf per slot; no partition is smaller than a slot
LEAF_BITS_MAX = 24  # 128 MiB of leaves
PORT_MAX = 65_535
_EVENT_CLASSES = frozenset("Ag$lshzxeKEtmdn")  # core/pubsub/events.py
# The words that a setting takes.
CHOICES = {
    "engine": ("memory", "rocksdb"),
    "fsync": ("always", "everysec", "no"),
    "compression": ("none", "lz4", "zstd"),
    "multi_slots": ("relaxed", "strict"),
    "tls_client_certificates": ("no", "optional", "required"),
    "tls_peers": ("no", "optional", "yes"),
    "log_format": ("text", "json"),
    "enable_debug_command": ("no", "yes", "local"),
}
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
LOG_AREAS = (
    "node", "settings", "disk", "peers", "cluster", "clocks", "hints", "repair", "clients", "security",
)  # fmt: skip
# The settings that a running node follows: CONFIG SET, `dyn config set`, and the file again on SIGHUP. Not
# request_timeout_ms: requests in flight lie in the order of their deadlines.
LIVE = frozenset((
    "background_keys_per_s", "background_keys_per_s_idle", "repair_interval_ms", "scrub_interval_ms", "collect_wait_ms",
    "hints_bytes_max", "hint_age_ms_max", "hint_after_ms",
    "record_bytes_max", "gathered_bytes_max", "siblings_max", "scan_page_keys", "pattern_bytes_max",
    "push_bytes_max", "push_soft_bytes_max", "push_soft_ms", "idle_timeout_ms", "waiting_rows_max", "clients_max",
    "multi_slots", "transaction_commands_max", "transaction_bytes_max", "transaction_keys_max",
    "peer_input_bytes_max", "peer_buffer_bytes_max", "peer_backlog_bytes_max", "unconfirmed_bytes_max",
    "relay_silence_ms", "relay_silence_ms_min", "relay_stale_ms", "clock_warn_ms", "damaged_records_max",
    "users_max", "user_rules_max", "users_bytes_max",
    "script_instructions_max", "script_ms_max", "scripts_bytes_max", "libraries_bytes_max",
    "slowlog_slower_than_us", "slowlog_entries_max", "latency_monitor_threshold_ms",
    "log_level", "log_format", "log_file_bytes_max", "log_files_kept",
    "protected_mode", "flushall", "flushdb", "notify_keyspace_events", "requirepass",
))  # fmt: skip
SECRET = frozenset(("requirepass",))  # no message shows these values
# Settings of earlier versions, and what holds instead. A node that is given one starts all the same: it ignores the
# setting, and says so (shell/settings.py).
RETIRED: dict[str, str] = {
    "relay_retry_ms": "commands wait for a silent coordinator for relay_silence_ms, as a sooner retry could lose writes",
}
SLOWLOG_ENTRIES_MAX = 10_000  # a line takes up to 4 KiB
CACHE_MEMORY_PERCENT_MAX = 80  # the rest of the node and the kernel's page cache need memory, too


class ConfigError(ValueError):
    """A setting that is unknown, of the wrong type, or out of range; the message names it."""


@dataclass(slots=True)
class Config:
    """The settings of one node; all have defaults that suit a small cluster."""

    # Storage
    engine: str = "rocksdb"  # rocksdb keeps the data on the disk; memory keeps nothing over a restart
    fsync: str = "everysec"  # when writes are synced to the disk, as Redis' appendfsync: always, everysec or no
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
    key_bytes_max: int = 64 << 10  # a key
    value_bytes_max: int = 16 << 20  # a value
    record_bytes_max: int = 32 << 20  # all siblings of a key together; a write past it is refused with TOOMANYSIBLINGS
    gathered_bytes_max: int = 256 << 20  # records or values of one command over several keys; past it, it is refused
    patch_record_bytes_min: int = 16 << 10  # of records of entries of this size, only changes are sent and stored
    patch_rows_bytes_max: int = 64 << 20  # patch rows of all records in the store; past it records are written whole
    siblings_max: int = 100  # siblings of a key; a write past it is refused with TOOMANYSIBLINGS

    # Who is served
    protected_mode: bool = True  # while there is no password: clients of this machine only, as in Redis
    metrics: str = ""  # HOST:PORT of another port, for Prometheus and for probes (shell/metrics.py); empty: none

    # TLS
    tls_port: int = 0  # a port that takes TLS only; if it is that of --listen, that one takes TLS only; 0: none
    tls_ca_file: str = ""  # certificates of the CAs that sign those of clients and other nodes (PEM)
    tls_crl_file: str = ""  # certificates that these CAs have revoked, a list of each CA (PEM)
    tls_cert_file: str = ""  # this node's certificate and its chain (PEM)
    tls_key_file: str = ""  # the key of that certificate (PEM, not encrypted)
    tls_client_certificates: str = "no"  # whether clients show one: no, optional, required
    tls_peers: str = "no"  # links between nodes by TLS: no; optional while this is changed node by node; yes
    tls_handshakes_max: int = 256  # TLS handshakes under way at a time
    tls_handshake_ms_max: int = 5000  # a TLS handshake that takes longer is cut

    # Clients
    clients_max: int = 10_000  # connections of clients; as many as the limit on open files allows, at most
    request_bytes_max: int = 64 << 20  # a request with all its arguments
    arguments_max: int = 1 << 20  # arguments of one request
    inline_bytes_max: int = 64 << 10  # a request that is a plain line
    client_buffers_bytes_max: int = 512 << 20  # requests and replies of all clients; past it the largest client is cut
    client_input_bytes_max: int = 1 << 20  # requests not begun; past it we stop reading from that client
    client_output_bytes_max: int = 1 << 20  # unread replies; past it no more commands of that client begin
    subscriptions_bytes_max: int = 64 << 20  # names of what all clients of a node have subscribed to
    notify_keyspace_events: str = ""  # classes of keyspace events that are published, as in Redis, until CONFIG SET
    tracked_keys_max: int = 1_000_000  # keys that clients of a node cache (CLIENT TRACKING); past it the first are told
    push_bytes_max: int = 32 << 20  # messages pushed to a client and not read; past it the client is cut
    push_soft_bytes_max: int = 8 << 20  # past this for push_soft_ms the client is cut, too
    push_soft_ms: int = 60_000  # these three are Redis' client-output-buffer-limit pubsub
    pipeline_max: int = 8192  # plain commands of one client in flight; see shell/connections.py
    turn_commands_max: int = 200  # commands of clients in one turn; at this number the turn ends
    turn_ms_max: int = 8  # in one pass of the event loop, commands begin for so long; the others wait for the next pass
    requests_running_max: int = 8192  # requests in flight for all clients; more wait until others are answered
    requests_in_flight_max: int = 200_000  # requests in flight, parts of commands included; past it the answer is BUSY
    waiting_rows_max: int = 200_000  # clients that wait for keys of this node, once for each key; past it it is BUSY
    values_in_flight_bytes_max: int = 48 << 20  # values for the clients of all nodes; each node reads up to its share
    keepalive_ms: int = 300_000  # a silent connection is probed after this time, and closed without an answer; 0: never
    idle_timeout_ms: int = 0  # idle clients are closed after this time; 0: never, as Redis' `timeout`

    # Transactions
    multi_slots: str = "relaxed"  # keys of several slots in one transaction: relaxed (command by command), or strict
    transaction_commands_max: int = 100_000  # commands queued by one client since MULTI
    transaction_bytes_max: int = 64 << 20  # the bytes of these commands
    transaction_keys_max: int = 4096  # keys of one slot that a transaction or a script reads at once; also watched keys

    # Tracing (core/tracing/)
    trace_one_in: int = 0  # one of so many is traced, only the first of a pipeline whose connection is idle; 0: none
    traces_max: int = 1000  # traced requests that a node has notes of, for ten seconds; past it requests are not traced

    # Peers
    peer_auth_required: bool = (
        True  # once all members have the secret, refuse who does not prove it (authentication.py)
    )
    handshakes_max: int = 64  # connections that have begun a handshake and not ended it; past it the oldest is closed
    handshake_ms_max: int = 5000  # from the first command of a handshake between nodes to its proof
    peers_max: int = 256  # connections of other nodes: somewhat more than the cluster has (shell/files.py)
    peer_input_bytes_max: int = 512 << 20  # incomplete messages of all nodes; past it the largest sender is cut
    frame_bytes_max: int = 256 << 20  # a message between nodes
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
    request_timeout_ms: int = 3000  # a request that has no quorum by then is answered with NOQUORUM or TIMEOUT
    relay_silence_ms: int = 1500  # relays to a node that has sent nothing for this time go to the next owner
    relay_silence_ms_min: int = 300  # the least time until a silent coordinator is given up; the above: never sooner
    relay_stale_ms: int = 1000  # a relay that arrives later than this is refused: its sender may have sent it elsewhere
    tick_ms: int = 100  # the time between two ticks of the node's timers
    gossip_interval_ms: int = 1000  # each node exchanges what it knows of the others with a random one in this time
    clock_drift_ms_max: int = 600_000  # hybrid clocks further ahead are refused; past this error cluster time steps
    clock_warn_ms: int = 5000  # the status names wall clocks that are further off than this

    # Long work
    scan_page_keys: int = 1000  # keys of one page of SCAN, and of one step of other scans, at most
    pattern_bytes_max: int = 64 << 10  # a pattern of KEYS, SCAN MATCH and the like
    tree_leaf_bits: int = 20  # the hash tree has 2**this leaves of 8 bytes; it should be the same on all nodes
    repair_interval_ms: int = 600_000  # anti-entropy compares each record with all other owners once in this time
    background_keys_per_s: int = (
        1000  # repair, transfer, hint replay and scrub together, while clients are delayed by them
    )
    background_keys_per_s_idle: int = 40_000  # repair, transfer, hint replay and scrub together, at most

    collect_wait_ms: int = 5000  # between vote and fence of a collection, at least
    collect_queue_max: int = 100_000  # dead records queued for collection; the scrub finds those that find no room
    clock_entries_max: int = 8  # a longer clock is pruned by the agreement that collects tombstones (collection.py)
    scrub_interval_ms: int = 86_400_000  # each record is read and verified once in this time
    damaged_records_max: int = 100_000  # damaged records queued for mending; reads find those that find no room again

    # Users
    requirepass: str = ""  # password of the user `default`, until ACL SETUSER changes that user; empty: none is needed
    users_max: int = 1000  # users of the cluster
    user_rules_max: int = 1000  # patterns, commands, passwords and selectors of one user
    users_bytes_max: int = 1 << 20  # the rules of all users together, which every node keeps, and gossip carries

    # Scripts
    script_instructions_max: int = 400_000  # instructions of Lua within a turn, some 5 ms; a command counts as 1000
    script_ms_max: int = 10_000  # a script that takes longer goes on in a thread, for so long
    script_memory_bytes_max: int = 32 << 20  # memory of one run of a script, with the garbage that it makes
    scripts_bytes_max: int = 32 << 20  # texts of scripts that are kept; past it those used longest ago are forgotten
    libraries_bytes_max: int = 2 << 20  # texts of all libraries of functions, which every node keeps

    # Redis
    cluster_mode: bool = False  # INFO and HELLO report a cluster, for redis-cli --cluster; libraries do not need it
    enable_debug_command: str = "no"  # who may use DEBUG, for tests: no, yes, local (clients of this machine)
    flushall: bool = False  # allow FLUSHALL without its confirmation word
    flushdb: bool = True  # allow FLUSHDB without its confirmation word: frameworks clear their caches by it

    # What operators see
    slowlog_slower_than_us: int = 10_000  # commands that take longer are in the slow log; negative: none
    slowlog_entries_max: int = 128  # kept commands of the slow log
    latency_monitor_threshold_ms: int = 0  # what takes so long is an event of LATENCY HISTORY; 0: nothing is
    log_level: str = "info"  # the lowest level of lines, for all areas or some: "info, peers=debug, clients=error"
    log_format: str = "text"  # one line an event: text or json
    log_to: str = "stderr"  # stderr, journal, or the path of a file of this node alone, which is rotated
    log_file_bytes_max: int = 64 << 20  # a file of this size is renamed to FILE.1; 0: never
    log_files_kept: int = 5  # FILE.1, FILE.2, ... beside the file

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Config:
        """Returns a config: the defaults, changed by `settings`. Raises ConfigError, which names the wrong setting."""
        for _, fault in value_faults(settings):
            raise ConfigError(fault)
        config = replace(cls(), **settings)  # type: ignore[arg-type]
        if "transaction_bytes_max" not in settings:  # limits that fitted before there were transactions still do
            room = min(config.client_buffers_bytes_max, config.frame_bytes_max // 2)
            config = replace(config, transaction_bytes_max=min(config.transaction_bytes_max, room))
        _check_tls(config)
        _check_fit(config)
        return config


DEFAULTS: dict[str, object] = {field.name: field.default for field in fields(Config)}


def log_levels(text: str) -> dict[str, str]:
    """The level of each area that `log_level` gives one, and under "" that of all others. Raises ConfigError."""
    levels = {"": "info"}
    for word in text.replace(" ", "").split(","):
        area, equals, level = word.rpartition("=")
        if level not in LOG_LEVELS or (equals and area not in LOG_AREAS):
            raise ConfigError(
                f"'{word}': a level is one of {', '.join(LOG_LEVELS)}, and an area one of {', '.join(LOG_AREAS)}; for "
                'example "info, peers=debug"'
            )
        levels[area] = level
    return levels


def value_of(name: str, text: str) -> object:
    """The value of a setting that is given as text: by CONFIG SET or the environment. Raises ConfigError."""
    default = DEFAULTS.get(name)
    if isinstance(default, bool):
        if text.lower() not in ("yes", "no", "true", "false"):
            raise ConfigError("argument must be 'yes' or 'no'")
        return text.lower() in ("yes", "true")
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ConfigError("argument couldn't be parsed into an integer") from None
    return text


def value_faults(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What is wrong with each of the settings by itself: its name, and a sentence."""
    for name, value in settings.items():
        if fault := _fault(name, value):
            yield name, f"{_subject(name)} {fault}"


def _subject(name: str) -> str:
    return f"setting '{name}'" if name in DEFAULTS else "unknown setting"


_KINDS: dict[type, str] = {str: "text", int: "a whole number", bool: "true or false"}


def _fault(name: str, value: object) -> str:
    default = DEFAULTS.get(name)
    if default is None and name in RETIRED:
        return f"'{name}': it is no setting any more, and {RETIRED[name]}"
    if default is None:
        near = get_close_matches(name, sorted(DEFAULTS), 1)
        return f"'{name}': did you mean '{near[0]}'?" if near else f"'{name}': dyn.toml(5) lists all settings"
    if type(value) is not type(default):
        given = "" if name in SECRET else f", not {value!r}"
        return f"must be {_KINDS[type(default)]}{given}"
    if isinstance(value, str):
        return _fault_of_text(name, value)
    assert isinstance(value, int)
    return _fault_of_number(name, value)


def _fault_of_text(name: str, value: str) -> str:
    if name in CHOICES and value not in CHOICES[name]:
        *others, last = CHOICES[name]
        return f"must be {', '.join(others)} or {last}, not {value!r}"
    if name == "notify_keyspace_events" and set(value) - _EVENT_CLASSES:
        return "may have these characters: Ag$lshzxeKEtmdn"
    if name == "log_level":
        try:
            log_levels(value)
        except ConfigError as error:
            return f"is wrong at {error}"
    if name == "log_to" and not value:
        return "must be stderr, journal or the path of a file"
    if name == "metrics" and value and not is_address(value):
        return f"must be HOST:PORT, not {value!r}"
    return ""


def _fault_of_number(name: str, value: int) -> str:
    if name == "slowlog_slower_than_us":
        return ""
    if value < 0:
        return f"must not be negative, but is {value}"
    if not value and (name.startswith("background_") or name in _POSITIVE):
        return "must be positive"
    if name == "tree_leaf_bits" and not LEAF_BITS_MIN <= value <= LEAF_BITS_MAX:
        return f"must be from {LEAF_BITS_MIN} to {LEAF_BITS_MAX}"
    most = _MOST.get(name)
    return f"must be {most} at most, not {value}" if most is not None and value > most else ""


_POSITIVE = ("repair_interval_ms", "scan_page_keys", "request_timeout_ms", "clients_max")
_MOST = {
    "cache_memory_percent": CACHE_MEMORY_PERCENT_MAX,
    "slowlog_entries_max": SLOWLOG_ENTRIES_MAX,
    "tls_port": PORT_MAX,
}


def is_address(text: str) -> bool:
    """Whether it is HOST:PORT."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= PORT_MAX


def _check_tls(config: Config) -> None:
    """Raises ConfigError, which says which settings of TLS do not go together."""
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
    ("relay_stale_ms", "relay_silence_ms", 1, "a write that was sent to another owner must not run here later"),
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
