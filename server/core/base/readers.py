"""Which members read what the previous version did not, by what they have announced: records of entries
(records/entries.py), and the keys of other databases (protocol/databases.py).

Theory. A node of an earlier version takes a record of entries for damaged. So no such record is written before every
member of the layout has announced that it reads them. From then on the cluster has types:

    a member has announced          before     afterwards
    that it reads them              able       able
    something else                  unable     unable
    nothing yet (it has just        unable     able
    joined, or was never reached)

A member that is down cannot announce anything, and it must not stop the commands of types. So all this is stored.

The same holds for keys of other databases: a node of an earlier version would look for them in other slots.

A node that is to join says in MYSELF what it reads. Once all members are able, any of them may write types at any time. So
from then on a node that is unable is neither staged nor committed (commands/membership_command.py). Of a change that was
staged before, only the node at which it was staged knows that. If it is committed at another one, the new member refuses
the records, which is a lost vote and a hint, and once it is connected no type is written any more: nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from protocol.peer_versions import ENTRIES
from server.core.messages.stored import stored
from server.core.records.records import Records
from server.core.ring.layout import Layout


class Readers:
    """The members that have a capability, as far as this node knows: to read records of entries, or another one."""

    def __init__(
        self, records: Records, own_id: str, capability: bytes = ENTRIES, document_name: bytes = b"readers"
    ) -> None:
        self._records = records
        self._own_id = own_id
        self._capability = capability
        self._document_name = document_name
        self._announced, self._has_types = stored(records, document_name, _decode, _nothing(), _nothing())
        self._confirmed: Layout | None = None  # all its members are able

    def announced(self, peer: str, capabilities: Sequence[bytes]) -> None:
        """`peer` has announced these capabilities."""
        is_able = self._capability in capabilities
        if self._announced.get(peer) is not is_able:
            self._announced[peer] = is_able
            self._confirmed = None
            self._store()

    def has_announced(self, peer: str) -> bool:
        """Whether `peer` has announced the capability."""
        return self._announced.get(peer, False)

    def is_unable(self, peer: str) -> bool:
        """Whether `peer` has announced that it does not have the capability."""
        return self._announced.get(peer) is False

    def missing(self, layout: Layout | None) -> list[str]:
        """Returns the members of a layout that are unable."""
        if layout is None or layout is self._confirmed:
            return []
        others = [member.id for member in layout.members if member.id != self._own_id]
        missing = [each for each in others if not self._announced.get(each, self._has_types)]
        if not missing:
            self._confirmed = layout
            if not self._has_types:
                self._has_types = True
                self._store()
        return missing

    def has_all(self, layout: Layout) -> bool:
        """Whether all members of a layout are known to be able. Unlike `missing`, it decides nothing for later."""
        others = [member.id for member in layout.members if member.id != self._own_id]
        return layout is self._confirmed or all(self._announced.get(each, self._has_types) for each in others)

    def _store(self) -> None:
        document = {"announced": self._announced, "has_types": self._has_types}
        self._records.put_document(self._document_name, json.dumps(document, sort_keys=True).encode())


def _nothing() -> tuple[dict[str, bool], bool]:
    return {}, False


def _decode(document: bytes) -> tuple[dict[str, bool], bool]:
    """Decodes a stored document. Raises ValueError if it is none."""
    try:
        read = json.loads(document)
        announced = {str(peer): bool(is_able) for peer, is_able in read["announced"].items()}
        return announced, bool(read["has_types"])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
