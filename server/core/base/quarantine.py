"""The quarantine: what has ended this node by an unexpected exception, and is refused for a while after the restart.

The problem. A message or a command whose handler raises after it has stored something ends the node (unexpected.py). It
comes again: a record as a hint, in a repair or with the next announcement; a command because its client, or the node that
relayed it, tries it again. And a background procedure that has ended the node begins again with the next start. So one
record or one command could end the node after each restart, for ever. A relayed command could do more: when its
coordinator is lost, the relaying node sends it to the next owner, and so it could end all owners one after the other.
(Message queues call such a message a poison message.)

The idea. The exception that ends the node says what has ended it (`Poison`): a label (`STORE`, `ASK ABSORB`, `command SET
'k1'`, `procedure scrub`) and a digest of the items or arguments. Before the process ends, it stores that on its disk. If it
was a command, the process also sends it to all peers (POISON), as its last message. From then on this is held back:

    held back                                how                            for how long after the last death
    the same message                         it is refused, as one that     1 min after its first death, then twice as
                                             this node cannot handle        long after each further one
    the same command, here and at each peer  it is answered with an error   the same
      that got POISON
    every message or command with a label    as above                       1 min after the third death, then twice as
      that has ended a node `LABEL_DEATHS`                                  long after each further one
      times
    a procedure that has ended the node      it begins later                1 min after the second death, then twice as
    twice                                                                   long after each further one

The label of a command has its name and first argument, which is nearly always the key. So what is refused after three
deaths is one command on one key. Labels also cover messages that never come twice in the same form, because they carry a
number of their own (ballots, for example). Peers treat a refused message like that of a full or damaged disk. No hold is
longer than a day: after that we try again, because the cause may be gone. A death is forgotten after a day without another
one. What is held back is logged, and the status shows it.

A coordinator that is killed, frozen or cut off sends no POISON, so commands that it had are still retried elsewhere.

Not held back: messages without a form of their own (STORED, RELAYED +OK, gossip), because they would all be the same one;
and answers to questions, because the procedure that asked is held back. If such a message ends the node again and again,
the service manager decides how often it starts it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from server.core.base.poison import COMMAND, PROCEDURE, Poison, poison_of_command, poison_of_procedure
from server.core.records.records import META, Records

HOLD_MS = 60_000
HOLD_MS_MAX = 86_400_000
LABEL_DEATHS, PROCEDURE_DEATHS = 3, 2  # so many until a label, and a procedure, is held back
DEATHS_MAX = 64  # further ones take the place of the oldest
IDENTIFIED = (
    b"READ", b"COMPARE", b"STORE", b"PATCH", b"KEEP", b"HINT", b"RECORDS", b"DIFFER", b"ASK", b"LAYOUT", b"VIEW", b"MARK",
    b"STAGED", b"COPY", b"FULL", b"ORDERLY",
)  # fmt: skip
_DOCUMENT = b"deaths"

Death = tuple[int, int]  # how many there were, and when the last one was (wall clock)


class Quarantine:
    """What has ended this node lately, and the commands that have ended its peers."""

    def __init__(self, records: Records) -> None:
        # By label and digest; an empty digest stands for everything with that label. The dicts are never replaced.
        self.known: dict[tuple[str, str], Death] = {}
        self.commands: dict[str, None] = {}  # the labels of commands among them
        for label, digest, count, last_ms in _decode(records.document(_DOCUMENT)):
            self._note(label, digest, (count, last_ms))

    def refuses(self, poison: Poison, wall_ms: int) -> bool:
        """Whether a message or command with this label and digest is refused now."""
        if (poison.label, "") not in self.known:
            return False
        first = {"": LABEL_DEATHS, poison.digest: 1}
        return any(_hold_ms(self.known.get((poison.label, digest)), first[digest], wall_ms) > 0 for digest in first)

    def refuses_command(self, args: Sequence[bytes], wall_ms: int) -> bool:
        """Whether a command is refused now. Also forgets commands whose last death was more than a day ago."""
        self._forget_commands(wall_ms)
        return self.refuses(poison_of_command(args), wall_ms)

    def hold_ms(self, procedure: str, wall_ms: int) -> int:
        """Returns for how long a procedure is held back from now on; 0 if it is not."""
        death = self.known.get((poison_of_procedure(procedure).label, ""))
        return _hold_ms(death, PROCEDURE_DEATHS, wall_ms)

    def add(self, poison: Poison, wall_ms: int) -> dict[bytes, bytes | None]:
        """Notes what is about to end this node. Returns the batch that must be committed before the process ends."""
        self.learn(poison, wall_ms)
        rows = [[*name, *death] for name, death in self.known.items()]
        return {META + _DOCUMENT: json.dumps(rows, separators=(",", ":")).encode()}

    def learn(self, poison: Poison, wall_ms: int) -> None:
        """Notes what has ended a node: this one, or a peer that has sent POISON."""
        for digest in dict.fromkeys(("", poison.digest)):
            count, last_ms = self.known.pop((poison.label, digest), (0, 0))
            self._note(poison.label, digest, (1 if _is_old(last_ms, wall_ms) else count + 1, wall_ms))
        for oldest in list(self.known)[:-DEATHS_MAX]:
            self._forget(oldest)

    def _note(self, label: str, digest: str, death: Death) -> None:
        self.known[label, digest] = death
        if label.startswith(COMMAND):
            self.commands[label] = None

    def _forget(self, name: tuple[str, str]) -> None:
        del self.known[name]
        if not name[1]:
            self.commands.pop(name[0], None)

    def _forget_commands(self, wall_ms: int) -> None:
        """While commands are known, all commands take a slower path. So they are not kept longer than is useful."""
        for name, (_, last_ms) in list(self.known.items()):
            if name[0].startswith(COMMAND) and _is_old(last_ms, wall_ms):
                self._forget(name)

    def held(self, wall_ms: int) -> dict[str, int]:
        """Returns the labels of what is held back now, wholly or in part, and how often it has ended a node."""
        found: dict[str, int] = {}
        for (label, digest), death in self.known.items():
            first = 1 if digest else PROCEDURE_DEATHS if label.startswith(PROCEDURE) else LABEL_DEATHS
            if _hold_ms(death, first, wall_ms):
                found[label] = self.known.get((label, ""), death)[0]
        return found


def _hold_ms(death: Death | None, first: int, wall_ms: int) -> int:
    """Returns for how long something is held back after these deaths, from the one with number `first` on."""
    if death is None or death[0] < first:
        return 0
    hold_ms = min(HOLD_MS_MAX, HOLD_MS << min(death[0] - first, 20))
    return max(0, hold_ms - abs(wall_ms - death[1]))  # the clock may have been set back


def _is_old(last_ms: int, wall_ms: int) -> bool:
    return abs(wall_ms - last_ms) > HOLD_MS_MAX


def _decode(document: bytes | None) -> list[tuple[str, str, int, int]]:
    """Returns the stored deaths; none if the document is damaged."""
    try:
        return [
            (str(label), str(digest), int(count), int(last_ms))
            for label, digest, count, last_ms in json.loads(document or b"[]")
        ]
    except (ValueError, TypeError):
        return []
