"""Changes settings of a running node, and tells where each one comes from.

Theory. All parts of a node share one `Config` and read a setting when they need it. So a change is an assignment of its
field. A few parts keep something that depends on a setting: `_APPLY` names these settings and what follows a change.
A change is checked like a whole file: all of it is applied, or nothing.

The source of a value, the strongest first:

live         CONFIG SET or `dyn config set` since the start
option       of this start: --set, --fsync, --engine, ...
environment  DYN_NAME
file         of --config, or the one that the directory remembers
directory    --fsync or --engine of an earlier start (node.json)
machine      computed from the memory of the machine
default
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields

from server.core.base.config import LIVE, Config, ConfigError
from server.core.services.services import Services

COMMAND_SOURCE = "command"  # CONFIG SET; "live" are the settings that it can change
DEFAULT_SOURCE = "default"


def values(config: Config) -> dict[str, object]:
    """All settings by name."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


def source_of(services: Services, name: str) -> str:
    """Where the present value of a setting comes from."""
    return services.process.settings.sources.get(name, DEFAULT_SOURCE)


def check(services: Services, changes: Mapping[str, object]) -> None:
    """Raises ConfigError if the settings would not fit each other, or the machine, after these changes."""
    Config.of({**values(services.state.config), **changes})
    wanted = changes.get("clients_max")
    if isinstance(wanted, int) and (room := services.process.room_for_clients(wanted)) < wanted:
        raise ConfigError(f"this node may not open as many files (ulimit -Hn): 'clients_max' can be {room}")


def change(services: Services, changes: Mapping[str, object], source: str = COMMAND_SOURCE) -> None:
    """Changes settings of `LIVE` in this node. Raises ConfigError; then nothing has changed."""
    assert not set(changes) - LIVE, "the caller has checked that the node can follow"
    check(services, changes)
    config = services.state.config
    for name, value in changes.items():
        setattr(config, name, value)
        services.process.settings.sources[name] = source
        if name in _APPLY:
            _APPLY[name](services, config)


def _bound_hints(services: Services, config: Config) -> None:
    services.state.hints.bytes_max = config.hints_bytes_max


def _protect(services: Services, config: Config) -> None:
    services.access.protected_mode = config.protected_mode


def _watch_latencies(services: Services, config: Config) -> None:
    services.latencies.read_settings()


_APPLY: dict[str, Callable[[Services, Config], None]] = {
    "hints_bytes_max": _bound_hints,
    "protected_mode": _protect,
    "slowlog_slower_than_us": _watch_latencies,
    "slowlog_entries_max": _watch_latencies,
    "latency_monitor_threshold_ms": _watch_latencies,
}
