"""`--join`: a fresh node asks members, the seeds, to stage that it joins.

Theory. The operator who starts a node wants it in the cluster. But data moves only by a plan that an operator has reviewed
and committed. So a seed is only asked to stage the join. The node serves meanwhile. Seeds that are down do not keep it from
starting: they are tried in turn until one has staged the join. A seed's answer is logged when it changes.

A node that has a layout asks for nothing, so `--join` may stay on its command line: its addresses are seeds like those of
`--seeds` (finding.py). If the directory belongs to another cluster than the seeds, that is a mistake, and is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from protocol import json_documents, resp
from server.core.messages.shapes import DOCUMENT_BYTES_MAX
from server.core.node import Node
from server.core.operators import documents

log = logging.getLogger("dyn")
RETRY_S = 1.0
_NO_NODE = "it answers with something unexpected: is it a dyn node?"
ANSWER_TIMEOUT_S = 10.0  # more than a seed needs to tell all other members


class SeedError(Exception):
    """A seed could not be asked, or refuses; the message says why."""


class Joining:
    """Asks the seeds of a node, until one has staged its join."""

    def __init__(self, node: Node, seeds: Sequence[str]) -> None:
        self._node = node
        self._seeds = seeds
        self._logged: dict[str, str] = {}  # what was last logged of each seed

    async def run(self) -> None:
        """Asks the seeds in turn until one has staged the join, or there is nothing to stage."""
        while True:
            for seed in self._seeds:
                try:
                    if await self._is_done_with(seed):
                        return
                except SeedError as error:
                    self._log(seed, str(error))
            await asyncio.sleep(RETRY_S)

    async def _is_done_with(self, seed: str) -> bool:
        """Asks one seed; whether no other seed needs to be asked. Raises SeedError."""
        layout = self._node.state.layout
        member = self._node.state.member
        if layout is not None:
            cluster = await _cluster_of(seed)
            if cluster not in ("", layout.cluster):
                log.error("cannot join by %s: the directory of node %s belongs to cluster %s, and %s is in cluster %s: "
                          "start the node with an empty directory", seed, member.name, layout.cluster, seed,
                          cluster)  # fmt: skip
            return cluster != ""
        myself = documents.encode(documents.myself(self._node.services))
        try:
            await ask(seed, b"DYN.CLUSTER", b"JOIN", myself)
        except SeedError as error:
            if " is staged to join already" not in str(error):
                raise
        log.info("%s has staged that node %s joins: `dyn cluster plan` shows it, `dyn cluster commit` makes it a member",
                 seed, member.name)  # fmt: skip
        return True

    def _log(self, seed: str, what: str) -> None:
        if self._logged.get(seed) != what:
            self._logged[seed] = what
            log.warning("cannot join by %s: %s; trying again", seed, what)


async def _cluster_of(seed: str) -> str:
    """The cluster that the seed is in; empty if in none. Raises SeedError."""
    answer = await ask(seed, b"DYN.CLUSTER", b"MYSELF")
    try:
        return str(json_documents.parse(answer, DOCUMENT_BYTES_MAX)["cluster"])
    except (ValueError, KeyError, TypeError):
        raise SeedError(_NO_NODE) from None


async def ask(seed: str, *command: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes:
    """Sends a command to the node at `seed` and answers its reply, a bulk string. Raises SeedError."""
    host, _, port = seed.rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(resp.command(*command))
                return await _answer(reader)
            finally:
                writer.close()
    except TimeoutError:
        raise SeedError(f"no answer within {timeout_s:g} s") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise SeedError(str(error) or type(error).__name__) from None


async def _answer(reader: asyncio.StreamReader) -> bytes:
    line = (await reader.readuntil(b"\r\n"))[:-2]
    if line[:1] == b"-":
        raise SeedError(line[1:].decode("utf-8", "replace"))
    if line[:1] != b"$":
        raise SeedError(_NO_NODE)
    return (await reader.readexactly(int(line[1:]) + 2))[:-2]
