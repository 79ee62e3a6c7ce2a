"""DYN.CLUSTER JOIN, LEAVE, REMOVE, REPLACE, WEIGHT, ZONE, QUORUM, PLAN, COMMIT, ABORT: changes, staged and committed.

Theory. Nothing moves before COMMIT, which names the epoch of the plan that the operator has seen, and its digest. If
another operator has committed or staged something meanwhile, the plan is stale and COMMIT is refused (P9; staging.py). A
staged change is sent to all nodes that can be reached before the command is answered, so the next command may go to any of
them. The documents are those of planning.py.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.newcomers import Newcomer, is_too_old, of_earlier_version
from server.core.commands.operator import CLUSTER_SUBCOMMANDS, layout_of
from server.core.commands.quorum_command import check_capabilities, check_fewer, check_members, parse_numbers
from server.core.commands.readdress_command import READDRESS
from server.core.commands.shapes import show
from server.core.commands.spec import ALONE, CommandSpec
from server.core.liveness.liveness import PeerState
from server.core.membership.staging import Wanted, digest
from server.core.messages.numberings import KNOWSWAPS
from server.core.messages.questions import SIZES, STAGED
from server.core.operators import documents
from server.core.operators.planning import change_document, empty_plan, names_of, plan
from server.core.operators.sizes import sizes_of
from server.core.ring.change import (
    JOIN,
    LEAVE,
    READ_QUORUM,
    REMOVE,
    REPLACE,
    REPLICA_COUNT,
    WEIGHT,
    WRITE_QUORUM,
    ZONE,
    Change,
)
from server.core.ring.layout import Layout
from server.core.ring.succession import ChangeError
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps
from server.core.work.questions import REPORT_PATIENCE_MS

PLAN_UNITS = 12  # of work (ring/computation.py) for each partition: what moves, and how much that is

# --- staging


def _stage(services: Services, layout: Layout, kind: str, member: str, **fields: Any) -> Steps:
    """Stages a change and sends it to all nodes."""
    return (yield from _stage_all(services, layout, [(kind, member, fields)]))


def _stage_all(services: Services, layout: Layout, wanted: Sequence[Wanted]) -> Steps:
    """Stages changes together and sends them to all nodes. The reply describes the first one."""
    _check_news(services, layout, wanted)
    try:
        change = services.staging.stage_all(layout, wanted)[0]
    except ChangeError as error:
        raise CommandError(f"ERR {error}") from error
    staged = services.staging.changes()
    document = {
        "staged": change_document(change, names_of(layout, staged)),
        "epoch": layout.epoch + 1,
        "changes": len(staged),
    }
    yield from _send_staged(services, layout)
    return _json(document)


def _check_news(services: Services, layout: Layout, wanted: Sequence[Wanted]) -> None:
    """Raises CommandError if all values are in force, unless one takes back another value that is staged."""
    staged = [(change.kind, change.node) for change in services.staging.changes()]
    known = [_in_force(layout, kind, node, fields) for kind, node, fields in wanted]
    if all(known) and not any((kind, node) in staged for kind, node, _ in wanted):
        raise CommandError(f"ERR {' and '.join(known)} already: nothing was staged")


def _in_force(layout: Layout, kind: str, node: str, fields: Mapping[str, Any]) -> str:
    """What is in force already, in words; empty if a change of this kind would change something."""
    weight, zone = fields.get("weight"), fields.get("zone")
    member = next((each for each in layout.members if each.id == node), None)
    numbers = {REPLICA_COUNT: ("N", layout.n), READ_QUORUM: ("R", layout.r), WRITE_QUORUM: ("W", layout.w)}
    if kind in numbers:
        name, number = numbers[kind]
        return f"{name} is {weight}" if weight == number else ""
    if kind == WEIGHT and member is not None and weight == member.weight:
        return f"the weight of node {member.name} is {weight}"
    if kind == ZONE and member is not None and zone == member.zone:
        return f"node {member.name} is in zone '{zone}'" if zone else f"node {member.name} is in no zone"
    return ""


def _send_staged(services: Services, layout: Layout) -> Generator[Step, Any, None]:
    """Sends the staged changes to all nodes that can be reached, and waits for their acknowledgements."""
    staged = services.staging.content()
    peers = [member.id for member in layout.members if services.state.is_usable(member.id)]
    if staged is not None and peers:
        yield services.questions.ask(peers, STAGED, staged, patience_ms=REPORT_PATIENCE_MS)


def _json(document: documents.Document) -> bytes:
    return resp.bulk(documents.encode(document))


def _known(services: Services, layout: Layout, name: bytes) -> str:
    """The id of a member, or of a node that is staged to become one. Raises CommandError."""
    for known, text in names_of(layout, services.staging.changes()).items():
        if text.encode() == name:
            return known
    names = ", ".join(member.name for member in documents.by_name(layout))
    raise CommandError(f"ERR there is no node {show(name)}: the members are {names}")


def _member(services: Services, layout: Layout, name: bytes) -> str:
    """The id of a member. Raises CommandError, also for one that is only staged."""
    known = _known(services, layout, name)
    if all(member.id != known for member in layout.members):
        raise CommandError(f"ERR node {show(name)} is no member yet: `dyn cluster abort` takes its join back")
    return known


def _staged(services: Services, layout: Layout, name: bytes) -> str:
    """The id of a node that has, or will have, a name in the layout, for REPLACE. Raises CommandError."""
    try:
        return _known(services, layout, name)
    except CommandError:
        raise CommandError(
            f"ERR no node {show(name)} is staged to join: name the address of the fresh node, HOST:PORT"
        ) from None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _join(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    if not args[2].lstrip().startswith(b"{"):
        raise CommandError(
            "ERR JOIN needs what the new node answers to DYN.CLUSTER MYSELF: use `dyn cluster join "
            f"{show(args[2])}`, which asks it, or start that node with `dyn node start --join HOST:PORT` of a member"
        )
    newcomer = Newcomer.of(args[2])
    newcomer.check(layout)
    newcomer.check_version(services, layout)
    newcomer.check_secret(services)
    newcomer.check_tls(services)
    for change in services.staging.changes():
        if change.kind == JOIN and change.node == newcomer.id:
            raise CommandError(f"ERR node {change.name} is staged to join already: see `dyn cluster plan`")
    services.run_steps(_stage(services, layout, JOIN, newcomer.id, **newcomer.fields()), sink, number)


def _leave(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    services.run_steps(_stage(services, layout, LEAVE, _member(services, layout, args[2])), sink, number)


def _is_down(services: Services, member: str) -> bool:
    return services.state.liveness.state(member) is PeerState.DOWN


def _remove(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    member = _member(services, layout, args[2])
    if not _is_down(services, member):
        raise CommandError(
            f"ERR node {show(args[2])} is {services.state.liveness.state(member).value}, and not known to be down: use "
            f"`dyn cluster leave {show(args[2])}`, which moves its data first"
        )
    services.run_steps(_stage(services, layout, REMOVE, member), sink, number)


def _replace(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """REPLACE old new. If the old node is down, the other owners provide the data."""
    layout = layout_of(services)
    old = _member(services, layout, args[2])
    fields: dict[str, Any] = {"gone": _is_down(services, old)}
    if args[3].lstrip().startswith(b"{"):
        newcomer = Newcomer.of(args[3])
        newcomer.check(layout)
        newcomer.check_version(services, layout)
        newcomer.check_secret(services)
        newcomer.check_tls(services)
        fields |= {"other": newcomer.id}
        if all(change.kind != JOIN or change.node != newcomer.id for change in services.staging.changes()):
            fields |= newcomer.fields()
    else:
        fields |= {"other": _staged(services, layout, args[3])}
    services.run_steps(_stage(services, layout, REPLACE, old, **fields), sink, number)


def _weight(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    member, weight = _known(services, layout, args[2]), integer(args[3])
    services.run_steps(_stage(services, layout, WEIGHT, member, weight=weight), sink, number)


def _zone(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)
    member = _known(services, layout, args[2])
    services.run_steps(_stage(services, layout, ZONE, member, zone=_text(args[3])), sink, number)


def _quorum(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """QUORUM [N n] [R n] [W n]."""
    layout = layout_of(services)
    numbers = parse_numbers(args[2:])
    check_capabilities(services, layout, [kind for kind, _ in numbers])
    wanted: list[Wanted] = [(kind, "", {"weight": each}) for kind, each in numbers]
    services.run_steps(_stage_all(services, layout, wanted), sink, number)


# --- what is staged, all together


def _plan(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)

    def steps() -> Steps:
        changes = services.staging.changes()
        if not changes:
            return _json(empty_plan(layout))
        members = [member.id for member in layout.members]
        answers = yield services.questions.ask(members, SIZES, layout.partitions, patience_ms=REPORT_PATIENCE_MS)
        if services.state.layout is not layout:
            raise CommandError("ERR the layout has changed meanwhile: ask again")
        following = yield from _following(services, layout, changes)
        sizes = sizes_of(layout, answers)
        yield from services.computing.reserve(PLAN_UNITS * layout.partitions)
        document = plan(layout, following, changes, sizes, services.state.config)
        if services.state.layout is layout and services.staging.show(layout, changes):
            yield from _send_staged(services, layout)
        return _json(document | {"digest": digest(layout, changes)})

    services.run_steps(steps(), sink, number)


def _following(services: Services, layout: Layout, changes: list[Change]) -> Generator[Step, Any, Layout]:
    """The layout that the staged changes make. Raises CommandError."""
    try:
        return (yield from services.staging.following(layout, changes))
    except ChangeError as error:
        raise CommandError(_at_odds(error)) from error


def _at_odds(error: ChangeError) -> str:
    """The error for staged changes that exclude each other: they were staged at two nodes that could not reach each
    other."""
    return f"ERR the staged changes do not go together: {error}; take them back with `dyn cluster abort`"


def _commit(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """COMMIT epoch [PLAN digest]."""
    layout, epoch = layout_of(services), integer(args[2])
    if len(args) not in (3, 5) or (len(args) == 5 and args[3].upper() != b"PLAN"):
        raise CommandError(SYNTAX)
    changes = _to_commit(services, layout, epoch)
    _check_seen(services, layout, changes, _text(args[4]) if len(args) == 5 else "")

    def steps() -> Steps:
        following = yield from _following(services, layout, changes)
        yield from _check_versions(services, layout, following)
        yield from check_members(services, layout, changes)
        check_fewer(services, layout, following, changes)
        yield from services.membership.prepare(following)
        if _to_commit(services, layout_of(services), epoch) != changes:
            raise CommandError("STALEPLAN what is staged has changed meanwhile: look at `dyn cluster plan` again")
        if services.state.layout is not layout:
            raise CommandError("ERR the layout has changed meanwhile, though its epoch has not: commit again")
        if all(member.id != services.state.id for member in following.members):
            raise CommandError(f"ERR node {services.state.member.name} is itself to be removed: commit at another node")
        services.membership.publish(following)
        return _json({"epoch": following.epoch, "changes": len(changes)})

    services.run_steps(steps(), sink, number)


def _check_versions(services: Services, layout: Layout, following: Layout) -> Generator[Step, Any, None]:
    """Raises CommandError if a new member has said that it does not read what the present ones may write by now, or, once
    databases were swapped, has not said to any of them that it knows that."""
    present = [member.id for member in layout.members]
    newcomers = [member for member in following.members if member.id not in present]
    ids = [member.id for member in newcomers]
    knowing: dict[str, bytes] = {}
    if ids and services.numbering.is_swapped:
        knowing = yield services.questions.ask(present, KNOWSWAPS, ids, patience_ms=REPORT_PATIENCE_MS)
    for index, member in enumerate(newcomers):
        is_unknown = services.numbering.is_swapped and not any(known and known[index] for known in knowing.values())
        if is_unknown or is_too_old(services.state, member.id, layout):
            raise CommandError(of_earlier_version(f"{member.name} ({member.address})"))


def _to_commit(services: Services, layout: Layout, epoch: int) -> list[Change]:
    """The staged changes, which make the layout of that epoch. Raises CommandError."""
    if epoch != layout.epoch + 1:
        if epoch <= layout.epoch:
            raise CommandError(f"STALEPLAN epoch {epoch} is already committed: run `dyn cluster plan`")
        raise CommandError(
            f"STALEPLAN the plan is for epoch {epoch}, but the layout is at epoch {layout.epoch}: run `dyn cluster plan`"
        )
    changes = services.staging.changes()
    if not changes:
        raise CommandError(
            "ERR nothing is staged: see `dyn cluster join`, leave, remove, replace, weight, zone, `dyn config set n`"
        )
    return changes


def _check_seen(services: Services, layout: Layout, changes: list[Change], seen: str) -> None:
    """Raises CommandError if the operator has seen another plan. `seen`: the digest of that plan, or empty."""
    if seen and seen != digest(layout, changes):
        raise CommandError("STALEPLAN what is staged is not what that plan showed: look at `dyn cluster plan` again")
    if not seen and services.staging.is_unseen(layout, changes):
        raise CommandError(
            "STALEPLAN what is staged has changed since the last plan was shown: look at `dyn cluster plan` again"
        )


def _abort(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    layout = layout_of(services)

    def steps() -> Steps:
        aborted = services.staging.abort(layout)
        yield from _send_staged(services, layout)
        return _json({"aborted": aborted})

    services.run_steps(steps(), sink, number)


_SUBCOMMANDS = (
    CommandSpec("dyn.cluster|join", 3, ALONE, _join, "Stages that a fresh node becomes a member; it is described by what "
                "it answers to DYN.CLUSTER MYSELF.", "dyn", "write", arguments="json"),
    CommandSpec("dyn.cluster|leave", 3, ALONE, _leave, "Stages that a node gives its data to the others and goes.",
                "dyn", "write", arguments="node"),
    CommandSpec("dyn.cluster|remove", 3, ALONE, _remove, "Stages that a node which is gone for good is a member no more.",
                "dyn", "write", arguments="node"),
    CommandSpec("dyn.cluster|replace", 4, ALONE, _replace, "Stages that a fresh node takes a member's place: its "
                "description, or the name of one that is staged to join.", "dyn", "write", arguments="node newcomer"),
    CommandSpec("dyn.cluster|weight", 4, ALONE, _weight, "Stages another share of the data for a node.", "dyn", "write",
                arguments="node weight"),
    CommandSpec("dyn.cluster|zone", 4, ALONE, _zone, "Stages another zone for a node.", "dyn", "write",
                arguments="node zone"),
    CommandSpec("dyn.cluster|quorum", -4, ALONE, _quorum, "Stages another N, R or W for the whole cluster.", "dyn", "write",
                arguments="[N n] [R r] [W w]"),
    CommandSpec("dyn.cluster|plan", 2, ALONE, _plan, "What the staged changes would move.", "dyn", "readonly"),
    CommandSpec("dyn.cluster|commit", -3, ALONE, _commit, "Makes the staged changes, by the epoch and the digest that the "
                "plan named.", "dyn", "write", arguments="epoch [PLAN digest]"),
    CommandSpec("dyn.cluster|abort", 2, ALONE, _abort, "Takes back all that is staged.", "dyn", "write"),
)  # fmt: skip

COMMANDS: tuple[CommandSpec, ...] = (
    container(
        "dyn.cluster", "The cluster as its operator sees it.", "dyn", (*CLUSTER_SUBCOMMANDS, *_SUBCOMMANDS, READDRESS)
    ),
)
