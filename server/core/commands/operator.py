"""DYN.CLUSTER, DYN.RING, DYN.STATS: the operator's commands; each answers one JSON document as a bulk string.

`DYN.CLUSTER INIT` makes the first layout out of fresh nodes; everything else here only looks. What changes a layout
stands in membership_command.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol import resp
from protocol.json_documents import parse
from server.core.base.errors import CommandError, NoLayout
from server.core.base.sinks import Sink
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.messages.shapes import DOCUMENT_BYTES_MAX
from server.core.operators import documents
from server.core.operators.status import status
from server.core.ring.assignment import assigned
from server.core.ring.computation import Computation, finish
from server.core.ring.layout import Layout, LayoutError, Member
from server.core.ring.layout_faults import name_faults
from server.core.work.procedures import Steps

if TYPE_CHECKING:
    from server.core.node import Node


def layout_of(node: Node) -> Layout:
    """The node's layout. Raises CommandError if it has none."""
    if node.state.layout is None:
        raise NoLayout(node.state.no_layout)
    return node.state.layout


def _json(document: documents.Document) -> bytes:
    return resp.bulk(documents.encode(document))


def _status(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(node)

    def steps() -> Steps:
        asked_ms = node.state.now_ms
        answers = yield node.questions.ask([member.id for member in layout.members], b"STATUS")
        layout_of(node)  # it may have left meanwhile
        return _json(status(node, answers, asked_ms))

    node.run_steps(steps(), sink, number)


def _myself(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.myself(node))


def _init(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.CLUSTER INIT {"partitions", "n", "r", "w", "members": [{"id", "name", "address", "zone", "weight"}]}."""
    _check_fresh(node)

    def steps() -> Steps:
        try:
            cluster = f"{node.state.rng.getrandbits(160):040x}"
            layout = yield from node.computing.run(computed_layout(parse(args[2], DOCUMENT_BYTES_MAX), cluster))
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"ERR cannot make a layout of this: {error}") from error
        yield from node.membership.prepare(layout)
        _check_fresh(node)
        if not node.offer_layout(layout):
            raise CommandError(f"ERR node {node.state.member.name} ({node.state.id}) is not among the members")
        return _json({"epoch": layout.epoch, "cluster": layout.cluster})

    node.run_steps(steps(), sink, number)


def _check_fresh(node: Node) -> None:
    """Raises CommandError if a layout cannot begin here."""
    state = node.state
    if state.layout is not None:
        raise CommandError(
            f"ERR node {state.member.name} is in cluster {state.layout.cluster} already (epoch {state.layout.epoch})"
        )
    if state.records.keys:
        raise CommandError(
            f"ERR the directory of node {state.member.name} ({state.member.address}) holds {state.records.keys} records of "
            "an earlier life: empty it, or start the node once with --rebuild"
        )


def first_layout(wish: dict[str, Any], cluster: str) -> Layout:
    """The layout of epoch 1. Raises LayoutError, KeyError or TypeError for a wish that makes none."""
    return finish(computed_layout(wish, cluster))


def computed_layout(wish: dict[str, Any], cluster: str) -> Computation[Layout]:
    """As `first_layout`, step by step."""
    fields = ("id", "name", "address", "zone", "weight")
    members = tuple(sorted((Member(*(m[field] for field in fields)) for m in wish["members"]), key=lambda m: m.id))
    if not members:
        raise LayoutError("a cluster needs at least one node")
    for fault in (fault for member in members for fault in name_faults(member.id, member.name)):
        raise LayoutError(fault)
    partitions, n = int(wish["partitions"]), int(wish["n"])
    owners = yield from assigned(members, partitions, n)
    return Layout(cluster, 1, partitions, n, int(wish["r"]), int(wish["w"]), members, owners)


def _ring_show(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.ring(layout_of(node)))


def _ring_locate(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.locate(layout_of(node), args[2]))


def _stats(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _json(documents.statistics(node))


def help_lines(*lines: str) -> Any:
    """The handler of a HELP subcommand."""

    def handle(node: Node, sink: Sink, number: int, args: list[bytes]) -> bytes:
        return resp.array([resp.simple(line) for line in lines])

    return handle


CLUSTER_SUBCOMMANDS = (  # and those of membership_command.py
    CommandSpec("dyn.cluster|status", 2, IMMEDIATE, _status, "How the cluster is.", "dyn", "readonly"),
    CommandSpec("dyn.cluster|myself", 2, IMMEDIATE, _myself, "Who this node is.", "dyn", "readonly"),
    CommandSpec(
        "dyn.cluster|init", 3, ALONE, _init, "Makes the first layout of fresh nodes.", "dyn", "write", arguments="json"
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
    CommandSpec("dyn.stats", 1, IMMEDIATE, _stats, "The counters of this node.", "dyn", "readonly"),
)
