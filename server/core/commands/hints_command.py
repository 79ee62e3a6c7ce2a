"""DYN.HINTS: lists the hints that nodes hold for each other, and delivers them now (server/core/base/hints.py)."""

from __future__ import annotations

from protocol import resp
from server.core.base.sinks import Sink
from server.core.commands.operator import help_lines, layout_of
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.messages.record_questions import HINTS
from server.core.operators import documents
from server.core.services.services import Services
from server.core.work.procedures import Steps
from server.core.work.questions import REPORT_PATIENCE_MS, Answers

_POLL_MS = 100


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)

    def steps() -> Steps:
        members = [member.id for member in layout.members]
        answers = yield services.questions.ask(members, HINTS, False, patience_ms=REPORT_PATIENCE_MS)
        return resp.bulk(documents.encode(_document(services, answers)))

    services.run_steps(steps(), sink, number)


def _replay(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """Waits for a while, so that the answer can tell what was delivered and what remains. Delivery goes on after that."""
    nodes = [member.id for member in layout_of(services).members]
    deadline_ms = services.state.now_ms + services.state.config.request_timeout_ms

    def steps() -> Steps:
        answers = before = yield services.questions.ask(nodes, HINTS, True, patience_ms=REPORT_PATIENCE_MS)
        remaining = _document(services, answers)["total"]
        while remaining and services.state.now_ms < deadline_ms:
            yield services.background.sleep(_POLL_MS)
            answers = yield services.questions.ask(nodes, HINTS, False, patience_ms=REPORT_PATIENCE_MS)
            remaining = _document(services, answers)["total"]
        delivered = sum(_delivered(before, answers))
        return resp.bulk(documents.encode({"delivered": delivered, "remaining": remaining}))

    services.run_steps(steps(), sink, number)


def _document(services: Services, answers: Answers) -> documents.Document:
    layout_of(services)  # this node may have left its cluster meanwhile
    return documents.hints(services, answers)


def _delivered(before: Answers, after: Answers) -> list[int]:
    """What the nodes that have answered both times have delivered between. A count begins anew with its node."""
    nodes = [node for node in after if before.get(node) and after[node]]
    return [max(0, after[node]["delivered"] - before[node]["delivered"]) for node in nodes]


_SUBCOMMANDS = (
    CommandSpec("dyn.hints|list", 2, IMMEDIATE, _list, "Lists hints by holder and owner.", "dyn", "readonly"),
    CommandSpec("dyn.hints|replay", 2, IMMEDIATE, _replay, "Brings hints to their owners now.", "dyn"),
    CommandSpec(
        "dyn.hints|help",
        2,
        IMMEDIATE,
        help_lines(
            "DYN.HINTS <subcommand>. Each answers one JSON document:",
            "LIST",
            "    What each node keeps for which owner.",
            "REPLAY",
            "    Bring hints to all owners that can be reached, now. They also go by themselves.",
        ),
        "Lists the subcommands.",
        "dyn",
    ),
)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.hints",
        -2,
        IMMEDIATE,
        help_lines(),
        "What nodes keep for owners that they could not reach.",
        "dyn",
        subcommands=_SUBCOMMANDS,
    ),
)
