"""SCRIPT KILL and FUNCTION KILL: end what runs for long, on any node.

Theory. In Redis one script runs at a time. Here each node may run some, and which node runs a script depends on its keys.
So a KILL reaches all nodes that can be reached, and ends every script (or function) that has a worker there. A script that
runs within a turn is over before a KILL could come.

    what runs somewhere                                               the reply
    a script that has written nothing that stays                      OK, and it ends with an error
    else one over several slots that has written                      UNKILLABLE
    else one of one slot that has ended, and is being stored          UNKILLABLE
    else only functions (for SCRIPT KILL), or scripts                 BUSY, which names the other command
    else nothing                                                      NOTBUSY
"""

from __future__ import annotations

from typing import Final

from protocol import resp
from server.core.base.errors import CommandError
from server.core.commands.scripting.texts import scripting_peers
from server.core.messages.script_questions import KILL_OUTCOMES, SCRIPTKILL
from server.core.services.script_workers import busy_reply
from server.core.services.services import Services
from server.core.work.procedures import Steps

_PATIENCE_MS: Final = 1000  # for the others: one that hangs must not keep the operator waiting
_NOTBUSY: Final = "NOTBUSY No scripts in execution right now."
_UNKILLABLE: Final = (
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script "
    "termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)


def kill(services: Services, functions: bool) -> Steps:
    """The steps of SCRIPT KILL; or of FUNCTION KILL, if `functions`."""
    outcomes = [services.scripts.workers.kill(functions)]
    peers = scripting_peers(services)
    if peers:
        answers = yield services.questions.ask(peers, SCRIPTKILL, functions, _PATIENCE_MS)
        outcomes += [answer for answer in answers.values() if answer is not None]
    outcome = max(outcomes, key=KILL_OUTCOMES.index)
    if outcome == b"killed":
        return resp.OK
    if outcome == b"other":
        return busy_reply(not functions)
    raise CommandError(_UNKILLABLE if outcome == b"unkillable" else _NOTBUSY)
