"""Who reads records of entries: what was announced holds over a restart, until something else is announced."""

from __future__ import annotations

from protocol.peer_versions import CAPABILITIES, ENTRIES
from server.core.base.readers import Readers
from server.core.records.records import Records
from tests.core.commands.talking import Store, layout_of, member

OURS, SECOND, THIRD = (member(number).id for number in (1, 2, 3))


def restarted(store: Store, before: Records | None = None) -> tuple[Readers, Records]:
    """The readers of a process that finds what the one before it has committed."""
    batch = before.drain_batch() if before is not None else {}
    for key, document in batch.items():
        assert document is not None
        store.pairs[key] = document
    records = Records(store, 1000, KeyError, 14)
    return Readers(records, OURS), records


def test_a_member_that_is_away_after_a_restart_is_still_known() -> None:
    store = Store()
    layout = layout_of(tuple([member(number) for number in (1, 2, 3)]))
    readers, records = restarted(store)
    assert readers.missing(layout) == [SECOND, THIRD]
    readers.announced(SECOND, CAPABILITIES)
    assert readers.missing(layout) == [THIRD]
    readers.announced(THIRD, (ENTRIES,))
    assert readers.missing(layout) == []
    readers, records = restarted(store, records)
    assert readers.missing(layout) == []
    readers.announced(SECOND, ())
    assert readers.missing(layout) == [SECOND], "it was set back to an earlier version"
    readers, records = restarted(store, records)
    assert readers.missing(layout) == [SECOND]


def test_once_the_cluster_has_types_a_new_member_is_able_until_it_announces_something_else() -> None:
    store = Store()
    larger = layout_of((member(1), member(2), member(3)))
    readers, records = restarted(store)
    readers.announced(SECOND, CAPABILITIES)
    assert readers.missing(larger) == [THIRD]
    assert readers.missing(layout_of((member(1), member(2)))) == []
    assert readers.missing(larger) == []
    readers, records = restarted(store, records)
    assert readers.missing(larger) == []
    readers.announced(THIRD, CAPABILITIES[:2])
    assert readers.missing(larger) == [THIRD]
    assert readers.missing(None) == []


def test_a_damaged_document_is_no_document() -> None:
    store = Store()
    readers, records = restarted(store)
    readers.announced(SECOND, CAPABILITIES)
    restarted(store, records)
    key = next(iter(store.pairs))
    store.pairs[key] = b"[1]"
    readers, records = restarted(store)
    assert readers.missing(layout_of((member(1), member(2)))) == [SECOND]
    assert records.damaged == 1
