"""CONFIG: the node's settings (https://redis.io/docs/latest/commands/config-get/).

Theory. Settings come from the node's config file and hold until the node restarts. CONFIG SET changes only those that the
node can follow while it runs (`_SETTABLE`); others are refused with an error that says so. `protected-mode` holds until the
next start. `notify-keyspace-events` is one setting for the whole cluster (pubsub/notifications.py). `requirepass` is the
password of the user `default`, which the document of users has (services/users.py).
Passwords are kept hashed, so CONFIG GET tells the hash.

Some tools ask for certain Redis settings by themselves (redis-benchmark and many frameworks): those are answered, too, with
values that are true here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

from protocol import resp
from protocol.databases import DATABASES
from server.core.base.config import Config
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.glob import glob_of
from server.core.commands.permissions import kind_of_name
from server.core.commands.shapes import named, show, word
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.pubsub.events import flags_of
from server.core.services.latencies import SLOW_KEPT_MAX
from server.core.services.services import Services
from server.core.services.users import DEFAULT_NAME

_SHELL_FACTS = ("bind", "dir", "port")


def settings(config: Config, facts: Mapping[str, str]) -> dict[str, str]:
    """All settings that CONFIG GET answers, by name, as text. `facts` come from the process (services/process.py)."""
    own = {field.name: _as_text(getattr(config, field.name)) for field in fields(config)}
    return own | {
        "appendfsync": config.fsync,
        "appendonly": _as_text(config.engine != "memory"),
        "cluster-enabled": _as_text(config.cluster_mode),
        "databases": str(DATABASES),
        "enable-debug-command": config.enable_debug_command,
        "hz": str(1000 // (config.tick_ms or 1)),
        "maxclients": str(config.clients_max),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "proto-max-bulk-len": str(config.value_bytes_max),
        "save": "",
        "latency-monitor-threshold": "0",  # there is no monitor of events
        "tcp-keepalive": str(config.keepalive_ms // 1000),
        "timeout": str(config.idle_timeout_ms // 1000),
        **{name: facts[name] for name in _SHELL_FACTS if name in facts},
    }


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _get(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CONFIG GET pattern …: each setting once, however many patterns match it. A plain name comes back in the client's
    case."""
    known = settings(services.state.config, services.process.facts) | {"requirepass": _default_password(services)}
    known["notify-keyspace-events"] = known["notify_keyspace_events"] = services.notifications.text
    known["slowlog-log-slower-than"] = str(services.latencies.slow_us)
    known["slowlog-max-len"] = str(services.latencies.slow.maxlen)
    known["protected-mode"] = known["protected_mode"] = _as_text(services.access.protected_mode)
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
    changes = [(show(name).lower(), value) for name, value in zip(args[2::2], args[3::2], strict=True)]
    for name, value in changes:
        if name not in _SETTABLE:
            raise CommandError(
                f"ERR CONFIG SET {name} is not supported: it comes from the node's config file, read at its start"
            )
        check, _ = _SETTABLE[name]
        if refusal := check(value):
            raise CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {refusal}")
    for name, value in changes:
        _SETTABLE[name][1](services, sink, value)
    return resp.OK


def _check_switch(value: bytes) -> str:
    return "" if value.lower() in (b"yes", b"no") else "argument must be 'yes' or 'no'"


def _set_protected_mode(services: Services, sink: Sink, value: bytes) -> None:
    services.access.protected_mode = value.lower() == b"yes"


def _set_password(services: Services, sink: Sink, value: bytes) -> None:
    """Gives the user `default` this password, or none, on all nodes."""
    rules = [b"resetpass", b">" + value] if value else [b"resetpass", b"nopass"]
    services.users.change(DEFAULT_NAME, rules, kind_of_name)


def _check_events(value: bytes) -> str:
    is_valid = flags_of(show(value)) is not None
    return "" if is_valid else "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."


def _set_events(services: Services, sink: Sink, value: bytes) -> None:
    """Says on all nodes which keyspace events are published."""
    state = services.state
    members = state.layout.members if state.layout is not None else ()
    unable = [each.name for each in members if each.id in state.links and each.id not in state.publishing]
    if unable:
        raise CommandError(
            f"ERR keyspace events need this version on all nodes, and these have another: {', '.join(unable)}"
        )
    services.notifications.change(flags_of(show(value)) or 0)


def _check_number(least: int, most: int) -> Callable[[bytes], str]:
    def check(value: bytes) -> str:
        try:
            number = integer(value)
        except CommandError:
            return "argument couldn't be parsed into an integer"
        return "" if least <= number <= most else f"argument must be between {least} and {most} inclusive"

    return check


def _set_slow_us(services: Services, sink: Sink, value: bytes) -> None:
    services.latencies.slow_us = int(value)


def _set_slow_count(services: Services, sink: Sink, value: bytes) -> None:
    services.latencies.keep(int(value))


# By setting that changes while the node runs: what checks a value, with the reason if it is refused, and what sets it.
_SETTABLE: dict[str, tuple[Callable[[bytes], str], Callable[[Services, Sink, bytes], None]]] = {
    "notify-keyspace-events": (_check_events, _set_events),
    "protected-mode": (_check_switch, _set_protected_mode),
    "requirepass": (lambda value: "", _set_password),
    "slowlog-log-slower-than": (_check_number(-1, 2**63 - 1), _set_slow_us),
    "slowlog-max-len": (_check_number(0, SLOW_KEPT_MAX), _set_slow_count),
}


def _rewrite(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise CommandError("ERR CONFIG REWRITE is not supported: this server never changes its config file")


def _resetstat(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.state.statistics.begin_anew()
    services.latencies.by_command.clear()
    return resp.OK


_FLAGS = "admin noscript loading stale"

CONFIG = container(
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
            "Changes settings that this node can follow while it runs; the others come from the config file.",
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
            "Not supported: the config file is never written.",
            "server",
            _FLAGS,
            since="2.8.0",
        ),
    ),
    since="2.0.0",
)
