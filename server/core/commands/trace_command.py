"""DYN.TRACE: runs a command as usual, and answers its reply and its way through the nodes, with times (core/tracing/)."""

from __future__ import annotations

from typing import Final

from protocol import resp
from protocol.json_replies import as_json
from protocol.resp import LargeReply, Reply
from server.core.base.errors import BUSY, CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.databases import inner_arguments
from server.core.commands.execution import execute
from server.core.commands.operator import layout_of
from server.core.commands.registry import find_for_client, unfit
from server.core.commands.spec import ALONE, CommandSpec
from server.core.messages.traces import TRACE
from server.core.operators import documents
from server.core.services.services import Services
from server.core.tracing.assembly import assemble, is_complete
from server.core.tracing.spans import Span
from server.core.work.procedures import Procedure, Step, Steps
from server.core.work.questions import READ_PATIENCE_MS

_PAUSE_MS: Final = 20  # before the nodes are asked what they have noted: the last of them may be at work yet
_WAIT_MS: Final = 1000  # for nodes that do not answer, or have not done their part
_NOT_TRACED: Final = "ERR only commands with keys are traced, and none that waits or runs others: GET, SET, HSET, ..."


class _Request(Sink):
    """The sink of the command that is traced."""

    def __init__(self, services: Services, span: Span, procedure: Procedure, args: list[bytes], like: Sink) -> None:
        super().__init__(like)
        self.relayed = False
        self.denies_blocking = True
        self._traces = services.traces
        self._span = span
        self._procedure = procedure
        self._args = args
        self.reply = b""

    def answer(self, number: int, reply: Reply) -> None:
        """Keeps the reply; the procedure goes on."""
        self.reply = reply.joined() if isinstance(reply, LargeReply) else reply
        self._traces.answered(self._span)
        self._procedure.resume(None)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command."""
        return self._args


def _trace(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    if services.traces.is_running:
        raise CommandError(_NOT_TRACED)
    spec, inner = _checked(services, sink, args[1:])
    span = services.traces.begin(spec.name.upper())
    if span is None:
        sink.answer(number, BUSY)
        return
    requests: list[_Request] = []

    def begin() -> Step:
        def start(procedure: Procedure) -> None:
            request = _Request(services, span, procedure, inner, sink)
            requests.append(request)
            services.traces.run(span, lambda: execute(services, spec.name, spec.handler, request, 0, inner))

        return start

    def steps() -> Steps:
        yield begin()
        state = services.state
        spans: dict[str, documents.Document] = {}
        deadline_ms = state.now_ms + _WAIT_MS
        while not is_complete(spans) and state.now_ms < deadline_ms:
            yield services.background.sleep(_PAUSE_MS)
            within_ms = max(1, deadline_ms - state.now_ms)
            answers = yield services.questions.ask(
                [member.id for member in layout.members], TRACE, span.trace, within_ms, READ_PATIENCE_MS
            )
            spans |= {node: answer for node, answer in answers.items() if answer is not None}
        document = {"trace": span.trace.hex(), "command": spec.name.upper(), "reply": as_json(requests[0].reply)}
        return resp.bulk(documents.encode(document | assemble(spans, state.layout_name)))

    services.run_steps(steps(), sink, number)


def _checked(services: Services, sink: Sink, args: list[bytes]) -> tuple[CommandSpec, list[bytes]]:
    """The command to trace, and its arguments as the node runs them. Raises CommandError if it is none that may run."""
    spec = find_for_client(args)
    if spec is None or not spec.accepts(len(args)):
        raise CommandError(_text(unfit(spec, args)))
    if spec.overlap == ALONE or not spec.keys_of(args) or {"blocking", "noscript"} & set(spec.flags.split()):
        raise CommandError(_NOT_TRACED)
    if not isinstance(sink, Session) or sink.client() is not sink:
        raise CommandError(_NOT_TRACED)  # what runs for another sink has no user of its own that could be asked here
    refusal = None if sink.rights is None else sink.rights.refusal(sink, args)
    if refusal is not None:  # `access` is not asked: it would note a read of a client that tracks
        raise CommandError(_text(refusal))
    return spec, inner_arguments(services.state, spec, args, sink.space)


def _text(reply: bytes) -> str:
    """The text of an encoded error."""
    return reply[1:-2].decode(errors="replace")


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.trace",
        -3,
        ALONE,
        _trace,
        "Runs a command and shows its way through the nodes, with times.",
        "dyn",
        "write noscript",
        arguments="command [argument [argument ...]]",
    ),
)
