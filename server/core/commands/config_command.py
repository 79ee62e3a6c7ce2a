"""CONFIG: the node's settings, read-only (https://redis.io/docs/latest/commands/config-get/).

Theory. Settings come from the node's config file and hold until the node restarts, so CONFIG SET is refused with an error
that says so. Some tools ask for certain Redis settings by themselves (redis-benchmark and many frameworks): those are
answered, too, with values that are true here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from protocol import resp
from server.core.base.config import Config
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.base.statistics import Statistics
from server.core.commands.containers import container
from server.core.commands.glob import glob_of
from server.core.commands.shapes import named, show, word
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.services import Services

_SHELL_FACTS = ("bind", "dir", "port")


def settings(config: Config, facts: Mapping[str, str]) -> dict[str, str]:
    """All settings that CONFIG GET answers, by name, as text. `facts` come from the process (services/process.py)."""
    own = {field.name: _as_text(getattr(config, field.name)) for field in fields(config)}
    return own | {
        "appendfsync": config.fsync,
        "appendonly": _as_text(config.engine != "memory"),
        "cluster-enabled": _as_text(config.cluster_mode),
        "databases": "1",
        "hz": str(1000 // (config.tick_ms or 1)),
        "maxclients": str(config.clients_max),
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "",  # there are none
        "proto-max-bulk-len": str(config.value_bytes_max),
        "requirepass": "",
        "save": "",
        "slowlog-log-slower-than": "-1",  # there is no slow log
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
    known = settings(services.state.config, services.process.facts)
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


def _set(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise CommandError("ERR CONFIG SET is not supported: settings come from the node's config file, read at its start")


def _rewrite(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    raise CommandError("ERR CONFIG REWRITE is not supported: this server never changes its config file")


def _resetstat(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CONFIG RESETSTAT. Resets the counters in place, since other parts hold the object."""
    for field in fields(Statistics):
        setattr(services.state.statistics, field.name, field.default)
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
            "Not supported: settings come from the config file.",
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
