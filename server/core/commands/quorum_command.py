"""DYN.CLUSTER QUORUM: another N, R or W for the whole cluster, staged and committed as changes of members are.

Theory. ring/quorum_change.py and ring/replica_change.py say which changes are safe. They are so only if no earlier layout
is in use any more, because that one may have a third R and W. So a commit of N, R or W asks every member whether it has
adopted the present layout and ended all requests from before. A member that cannot answer must come back first, or be taken
out of the cluster. For the same reason every commit asks that in the HANDOVER of another N; then the members that it
removes are not asked.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from protocol.peer_versions import QUORUMS as KNOWS_QUORUMS
from protocol.peer_versions import REPLICA_COUNTS
from server.core.base.errors import SYNTAX, CommandError
from server.core.commands.arguments import integer
from server.core.messages.questions import ADOPTED
from server.core.operators.documents import by_name
from server.core.ring.change import NUMBERS, READ_QUORUM, REMOVE, REPLICA_COUNT, WRITE_QUORUM, Change
from server.core.ring.layout import HANDOVER, Layout
from server.core.services.services import Services
from server.core.work.procedures import Step
from server.core.work.questions import REPORT_PATIENCE_MS, Answers

_KINDS = {b"N": REPLICA_COUNT, b"R": READ_QUORUM, b"W": WRITE_QUORUM}


def parse_numbers(args: Sequence[bytes]) -> list[tuple[str, int]]:
    """Returns the kinds of changes and their numbers in `N n R n W n`, each at most once. Raises CommandError."""
    words = [word.upper() for word in args[::2]]
    if len(args) % 2 or len(dict.fromkeys(words)) < len(words) or any(word not in _KINDS for word in words):
        raise CommandError(SYNTAX)
    return [(_KINDS[word], integer(number)) for word, number in zip(words, args[1::2], strict=True)]


def check_capabilities(services: Services, layout: Layout, kinds: Sequence[str]) -> None:
    """Raises CommandError if some member has not said, in this run of the process, that it knows such changes."""
    state = services.state
    able = state.capable[REPLICA_COUNTS if REPLICA_COUNT in kinds else KNOWS_QUORUMS]
    names = [member.name for member in by_name(layout) if member.id != state.id and member.id not in able]
    if names:
        what = "N" if REPLICA_COUNT in kinds else "R and W"
        raise CommandError(
            f"ERR {', '.join(names)}: not reached yet, or of a version that does not know changes of {what}: start or "
            "upgrade all nodes first"
        )


def check_fewer(services: Services, layout: Layout, following: Layout, changes: Sequence[Change]) -> None:
    """Raises CommandError if the commit leaves fewer than N nodes, and a member has not announced `replicas`.

    A member of an earlier version would read and write by the smaller R and W at once, and its reads would miss writes. One
    that is removed, or replaced because it is gone, need not know it. While N changes, the commit that began that has
    checked all members."""
    if not following.changes_n or layout.changes_n:
        return
    state = services.state
    gone = [change.node for change in changes if change.kind == REMOVE or change.gone]
    able = state.capable[REPLICA_COUNTS]
    old = [each.name for each in by_name(layout) if each.id not in (state.id, *gone) and each.id not in able]
    if old:
        raise CommandError(
            f"ERR this commit leaves fewer than N={layout.n} nodes, and these nodes have not announced that they know such "
            f"changes: {', '.join(old)}. Start or upgrade them first, or let fewer nodes leave"
        )


def check_members(services: Services, layout: Layout, changes: Sequence[Change]) -> Generator[Step, Answers, None]:
    """Raises CommandError unless every member that has to uses the present layout, and no older one.

    changes                       phase                       the members that have to
    N, R or W among them          any                         all
    others                        HANDOVER while N changes    all but those that are removed
    others                        HANDOVER                    all but those that are removed or down
    others                        another                     none
    """
    kinds = [change.kind for change in changes]
    changes_numbers = any(kind in NUMBERS for kind in kinds)
    if changes_numbers:
        check_capabilities(services, layout, kinds)
    elif layout.phase != HANDOVER:
        return
    gone = [] if changes_numbers else [change.node for change in changes if change.kind == REMOVE or change.gone]
    asked = [member.id for member in layout.members] if changes_numbers else services.membership.expected()
    members = [member for member in asked if member not in gone]
    answers = yield services.questions.ask(members, ADOPTED, services.membership.view(), patience_ms=REPORT_PATIENCE_MS)
    late = [member.name for member in by_name(layout) if member.id in members and not answers.get(member.id)]
    if late:
        when = "N, R and W change only" if changes_numbers else "at the end of a change, the next commit is taken only"
        raise CommandError(
            f"ERR {when} when every node has adopted the layout of epoch {layout.epoch}, and "
            f"{', '.join(late)} did not say so: commit again in a second if it is up; else bring it back, or take it out "
            "of the cluster first"
        )
