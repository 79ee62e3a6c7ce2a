"""The document of all libraries of a cluster, an entry for each with a version (shared/document.py: how it merges).

Theory. An entry has the text of the library, and what it registers: so that a node that gets the document need not run the
text to know which functions there are. After a partition two libraries may have a function of the same name, although
FUNCTION LOAD refuses that: then the library with the later version has it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha1
from typing import Any, ClassVar, Final

from server.core.scripts.engine import Function
from server.core.scripts.library import Library
from server.core.shared.document import SharedDocument, version_of

_ENTRIES_KEPT: Final = 256  # decoded entries that are kept, in case they come again


@dataclass(frozen=True, slots=True)
class LibraryEntry:
    """What is known of one library. `library` is None once it is deleted."""

    counter: int
    node: str
    library: Library | None
    text: str = field(init=False, compare=False, repr=False)  # as it stands in a document

    def __post_init__(self) -> None:
        """Encodes the entry, once, for all documents that it is part of."""
        object.__setattr__(self, "text", json.dumps(self._row(), separators=(",", ":")))

    @property
    def is_deleted(self) -> bool:
        """Whether the library is deleted."""
        return self.library is None

    def _row(self) -> list[Any]:
        """The entry as a value of a JSON document. Bytes become characters of the same number."""
        version = [f"{self.counter:x}", self.node]
        if self.library is None:
            return [*version, None, []]
        functions = [
            [each.name.decode("latin-1"), _texts_of(each.description), list(each.flags)]
            for each in self.library.functions
        ]
        return [*version, self.library.text.decode("latin-1"), functions]


@dataclass(frozen=True, slots=True)
class Libraries(SharedDocument[LibraryEntry]):
    """All libraries by name, deleted ones included."""

    FIELD: ClassVar[str] = "libraries"

    def by_function(self) -> dict[bytes, tuple[Library, Function]]:
        """The functions by their names in lower case. Where two libraries have the same one, the later library counts."""
        found: dict[bytes, tuple[Library, Function]] = {}
        for _, entry in sorted(self.entries.items(), key=lambda each: (version_of(each[1]), each[0])):
            if entry.library is not None:
                found.update({each.name.lower(): (entry.library, each) for each in entry.library.functions})
        return found


def entry_of(row: list[Any]) -> LibraryEntry:
    """Decodes an entry of a JSON document of the right shape."""
    return _entry_in(json.dumps(row, separators=(",", ":")))


@lru_cache(maxsize=_ENTRIES_KEPT)
def _entry_in(text: str) -> LibraryEntry:
    """Decodes an entry; of a document that has come before only what has changed is decoded anew."""
    counter, node, code, functions = json.loads(text)
    if code is None:
        return LibraryEntry(int(counter, 16), node, None)
    return LibraryEntry(
        int(counter, 16),
        node,
        library_of(
            code.encode("latin-1"),
            [
                Function(name.encode("latin-1"), about[0].encode("latin-1") if about else None, tuple(flags))
                for name, about, flags in functions
            ],
        ),
    )


def library_of(text: bytes, functions: list[Function]) -> Library:
    """A library with that text, which registers these functions."""
    sha = sha1(text, usedforsecurity=False).hexdigest().encode()
    return Library(text, sha, tuple(sorted(functions, key=lambda each: each.name)))


def _texts_of(description: bytes | None) -> list[str]:
    return [] if description is None else [description.decode("latin-1")]
