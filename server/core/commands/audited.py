"""Commands that are noted before they run (services/audit.py): they destroy data, change members, settings or users, hold
clients, or begin and end repairs and other tasks.
One that is refused is noted once more, with the error.

Each one's handler is wrapped when the table is made, so other commands cost nothing. Words that hold a secret are not
noted: `_SECRET_FROM` is the first word that is left out, and of CONFIG SET requirepass only that name is noted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from protocol.resp import Reply
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.spec import CommandSpec, Handler
from server.core.services.services import Services

AUDITED = frozenset(
    (
        "flushall", "flushdb", "function|flush", "config|set", "config|rewrite", "acl|setuser", "acl|deluser",
        "client|pause", "client|unpause",
        "dyn.repair|start", "dyn.hints|replay", "dyn.task|abort", "dyn.task|pause", "dyn.task|resume",
        *(f"dyn.cluster|{name}" for name in (
            "init", "join", "leave", "remove", "replace", "weight", "zone", "quorum", "commit", "abort", "readdress",
        )),
    )
)  # fmt: skip
_OPERATORS = "dyn."
_SECRET_FROM = {"acl|setuser": 3}


def with_audit(spec: CommandSpec) -> CommandSpec:
    """`spec`, noting its calls if it or a subcommand is one of `AUDITED`."""
    subcommands = tuple([with_audit(sub) for sub in spec.subcommands])
    if spec.name in AUDITED:
        return replace(spec, handler=_noting(spec.handler, spec.name, _SECRET_FROM.get(spec.name, 1 << 20)))
    return spec if subcommands == spec.subcommands else replace(spec, subcommands=subcommands)


def _noting(handler: Handler, name: str, secret_from: int) -> Handler:
    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        secret = 3 if b"requirepass" in [word.partition(b"\0")[0].lower() for word in args] else secret_from
        words = args[:secret] + [b"(not shown)"] * (len(args) > secret)

        def refused(reply: bytes) -> None:
            text = reply[1:].decode(errors="replace").rstrip()
            # An error may quote what was meant as a password.
            services.audit.note(sink, name, words, text.partition("'")[0] if len(args) > secret else text)

        services.audit.note(sink, name, words)
        try:
            # An operator's command takes several steps: the sink hears how these end. Others may need their session.
            return handler(services, _Outcome(sink, refused) if name.startswith(_OPERATORS) else sink, number, args)
        except CommandError as error:
            refused(error.reply)
            raise

    return handle


class _Outcome(Sink):
    """Passes the reply of a command on to `sink`. If it is an error, `refused` gets it, too."""

    def __init__(self, sink: Sink, refused: Callable[[bytes], None]) -> None:
        super().__init__(sink)
        self._sink = sink
        self._refused = refused

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of the command."""
        if isinstance(reply, bytes) and reply.startswith(b"-"):
            self._refused(reply)
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command."""
        return self._sink.command(number)
