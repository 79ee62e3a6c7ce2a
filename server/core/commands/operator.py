"""DYN.CLUSTER, DYN.RING, DYN.STATS: the operator's commands; each answers one JSON document as a bulk string.

`DYN.CLUSTER INIT` makes the first layout of fresh nodes; all other commands here only read. The commands that change a
layout are in membership_command.py.
"""

from __future__ import annotations

from typing import Any

from protocol import resp
from protocol.json_documents import parse
from server.core.base.errors import CommandError, NoLayout
from server.core.base.sinks import Sink
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.messages.questions import STATUS
from server.core.messages.shapes import DOCUMENT_BYTES_MAX
from server.core.operators import documents
from server.core.operators.status import status
from server.core.ring.assignment import assigned
from server.core.ring.computation import Computation, compute_now
from server.core.ring.layout import Layout, LayoutError, Member
from server.core.ring.layout_faults import name_faults
from server.core.services.services import Services
from server.core.work.procedures import Steps
from server.core.work.questions import REPORT_PATIENCE_MS


def layout_of(services: Services) -> Layout:
    """The node's layout. Raises CommandError if it has none."""
    if services.state.layout is None:
        raise NoLayout(services.state.no_layout)
    return services.state.layout


def _json(document: documents.Document) -> bytes:
    return resp.bulk(documents.encode(document))


def _status(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)

    def steps() -> Steps:
        asked_ms = services.state.now_ms
        members = [member.id for member in layout.members]
        answers = yield services.questions.ask(members, STATUS, None, patience_ms=REPORT_PATIENCE_MS)
        layout_of(services)  # this node may have left its cluster meanwhile
        return _json(status(services, answers, asked_ms))

    services.run_steps(steps(), sink, number)


def _myself(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.myself(services))


def _init(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.CLUSTER INIT {"partitions", "n", "r", "w", "members": [{"id", "name", "address", "zone", "weight"}]}."""
    _check_fresh(services)

    def steps() -> Steps:
        try:
            cluster = f"{services.state.rng.getrandbits(160):040x}"
            layout = yield from services.computing.run(computed_layout(parse(args[2], DOCUMENT_BYTES_MAX), cluster))
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"ERR cannot make a layout of this: {error}") from error
        yield from services.membership.prepare(layout)
        _check_fresh(services)
        if not services.membership.offer(layout):
            raise CommandError(f"ERR node {services.state.member.name} ({services.state.id}) is not among the members")
        return _json({"epoch": layout.epoch, "cluster": layout.cluster})

    services.run_steps(steps(), sink, number)


def _check_fresh(services: Services) -> None:
    """Raises CommandError if a layout cannot begin here."""
    state = services.state
    if state.layout is not None:
        raise CommandError(
            f"ERR node {state.member.name} is in cluster {state.layout.cluster} already (epoch {state.layout.epoch})"
        )
    if state.records.keys:
        raise CommandError(
            f"ERR the directory of node {state.member.name} ({state.member.address}) holds {state.records.keys} records of "
            "an earlier life: empty it, or start the node once with --rebuild"
        )


def first_layout(request: dict[str, Any], cluster: str) -> Layout:
    """The layout of epoch 1. Raises LayoutError, KeyError or TypeError if the fields make no layout."""
    return compute_now(computed_layout(request, cluster))


def computed_layout(request: dict[str, Any], cluster: str) -> Computation[Layout]:
    """As `first_layout`, step by step."""
    fields = ("id", "name", "address", "zone", "weight")
    members = tuple(sorted((Member(*(m[field] for field in fields)) for m in request["members"]), key=lambda m: m.id))
    if not members:
        raise LayoutError("a cluster needs at least one node")
    for fault in (fault for member in members for fault in name_faults(member.id, member.name)):
        raise LayoutError(fault)
    partitions, n = int(request["partitions"]), int(request["n"])
    owners = yield from assigned(members, partitions, n)
    return Layout(cluster, 1, partitions, n, int(request["r"]), int(request["w"]), members, owners)


def _ring_show(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.ring(layout_of(services)))


def _ring_locate(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.locate(layout_of(services), args[2]))


def _stats(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.statistics(services))


def help_lines(*lines: str) -> Any:
    """The handler of a HELP subcommand."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        return resp.array([resp.simple(line) for line in lines])

    return handle


CLUSTER_SUBCOMMANDS: tuple[CommandSpec, ...] = (  # and those of membership_command.py
    CommandSpec("dyn.cluster|status", 2, IMMEDIATE, _status, "How the cluster is.", "dyn", "readonly"),
    CommandSpec("dyn.cluster|myself", 2, IMMEDIATE, _myself, "Who this node is.", "dyn", "readonly"),
    CommandSpec(
        "dyn.cluster|init",
        3,
        ALONE,
        _init,
        "Makes the first layout of fresh nodes.",
        "dyn",
        "write stale",
        arguments="json",
    ),
)
_RING = (
    CommandSpec("dyn.ring|show", 2, IMMEDIATE, _ring_show, "Who owns what.", "dyn", "readonly"),
    CommandSpec(
        "dyn.ring|locate", 3, IMMEDIATE, _ring_locate, "Where a key lives.", "dyn", "readonly", arguments="key"
    ),
    CommandSpec(
        "dyn.ring|help",
        2,
        IMMEDIATE,
        help_lines(
            "DYN.RING <subcommand>. Each answers one JSON document:",
            "SHOW",
            "    Who owns what.",
            "LOCATE <key>",
            "    Where a key lives.",
        ),
        "Lists the subcommands.",
        "dyn",
    ),
)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.ring", -2, IMMEDIATE, help_lines(), "Who owns which part of the key space.", "dyn", subcommands=_RING
    ),
    CommandSpec(
        "dyn.stats",
        1,
        IMMEDIATE,
        _stats,
        "The counters of this node, and facts for `dyn doctor`.",
        "dyn",
        "readonly",
    ),
)
