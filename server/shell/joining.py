"""`--join`: a fresh node asks members, the seeds, to stage that it joins.

Theory. The operator who starts a node wants it in the cluster. But data moves only by a plan that an operator has reviewed
and committed. So the node asks a seed only to *stage* its join. It serves meanwhile, and it starts although seeds are down:
it tries them in turn until one has staged the join. A seed's answer is logged when it changes.

A node that has a layout asks for nothing, so `--join` may stay on its command line: its addresses are seeds like those of
`--seeds` (finding.py). If the directory belongs to another cluster than the seeds, that is a mistake, and is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from protocol import json_documents
from server.core.messages.shapes import DOCUMENT_BYTES_MAX
from server.core.node import Node
from server.core.operators import documents
from server.shell.asking import NO_NODE, NotAnswered, ask
from server.shell.certificates import Certificates

log = logging.getLogger("dyn")
RETRY_S = 1.0


class Joining:
    """Asks the seeds of a node, until one has staged its join."""

    def __init__(self, node: Node, seeds: Sequence[str], certificates: Certificates) -> None:
        self._node = node
        self._certificates = certificates
        self._seeds = seeds
        self._logged: dict[str, str] = {}  # what was last logged of each seed

    async def run(self) -> None:
        """Asks the seeds in turn until one has staged the join, or there is nothing to stage."""
        while True:
            for seed in self._seeds:
                try:
                    if await self._is_done_with(seed):
                        return
                except NotAnswered as error:
                    self._log(seed, str(error))
            await asyncio.sleep(RETRY_S)

    async def _is_done_with(self, seed: str) -> bool:
        """Asks one seed. Returns whether no other seed needs to be asked. Raises NotAnswered."""
        layout = self._node.state.layout
        member = self._node.state.member
        if layout is not None:
            cluster = await self._cluster_of(seed)
            if cluster not in ("", layout.cluster):
                log.error("cannot join by %s: the directory of node %s belongs to cluster %s, and %s is in cluster %s: "
                          "start the node with an empty directory", seed, member.name, layout.cluster, seed,
                          cluster)  # fmt: skip
            return cluster != ""
        myself = documents.encode(documents.myself(self._node.services))
        try:
            await self._ask(seed, b"JOIN", myself)
        except NotAnswered as error:
            if " is staged to join already" not in str(error):
                raise
        log.info("%s has staged that node %s joins: `dyn cluster plan` shows it, `dyn cluster commit` makes it a member",
                 seed, member.name)  # fmt: skip
        return True

    def _log(self, seed: str, what: str) -> None:
        if self._logged.get(seed) != what:
            self._logged[seed] = what
            log.warning("cannot join by %s: %s; trying again", seed, what)

    async def _cluster_of(self, seed: str) -> str:
        """The cluster that the seed is in; empty if in none. Raises NotAnswered."""
        answer = await self._ask(seed, b"MYSELF")
        try:
            return str(json_documents.parse(answer, DOCUMENT_BYTES_MAX)["cluster"])
        except (ValueError, KeyError, TypeError):
            raise NotAnswered(NO_NODE) from None

    async def _ask(self, seed: str, *words: bytes) -> bytes:
        """The answer to a command of DYN.CLUSTER. Raises NotAnswered."""
        authentication = self._node.services.authentication
        return await ask(seed, b"DYN.CLUSTER", *words, authentication=authentication, certificates=self._certificates)
