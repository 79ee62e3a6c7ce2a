"""`--join`: a fresh node asks members, the seeds, to stage that it joins.

Theory. The operator who starts a node wants it in the cluster, but when it gets data is for a plan to say and a commit
to decide. So all that is asked of a seed is to stage the join. The node serves meanwhile; seeds that are down do not stop
its start, they are tried in turn, again and again, until one has answered well. What they answer is logged when it
changes, and not each second.

A node that has a layout has nothing to ask for, and `--join` may stay on its command line for good: its addresses are
seeds like those of `--seeds` (finding.py). But if its directory comes from another cluster than the seeds', somebody has
mixed them up: its log says so.
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
ANSWER_TIMEOUT_S = 10.0  # more than a seed takes to tell all other members


class SeedError(Exception):
    """A seed could not be asked, or refuses; the message says why."""


class Joining:
    """What a node with seeds does beside serving, until one of them has answered."""

    def __init__(self, node: Node, seeds: Sequence[str]) -> None:
        self._node = node
        self._seeds = seeds
        self._told: dict[str, str] = {}  # what was last logged of each seed

    async def run(self) -> None:
        """Asks the seeds in turn until one has staged the join, or it is clear that there is nothing to stage."""
        while True:
            for seed in self._seeds:
                try:
                    if await self._is_done_with(seed):
                        return
                except SeedError as error:
                    self._tell(seed, str(error))
            await asyncio.sleep(RETRY_S)

    async def _is_done_with(self, seed: str) -> bool:
        """Whether no other seed is to be asked after this one. Raises SeedError."""
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

    def _tell(self, seed: str, what: str) -> None:
        if self._told.get(seed) != what:
            self._told[seed] = what
            log.warning("cannot join by %s: %s; trying again", seed, what)


async def _cluster_of(seed: str) -> str:
    """The cluster that the seed is in; empty if in none. Raises SeedError."""
    answer = await ask(seed, b"DYN.CLUSTER", b"MYSELF")
    try:
        return str(json_documents.parse(answer, DOCUMENT_BYTES_MAX)["cluster"])
    except (ValueError, KeyError, TypeError):
        raise SeedError(_NO_NODE) from None


async def ask(seed: str, *command: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes:
    """The bulk string that the node at `seed` answers to a command. Raises SeedError."""
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
