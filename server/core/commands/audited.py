"""Commands that are noted before they run (services/audit.py): they destroy data, or change members, settings or users.

Each one's handler is wrapped when the table is made, so other commands cost nothing. Words that hold a secret are not
noted: `_SECRET_FROM` is the first word that is left out, and of CONFIG SET requirepass only that name is noted.
"""

from __future__ import annotations

from dataclasses import replace

from server.core.base.sinks import Sink
from server.core.commands.spec import CommandSpec, Handler
from server.core.services.services import Services

AUDITED = frozenset(
    (
        "flushall", "flushdb", "config|set", "acl|setuser", "acl|deluser",
        *(f"dyn.cluster|{name}" for name in (
            "init", "join", "leave", "remove", "replace", "weight", "zone", "commit", "abort", "readdress",
        )),
    )
)  # fmt: skip
_SECRET_FROM = {"acl|setuser": 3}


def with_audit(spec: CommandSpec) -> CommandSpec:
    """`spec`, noting its calls if it or a subcommand is one of `AUDITED`."""
    subcommands = tuple([with_audit(sub) for sub in spec.subcommands])
    if spec.name in AUDITED:
        return replace(spec, handler=_noting(spec.handler, spec.name, _SECRET_FROM.get(spec.name, 1 << 20)))
    return spec if subcommands == spec.subcommands else replace(spec, subcommands=subcommands)


def _noting(handler: Handler, name: str, secret_from: int) -> Handler:
    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        shown = 3 if b"requirepass" in [word.partition(b"\0")[0].lower() for word in args] else secret_from
        services.audit.note(sink, name, args[:shown] + [b"(not shown)"] * (len(args) > shown))
        return handler(services, sink, number, args)

    return handle
