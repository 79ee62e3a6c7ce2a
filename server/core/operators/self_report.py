"""What `dyn doctor` asks of each node: the part "facts" of DYN.STATS (documented in `dyn doctor`'s manual page).

Only what the node itself knows is here: its settings, what it holds, how it sees its clock. The judgement, which compares
nodes, is the CLI's (dynamo_cli/doctor). The shell adds what it knows of the process and its machine (shell/machine.py).
Fields are only added: an older node lacks some, and `dyn doctor` calls these unknown.
"""

from __future__ import annotations

from typing import Any

from protocol.peer_versions import CAPABILITIES, VERSION_MAX, VERSION_MIN
from server.core.services.services import Services

_SETTINGS = (
    "engine", "fsync", "protected_mode", "tls_peers", "clients_max", "cache_memory_percent", "record_cache_bytes",
    "block_cache_bytes", "client_buffers_bytes_max", "hints_bytes_max", "disk_free_bytes_min", "clock_warn_ms",
    "repair_interval_ms",
)  # fmt: skip


def facts(services: Services) -> dict[str, Any]:
    """The facts of this node."""
    state, now_ms = services.state, services.state.now_ms
    view = services.membership.views.present()
    names = {member.id: member.name for member in state.layout.members} if state.layout is not None else {}
    return {
        "epoch": view.epoch if view is not None else 0,
        "layout": f"{view.epoch}.{view.revision}.{view.checksum.hex()}" if view is not None else "",
        "protocol": [VERSION_MIN, VERSION_MAX],
        "capabilities": [word.decode() for word in CAPABILITIES],
        "settings": {name: getattr(state.config, name) for name in _SETTINGS},
        "uptime_s": (now_ms - services.process.started_ms) // 1000,
        "clock_error_ms": state.cluster_time.own_error_ms(now_ms),
        "clock_bound_ms": state.cluster_time.bound_ms(now_ms),
        "has_password": services.access.has_password(),
        "is_protected": services.access.is_protected(),
        "peer_auth": services.authentication.mode,
        "hints": [
            {"owner": names.get(owner, owner), "count": count, "bytes": size_bytes, "oldest_s": age_s}
            for owner, count, size_bytes, age_s in state.hints.summary(state.wall_ms)
        ],
        "hints_dropped": {names.get(owner, owner): count for owner, count in state.hints.dropped_hints.items()},
        "compared_s": {  # since the last whole comparison with each member that this node leads
            name: (now_ms - compared_ms) // 1000
            for peer, name in names.items()
            if (compared_ms := services.anti_entropy.last_compared_ms(peer)) is not None
        },
        **services.process.examine(),
    }
