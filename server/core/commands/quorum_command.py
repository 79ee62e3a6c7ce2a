"""DYN.CLUSTER QUORUM: another R or W for the whole cluster, staged and committed as changes of members are.

Theory. ring/quorum_change.py says which changes are safe. They are so only if no earlier layout is in use any more, because
that one may have a third R and W. So a commit of R or W asks every member whether it has adopted the present layout and
ended all requests from before. A member that cannot answer must come back first, or be taken out of the cluster.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from protocol.peer_versions import QUORUMS as KNOWS_QUORUMS
from server.core.base.errors import SYNTAX, CommandError
from server.core.commands.arguments import integer
from server.core.messages.questions import ADOPTED
from server.core.operators.documents import by_name
from server.core.ring.change import QUORUMS, READ_QUORUM, WRITE_QUORUM, Change
from server.core.ring.layout import Layout
from server.core.services.services import Services
from server.core.work.procedures import Step
from server.core.work.questions import REPORT_PATIENCE_MS, Answers

_KINDS = {b"R": READ_QUORUM, b"W": WRITE_QUORUM}


def parse_quorum(args: Sequence[bytes]) -> tuple[str, int]:
    """Returns the kind of change and its number in `R n` or `W n`. Raises CommandError."""
    word = args[0].upper()
    if word == b"N":
        raise CommandError("ERR N is fixed when the cluster is made (`dyn cluster init --n`): only R and W can change")
    if word not in _KINDS:
        raise CommandError(SYNTAX)
    return _KINDS[word], integer(args[1])


def check_capabilities(services: Services, layout: Layout) -> None:
    """Raises CommandError if some member has not said, in this run of the process, that it knows such changes."""
    state = services.state
    able = state.capable[KNOWS_QUORUMS]
    names = [member.name for member in by_name(layout) if member.id != state.id and member.id not in able]
    if names:
        raise CommandError(
            f"ERR {', '.join(names)}: not reached yet, or of a version that does not know changes of R and W: start or "
            "upgrade all nodes first"
        )


def check_members(services: Services, layout: Layout, changes: Sequence[Change]) -> Generator[Step, Answers, None]:
    """If R or W is among the changes: raises CommandError unless every member uses the present layout, and no older one."""
    if all(change.kind not in QUORUMS for change in changes):
        return
    check_capabilities(services, layout)
    answers = yield services.questions.ask(
        [member.id for member in layout.members], ADOPTED, services.membership.view(), patience_ms=REPORT_PATIENCE_MS
    )
    late = [member.name for member in by_name(layout) if not answers.get(member.id)]
    if late:
        raise CommandError(
            f"ERR R and W change only when every node has adopted the layout of epoch {layout.epoch}, and "
            f"{', '.join(late)} did not say so: commit again in a second if it is up; else bring it back, or take it out "
            "of the cluster first"
        )
