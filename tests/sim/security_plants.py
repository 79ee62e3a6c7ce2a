"""Bugs on purpose in users and in the handshake of nodes; see plants.py and security.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.core.membership.authentication import Authentication
from server.core.services import sharing
from server.core.services.users import Users
from server.core.users.document import Document
from tests.sim.plants import Patch
from tests.sim.security import Profile


@dataclass(frozen=True)
class SecurityPlant:
    """A bug, the storm in which it shows, and words of the checker that has to find it."""

    name: str
    patch: Callable[[Patch], None]
    found_by: str
    profile: Profile


def _take_what_comes(patch: Patch) -> None:
    patch(sharing, "merged", lambda one, other: other)


def _keep_what_is_here(patch: Patch) -> None:
    patch(sharing, "merged", lambda one, other: type(one)({**other.entries, **one.entries}, one.floor))


def _say_before_storing(patch: Patch) -> None:
    adopt = Users._adopt

    def adopt_in_memory(self: Users, document: Document) -> None:
        put, self._state.records.put_document = self._state.records.put_document, lambda name, data: None  # type: ignore
        adopt(self, document)
        self._state.records.put_document = put  # type: ignore[method-assign]

    patch(Users, "_adopt", adopt_in_memory)


def _keep_sessions(patch: Patch) -> None:
    patch(Users, "_end", lambda self, session: None)


def _forget_the_deleted(patch: Patch) -> None:
    def delete(self: Users, names: Sequence[bytes]) -> int:
        present = [name for name in names if self.find(name) is not None]
        entries = {name: entry for name, entry in self._document.entries.items() if name not in present}
        self._adopt(Document(entries, self._document.floor))
        return len(present)

    patch(Users, "delete", delete)


def _welcome_without_proof(patch: Patch) -> None:
    patch(Authentication, "plain_refusal", lambda self: "")


def _keep_dropped_secrets(patch: Patch) -> None:
    set_secrets = Authentication.set_secrets

    def keep_all(self: Authentication, secrets: Sequence[bytes]) -> None:
        set_secrets(self, tuple(dict.fromkeys([*secrets, *self.secrets])))

    patch(Authentication, "set_secrets", keep_all)


_ALONE = ("isolate", "kill")
SECURITY_PLANTS: Sequence[SecurityPlant] = (
    SecurityPlant("take what comes", _take_what_comes, "go back", Profile(faults=_ALONE)),
    SecurityPlant("keep what is here", _keep_what_is_here, "know different users", Profile(faults=_ALONE)),
    SecurityPlant("say before storing", _say_before_storing, "not stored", Profile(faults=_ALONE)),
    SecurityPlant("forget the deleted", _forget_the_deleted, "go back", Profile(faults=_ALONE)),
    SecurityPlant("keep sessions", _keep_sessions, "deleted, and runs", Profile(faults=("clock drift",))),
    SecurityPlant("welcome without a proof", _welcome_without_proof, "believed", Profile()),
    SecurityPlant("keep dropped secrets", _keep_dropped_secrets, "told", Profile(duration_ms=30_000)),
)
