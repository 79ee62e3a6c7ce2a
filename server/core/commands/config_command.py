"""CONFIG and DYN.CONFIG: the node's settings (https://redis.io/docs/latest/commands/config-get/).

Theory. There is one table of settings: the fields of `Config`. CONFIG GET, CONFIG SET, DYN.CONFIG SHOW (`dyn config show`)
and the file of --config all read it. CONFIG SET takes the settings that a running node follows (`LIVE`) and refuses the
others with an error that says so. A change holds in this node until it restarts; CONFIG REWRITE writes it to the node's
file. Two settings belong to the whole cluster: `notify-keyspace-events` (pubsub/notifications.py), and `requirepass`, the
password of the user `default`, which the document of users has (services/users.py). Passwords are kept hashed, so CONFIG
GET tells the hash. CONFIG REWRITE leaves both out.

Each setting has its own name, also with `-` for `_`, and some have the name of Redis, too (`_REDIS_NAMES`). Some tools ask
for further settings of Redis by themselves (redis-benchmark and many frameworks): those are answered with values that are
true here. CONFIG SET takes for one of these the value that it has, which changes nothing: so `CONFIG SET save ""`, which
test suites and tools send first, is no error.
"""

from __future__ import annotations

from protocol import resp
from protocol.databases import DATABASES
from server.core.base.config import DEFAULTS, LIVE, ConfigError, value_faults, value_of
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.containers import container
from server.core.commands.glob import glob_of
from server.core.commands.operator import help_lines
from server.core.commands.permissions import kind_of_name
from server.core.commands.shapes import named, show, word
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.operators import documents
from server.core.pubsub.events import flags_of
from server.core.services.live_settings import COMMAND_SOURCE, change, check, source_of, values
from server.core.services.services import Services
from server.core.services.users import DEFAULT_NAME

_SHELL_FACTS = ("bind", "dir", "port")


_REDIS_NAMES = {
    "maxclients": "clients_max",
    "latency-monitor-threshold": "latency_monitor_threshold_ms",
    "notify-keyspace-events": "notify_keyspace_events",
    "protected-mode": "protected_mode",
    "slowlog-log-slower-than": "slowlog_slower_than_us",
    "slowlog-max-len": "slowlog_entries_max",
}
# Names of Redis that CONFIG GET answers, and whose values CONFIG SET cannot change: what to do instead.
_FIXED = {
    "appendfsync": "start the node with another fsync",
    "appendonly": "start the node with another engine",
    "bind": "start the node with another --listen",
    "cluster-enabled": "start the node with another cluster_mode",
    "databases": "there are always as many",
    "dir": "to move a node, stop it, move its directory, and start it with --dir",
    "hz": "start the node with another tick_ms",
    "maxmemory": "no key is evicted; disk_free_bytes_min limits what a node stores",
    "maxmemory-policy": "no key is evicted; disk_free_bytes_min limits what a node stores",
    "port": "start the node with another --listen",
    "proto-max-bulk-len": "start the node with another value_bytes_max",
    "save": "writes are stored when they are answered; dyn export writes an RDB file",
    "tcp-keepalive": "start the node with another keepalive_ms",
}
_OF_CLUSTER = ("notify_keyspace_events", "requirepass")  # not of one node


def _present(services: Services) -> dict[str, object]:
    """The settings as they are now, by name."""
    of_cluster = {"notify_keyspace_events": services.notifications.text, "requirepass": _default_password(services)}
    return values(services.state.config) | of_cluster


def settings(services: Services) -> dict[str, str]:
    """All settings that CONFIG GET answers, by name, as text."""
    config, facts = services.state.config, services.process.facts
    own = {name: _as_text(value) for name, value in _present(services).items()}
    return own | {
        "appendfsync": config.fsync,
        "appendonly": _as_text(config.engine != "memory"),
        "cluster-enabled": _as_text(config.cluster_mode),
        "databases": str(DATABASES),
        "enable-debug-command": config.enable_debug_command,
        "hz": str(1000 // (config.tick_ms or 1)),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "proto-max-bulk-len": str(config.value_bytes_max),
        "save": "",
        "tcp-keepalive": str(config.keepalive_ms // 1000),
        "timeout": str(config.idle_timeout_ms // 1000),
        **{name: own[ours] for name, ours in _REDIS_NAMES.items()},
        **{name: facts[name] for name in _SHELL_FACTS if name in facts},
    }


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _get(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CONFIG GET pattern …: each setting once, however many patterns match it. A plain name comes back in the client's
    case."""
    known = settings(services)
    found: dict[str, bytes] = {}
    for asked in args[2:]:
        name = show(asked)
        if not any(special in name for special in "[*?"):
            if name.lower() in known and name.lower() not in [other.lower() for other in found]:
                found[name] = word(known[name.lower()])
            continue
        pattern = glob_of(asked.lower(), services.state.config)
        given = {other.lower() for other in found}
        for other, value in known.items():
            if other not in given and pattern.matches(other.encode()):
                found[other] = word(value)
    return named(found, sink.resp3)


def _default_password(services: Services) -> str:
    """What is known of the password of the user `default`: its SHA-256; empty if there is none."""
    user = services.users.find(DEFAULT_NAME)
    return f"#{user.passwords[0].decode()}" if user is not None and user.passwords else ""


def _set(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CONFIG SET parameter value …: all of them, or none if one is refused."""
    if len(args) % 2:
        raise CommandError(SYNTAX)
    changes: dict[str, object] = {}
    for name, value in zip(args[2::2], args[3::2], strict=True):
        shown, text = show(name), value.decode("utf-8", "surrogateescape")
        if _is_as_fixed(services, shown.lower(), text):
            continue
        ours = _settable(shown.lower())
        if ours in changes:
            raise _failed(shown, "duplicate parameter")
        changes[ours] = _parsed(ours, shown.lower(), text)
    of_cluster = {name: changes.pop(name) for name in _OF_CLUSTER if name in changes}
    if "notify_keyspace_events" in of_cluster:
        _check_publishing(services)
    try:
        check(services, changes)
    except ConfigError as error:
        raise CommandError(f"ERR CONFIG SET failed - {error}") from None
    for ours, given in of_cluster.items():
        if ours == "requirepass":
            _set_password(services, str(given).encode("utf-8", "surrogateescape"))
        else:
            services.notifications.change(flags_of(str(given)) or 0)
        services.process.settings.sources[ours] = COMMAND_SOURCE
    change(services, changes)  # last: it cannot fail any more, and the document of users may have had no room
    return resp.OK


def _is_as_fixed(services: Services, name: str, text: str) -> bool:
    """Whether a name of Redis has this value, and can have no other."""
    known = settings(services).get(name) if name in _FIXED else None
    return known is not None and known.lower() == text.lower()


def _settable(name: str) -> str:
    """Our name of a setting that a running node follows. Raises CommandError."""
    ours = "idle_timeout_ms" if name == "timeout" else _REDIS_NAMES.get(name, name.replace("-", "_"))
    if ours in LIVE:
        return ours
    if ours in DEFAULTS:
        raise _failed(name, "can't set immutable config: the node takes it from its config file when it starts")
    if name in _FIXED:
        raise _failed(name, f"can't set immutable config: {_FIXED[name]}")
    raise CommandError(f"ERR CONFIG SET {name} is not supported: {_why_not(ours)}")


def _parsed(ours: str, name: str, text: str) -> object:
    """The value of a setting, whose name the client has written as `name`. Raises CommandError."""
    if name == "timeout" and text.isdigit():
        text = f"{text}000"
    if ours == "notify_keyspace_events" and flags_of(text) is None:
        raise _failed(name, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
    try:
        value = value_of(ours, text)
    except ConfigError as error:
        raise _failed(name, str(error)) from None
    for _, fault in value_faults({ours: value}):
        raise _failed(name, fault)
    return value


def _why_not(name: str) -> str:
    """Why this is no setting of a node."""
    if name in ("n", "r", "w"):
        return "it is of the whole cluster: `dyn config set` stages it, `dyn cluster commit` changes it"
    if name == "partitions":
        return "it is fixed when the cluster is made, by dyn cluster init"
    return next(fault for _, fault in value_faults({name: ""}))


def _failed(name: str, why: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def _set_password(services: Services, value: bytes) -> None:
    """Gives the user `default` this password, or none, on all nodes."""
    rules = [b"resetpass", b">" + value] if value else [b"resetpass", b"nopass"]
    services.users.change(DEFAULT_NAME, rules, kind_of_name)


def _check_publishing(services: Services) -> None:
    """Raises CommandError unless all nodes can publish keyspace events, since this setting is one for all."""
    state = services.state
    members = state.layout.members if state.layout is not None else ()
    unable = [each.name for each in members if each.id in state.links and each.id not in state.publishing]
    if unable:
        raise CommandError(
            f"ERR keyspace events need this version on all nodes, and these have another: {', '.join(unable)}"
        )


def _rewrite(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CONFIG REWRITE: writes what CONFIG SET has changed to the node's file, and leaves everything else in it alone."""
    known = services.process.settings
    if known.write is None or not known.file:
        raise CommandError("ERR The server is running without a config file: start the node with --config FILE")
    config = services.state.config
    changed = {name: getattr(config, name) for name in sorted(LIVE) if known.sources.get(name) == COMMAND_SOURCE}
    for name in _OF_CLUSTER:
        changed.pop(name, None)
    try:
        known.write(changed)
    except (OSError, ValueError) as error:
        raise CommandError(f"ERR Rewriting config file {known.file}: {error}") from None
    return resp.OK


def _show(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """DYN.CONFIG SHOW: each setting, its value, where that comes from, and whether the running node follows a change."""
    rows = [
        {
            "name": name,
            "value": value,
            "default": DEFAULTS[name],
            "source": source_of(services, name),
            "live": name in LIVE,
        }
        for name, value in _present(services).items()
    ]
    document = {"node": services.state.member.name, "file": services.process.settings.file, "settings": rows}
    return resp.bulk(documents.encode(document))


def _resetstat(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.state.statistics.begin_anew()
    for times in (*services.latencies.by_command.values(), *services.phases().values()):
        times.begin_anew()
    return resp.OK


_FLAGS = "admin noscript loading stale"

CONFIG: CommandSpec = container(
    "config",
    "The settings of this node.",
    "server",
    (
        CommandSpec(
            "config|get",
            -3,
            IMMEDIATE,
            _get,
            "Returns settings that match glob patterns.",
            "server",
            _FLAGS,
            since="2.0.0",
            complexity="O(N)",
            arguments="parameter [parameter ...]",
        ),
        CommandSpec(
            "config|set",
            -4,
            IMMEDIATE,
            _set,
            "Changes settings of this node while it runs; dyn.toml(5) says which. The others hold from its start on.",
            "server",
            _FLAGS,
            since="2.0.0",
            arguments="parameter value [parameter value ...]",
        ),
        CommandSpec(
            "config|resetstat",
            2,
            IMMEDIATE,
            _resetstat,
            "Sets the counters of INFO to zero.",
            "server",
            _FLAGS,
            since="2.0.0",
        ),
        CommandSpec(
            "config|rewrite",
            2,
            IMMEDIATE,
            _rewrite,
            "Writes what CONFIG SET has changed to the config file of this node.",
            "server",
            _FLAGS,
            since="2.8.0",
        ),
    ),
    since="2.0.0",
)

_SUBCOMMANDS = (
    CommandSpec(
        "dyn.config|show", 2, IMMEDIATE, _show, "Lists the settings of this node, and where each one comes from.", "dyn",
        "readonly loading stale",
    ),
    CommandSpec(
        "dyn.config|help",
        2,
        IMMEDIATE,
        help_lines(
            "DYN.CONFIG <subcommand>. Each answers one JSON document:",
            "SHOW",
            "    The settings of this node: value, default, source, and whether CONFIG SET changes it (live).",
        ),
        "Lists the subcommands.",
        "dyn",
    ),
)  # fmt: skip

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.config", -2, IMMEDIATE, help_lines(), "The settings of this node.", "dyn", subcommands=_SUBCOMMANDS
    ),
)
