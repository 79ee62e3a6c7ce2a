"""Seed discovery (`--seeds`): a node that cannot reach some members asks at further addresses which nodes are there.

Theory. This module asks; the core decides what an answer means (core/membership/addresses.py). While members are missing,
the seeds are asked again and again, ever more rarely if nothing changes: a member may be down for days. A host name is
resolved anew each time. It may stand for several nodes, as the name of a headless service does, so all its addresses are
asked. Addresses that an operator gives (`dyn cluster readdress`) are asked at once, and the result is the operator's
answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from server.core.membership.addresses import Report
from server.core.messages import shapes
from server.core.node import Node
from server.shell.asking import NotAnswered, ask
from server.shell.certificates import Certificates
from server.shell.crash import watch_task

log = logging.getLogger("dyn")
PAUSE_S = 0.5
PAUSE_S_MAX = 10.0
BACKOFF_FACTOR = 1.5
ANSWER_TIMEOUT_S = 2.0
QUIET_S = 10.0  # from the start of this node
Outcome = dict[str, str]


class Finding:
    """Looks for members that are not at their addresses in the layout."""

    def __init__(
        self,
        node: Node,
        seeds: Sequence[str],
        schedule_turn: Callable[[], None],
        certificates: Certificates,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._certificates = certificates
        self._seeds = list(dict.fromkeys(seeds))
        self._schedule_turn = schedule_turn
        self._answers: set[asyncio.Task[None]] = set()  # tasks that answer operators
        self._clock_s = clock_s
        self._started_s = clock_s()
        self._logged: dict[str, tuple[str, int]] = {}  # what was last logged of each address, and at which level
        self._missed: list[str] = []  # members that were missing the last time
        self._pause_s = PAUSE_S

    def search(self, searches: Sequence[tuple[list[str], Report]]) -> None:
        """Asks at the addresses that operators have given, and reports the results."""
        for addresses, report in searches:
            answer = asyncio.get_running_loop().create_task(self._answer(addresses, report))
            self._answers.add(answer)
            answer.add_done_callback(watch_task)
            answer.add_done_callback(self._answers.discard)

    async def _answer(self, addresses: list[str], report: Report) -> None:
        report(await self._ask_all(addresses))
        self._schedule_turn()

    async def run(self) -> None:
        """Looks for missing members for as long as the node runs."""
        while True:
            await self._ask_seeds()
            await asyncio.sleep(self._pause_s)

    async def _ask_seeds(self) -> None:
        """Asks the seeds and other likely addresses, if members are missing."""
        missing = self._node.services.addresses.missing()
        self._pause_s = min(PAUSE_S_MAX, self._pause_s * BACKOFF_FACTOR) if missing == self._missed else PAUSE_S
        self._missed = missing
        if missing:
            for outcome in await self._ask_all(dict.fromkeys([*self._seeds, *self._node.services.addresses.places()])):
                self._log(outcome)

    def _log(self, outcome: Outcome) -> None:
        """Logs what is wrong with a seed of the operator, once. Other addresses are guesses and not logged.

        Where nodes start one after the other, a seed may not answer yet: there is no warning before `QUIET_S`."""
        asked, error = outcome["asked"], outcome["error"]
        is_quiet = not outcome["node"] and self._clock_s() - self._started_s < QUIET_S
        level = logging.WARNING if error and not is_quiet else logging.INFO
        last_error, last_level = self._logged.get(asked, ("", logging.INFO))
        if asked in self._seeds and (error != last_error or level > last_level):
            log.log(level, "seed %s: %s", asked, error or f"node {outcome['node']} answers")
        self._logged[asked] = error, level

    async def _ask_all(self, addresses: Sequence[str] | dict[str, None]) -> list[Outcome]:
        answers = await asyncio.gather(*(self._ask_name(address) for address in addresses))
        return [outcome for outcomes in answers for outcome in outcomes]

    async def _ask_name(self, asked: str) -> list[Outcome]:
        """Asks at each address that the host name stands for. If one of them gives a good answer, the errors of the others
        are left out."""
        host, _, port = asked.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except TimeoutError:
            return [_failure(asked, "its host name is not resolved in time")]
        except OSError as error:
            return [_failure(asked, f"its host name leads to no address: {error.strerror}")]
        hosts = dict.fromkeys(str(at[0]) for *_, at in found)
        numeric = [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in hosts]
        outcomes = await asyncio.gather(*(self._ask(asked, address) for address in numeric))
        return [outcome for outcome in outcomes if not outcome["error"]] or outcomes[:1]

    async def _ask(self, asked: str, address: str) -> Outcome:
        """Asks one process which node it is. If it knows a newer layout than we do, tells it our address."""
        try:
            answer = await self._ask_node(address, ANSWER_TIMEOUT_S, b"MYSELF")
            myself: dict[str, Any] = shapes.parse(answer, shapes.MYSELF, "who a node is")
            outcome = self._node.services.addresses.found(asked, myself)
            self._schedule_turn()
            if outcome["error"] and self._node.services.addresses.is_ahead(myself):
                here = self._node.state.member.address.encode()
                await self._ask_node(address, 2 * ANSWER_TIMEOUT_S, b"READDRESS", here)
                outcome["error"] = ""
            return outcome
        except NotAnswered as error:
            return _failure(asked, str(error))
        except (ValueError, RecursionError):
            return _failure(asked, "it is no dyn node")

    async def _ask_node(self, address: str, timeout_s: float, *words: bytes) -> bytes:
        """The answer to a command of DYN.CLUSTER. Raises NotAnswered."""
        return await ask(
            address, b"DYN.CLUSTER", *words, authentication=self._node.services.authentication,
            certificates=self._certificates, timeout_s=timeout_s,
        )  # fmt: skip


def _failure(asked: str, error: str) -> Outcome:
    return {"asked": asked, "node": "", "address": "", "error": error}
