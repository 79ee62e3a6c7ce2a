"""The libraries of functions of the cluster as this node knows them.

Theory. All nodes keep the document of all libraries (scripts/libraries.py, services/sharing.py), so a function can be
called through any node, and survives restarts. A call names the text of its library by SHA1: so it runs the same text
wherever its keys are coordinated, also while another version spreads. A node keeps some texts that are replaced, and asks
the others for one that it does not have (commands/scripting/texts.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.messages import libraries as messages
from server.core.messages.stored import stored
from server.core.scripts.engine import Function, Limits
from server.core.scripts.libraries import Libraries, LibraryEntry, library_of
from server.core.scripts.library import Library, library_body
from server.core.services.scripts import Scripts
from server.core.services.sharing import Sharing

_DOCUMENT: Final = b"libraries"
_LOAD_INSTRUCTIONS_MAX: Final = 2_000_000  # of a text that is loaded, which happens within a turn
_OTHERS_MAX: Final = 16  # texts that are kept although no library has them now


class Functions:
    """The document of libraries, and its functions by name."""

    def __init__(self, state: State, scripts: Scripts) -> None:
        self._state = state
        self._scripts = scripts
        document = stored(state.records, _DOCUMENT, messages.libraries_in, Libraries(), Libraries())
        self.sharing = Sharing(state, _DOCUMENT, document, state.knowing_libraries, messages.encode_libraries)
        self._others: dict[bytes, bytes] = {}  # texts by SHA1, the last ones at the end
        self._find_all()

    def _find_all(self) -> None:
        self._functions = self.sharing.document.by_function()
        self._texts = {library.sha: library.text for library in self.all().values()}

    # --- looking

    def all(self) -> dict[bytes, Library]:
        """The libraries by name, in order."""
        document = self.sharing.document
        found = {name: document.entries[name].library for name in document.names()}
        return {name: library for name, library in found.items() if library is not None}

    def find(self, function: bytes) -> tuple[Library, Function] | None:
        """The function of that name, and its library."""
        return self._functions.get(function.lower())

    def text_of(self, sha: bytes) -> bytes | None:
        """The text of a library that there is, or was a while ago."""
        return self._texts.get(sha) or self._others.get(sha)

    def keep(self, text: bytes) -> bytes:
        """Keeps a text that another node has a call for; returns its SHA1."""
        sha = library_of(text, []).sha
        self._others.pop(sha, None)
        self._others[sha] = text
        if len(self._others) > _OTHERS_MAX:
            del self._others[next(iter(self._others))]
        return sha

    # --- changing

    def registered(self, text: bytes) -> Library:
        """Runs the text of a library to see what it registers. Raises ScriptError, Stopped, CommandError."""
        library = library_of(text, [])
        limits = Limits(_LOAD_INSTRUCTIONS_MAX, _LOAD_INSTRUCTIONS_MAX, 0, self._scripts.log, lambda args: None)
        functions = self._scripts.engine().load(library.sha, library_body(text), limits)
        return library._replace(functions=tuple(sorted(functions, key=lambda each: each.name)))

    def change(self, libraries: Mapping[bytes, Library | None]) -> None:
        """Puts libraries in, and deletes those that are None here. Raises CommandError if that is too much."""
        self.sharing.check_room()
        document = self.sharing.document
        for name, library in libraries.items():
            counter = self.sharing.next_counter(document.entries.get(name))
            document = document.with_entry(name, LibraryEntry(counter, self._state.id, library))
        size = sum([len(entry.text) for entry in document.entries.values()])
        bytes_max = self._state.config.libraries_bytes_max
        if size > bytes_max and any(library is not None for library in libraries.values()):
            raise CommandError(f"ERR all libraries together exceed libraries_bytes_max={bytes_max}")
        self._adopt(document)
        self.sharing.send_part(list(libraries))

    def received(self, document: Libraries) -> None:
        """Merges the document of another node, or a part of it."""
        following = self.sharing.merged_with(document)
        if following is not None:
            self._adopt(following)

    def _adopt(self, document: Libraries) -> None:
        before = self._texts
        self.sharing.adopt(document)
        self._find_all()
        for sha, text in before.items():
            if sha not in self._texts:
                self.keep(text)
