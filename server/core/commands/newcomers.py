"""A node that is to become a member: what it tells of itself, and why it cannot join.

Theory. A change that is committed moves data, and waits for its node. So a node that could not take part is refused when
it is staged, with what to do about it: one that is or was a member, one with records, one of a version that cannot read
what members write, one without their secret, and one whose TLS does not fit to theirs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from protocol.json_documents import parse
from protocol.peer_versions import DATABASES, ENTRIES, QUORUMS, REPLICA_COUNTS, SWAPS
from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.messages.shapes import DOCUMENT_BYTES_MAX
from server.core.ring.change import REPLICA_COUNT
from server.core.ring.layout import Layout
from server.core.services.services import Services

_CERTIFICATE = " and a certificate of the members' CA (tls_cert_file, tls_key_file, tls_ca_file)"
# The types of what a newcomer tells of itself, where it is not text.
_KINDS = {
    "weight": int,
    "epoch": int,
    "keys": int,
    "reads_types": bool,
    "has_databases": bool,
    "has_quorums": bool,
    "has_replica_counts": bool,
    "has_swaps": bool,
    "secrets": tuple,
}


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A node that is to become a member, as it answers MYSELF. `keys` are the records that it holds, `reads_types` says
    whether it announces that it reads records of entries, `has_databases` whether it knows databases, `has_quorums` whether
    it knows changes of R and W, `has_replica_counts` those of N, `has_swaps` whether it knows SWAPDB, `secrets` are the
    fingerprints of its secrets, `tls_peers` is its setting (empty: a version that does not tell it)."""

    id: str
    name: str
    address: str
    zone: str
    weight: int
    cluster: str = ""
    epoch: int = 0
    keys: int = 0
    reads_types: bool = False
    has_databases: bool = False
    has_quorums: bool = False
    has_replica_counts: bool = False
    has_swaps: bool = False
    secrets: tuple[str, ...] = ()
    tls_peers: str = ""

    @staticmethod
    def of(text: bytes) -> Newcomer:
        """Reads an answer to MYSELF; unknown fields are ignored. Raises CommandError."""
        nonsense = "ERR this is not what a node answers to DYN.CLUSTER MYSELF"
        try:
            answer = parse(text, DOCUMENT_BYTES_MAX)
            newcomer = Newcomer(
                id=answer["id"],
                name=answer["name"],
                address=answer["address"],
                zone=answer["zone"],
                weight=answer["weight"],
                cluster=answer.get("cluster", ""),
                epoch=answer.get("epoch", 0),
                keys=answer.get("keys", 0),
                reads_types=ENTRIES.decode() in list(answer.get("capabilities", ())),
                has_databases=DATABASES.decode() in list(answer.get("capabilities", ())),
                has_quorums=QUORUMS.decode() in list(answer.get("capabilities", ())),
                has_replica_counts=REPLICA_COUNTS.decode() in list(answer.get("capabilities", ())),
                has_swaps=SWAPS.decode() in list(answer.get("capabilities", ())),
                secrets=tuple(answer.get("secrets", ())),
                tls_peers=answer.get("tls_peers", ""),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CommandError(f"{nonsense}: {error!r}") from error
        for name, value in asdict(newcomer).items():
            kind = _KINDS.get(name, str)
            if type(value) is not kind:
                raise CommandError(f"{nonsense}: its {name} is {value!r}")
        return newcomer

    def check(self, layout: Layout) -> None:
        """Raises CommandError unless this is a fresh node that may join."""
        member = next((member for member in layout.members if member.id == self.id), None)
        if member is not None:
            raise CommandError(f"ERR node {member.name} is a member already")
        if self.epoch and self.cluster != layout.cluster:
            raise CommandError(
                f"ERR node {self.name} ({self.address}) is in cluster {self.cluster} (epoch {self.epoch}), and this is "
                f"cluster {layout.cluster}: start it with an empty directory"
            )
        if self.epoch:
            raise CommandError(
                f"ERR node {self.name} ({self.address}) was a member of this cluster until after epoch {self.epoch} and "
                "is none any more: start it with an empty directory"
            )
        if self.keys:
            raise CommandError(
                f"ERR the directory of node {self.name} ({self.address}) holds {self.keys} records of an earlier life: "
                "empty it, or start the node once with --rebuild"
            )

    def check_version(self, services: Services, layout: Layout) -> None:
        """Raises CommandError if this node could not read what the members may write at any time.

        What it has announced is kept here, so that a commit at this node knows it, too."""
        state = services.state
        state.readers.announced(self.id, (ENTRIES,) if self.reads_types else ())
        state.with_databases.announced(self.id, (DATABASES,) if self.has_databases else ())
        state.with_swaps.announced(self.id, (SWAPS,) if self.has_swaps else ())
        changes_n = layout.changes_n or any(change.kind == REPLICA_COUNT for change in services.staging.changes())
        may_change_n = changes_n or _all_know(state, layout, REPLICA_COUNTS)
        may_change_quorums = bool(layout.written_w) or _all_know(state, layout, QUORUMS)
        lacks_numbers = (may_change_quorums and not self.has_quorums) or (may_change_n and not self.has_replica_counts)
        lacks_swaps = services.numbering.is_swapped and not self.has_swaps
        if lacks_numbers or lacks_swaps or is_too_old(state, self.id, layout):
            raise CommandError(of_earlier_version(f"{self.name} ({self.address})"))

    def check_secret(self, services: Services) -> None:
        """Raises CommandError if the members would refuse this node, because it does not have their secret.

        Without this check the change could be committed, and would wait for the node until somebody looks into its log."""
        authentication = services.authentication
        if authentication.is_required and not any(name in self.secrets for name in authentication.fingerprints):
            fault = (
                "has another secret than the members" if self.secrets else "has no secret, and the members require one"
            )
            raise CommandError(
                f"ERR node {self.name} ({self.address}) {fault}: copy a member's file `secret` to its machine, give it by "
                "`dyn node start --secret-file FILE` or as DIR/secret, and stage it again"
            )

    def check_tls(self, services: Services) -> None:
        """Raises CommandError if the members and this node cannot connect to each other, as only one side does so by TLS.

        This node's setting stands for all members: they differ only while a cluster changes to TLS, by `optional`."""
        ours = services.state.config.tls_peers
        if {ours, self.tls_peers} == {"yes", "no"}:
            how = "by TLS only" if ours == "yes" else "without TLS"
            raise CommandError(
                f"ERR node {self.name} ({self.address}) has tls_peers = {self.tls_peers}, and the members connect to each "
                f"other {how}: start it with tls_peers = {ours}{_CERTIFICATE if ours == 'yes' else ''}, then stage it again"
            )

    def fields(self) -> dict[str, Any]:
        """The fields that the change carries."""
        return {"name": self.name, "address": self.address, "zone": self.zone, "weight": self.weight}


def of_earlier_version(name: str) -> str:
    """The error for a node that could not read what all members may write."""
    return (
        f"ERR node {name} runs a version that does not read Redis' types, databases, their swaps, or changes of N, R and "
        "W, and all members may write them: start it with the members' version, then stage it again"
    )


def _all_know(state: State, layout: Layout, capability: bytes) -> bool:
    """Whether all members have this capability. Then an operator may stage such a change behind the join at any time."""
    able = state.capable[capability]
    return all(member.id == state.id or member.id in able for member in layout.members)


def is_too_old(state: State, node: str, layout: Layout) -> bool:
    """Whether a node has said that it does not read what the members of a layout may write by now."""
    each = (state.readers, state.with_databases)
    return any(readers.is_unable(node) and not readers.missing(layout) for readers in each)
