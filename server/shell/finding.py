"""`--seeds`: a node that cannot reach some members asks at further addresses which nodes are there.

Theory. This module asks; the core decides what an answer means (core/membership/addresses.py). While members are missing
the seeds are asked at an even pace, which slows down if nothing changes: a member may be down for days. A host name is
resolved anew each time and may stand for several nodes, as that of a headless service does, so all its addresses are asked.
Addresses that an operator gives (`dyn cluster readdress`) are asked at once, and the result is the operator's answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from server.core.membership.addresses import Report
from server.core.messages import shapes
from server.core.node import Node
from server.shell.crash import watch_task
from server.shell.joining import SeedError, ask

log = logging.getLogger("dyn")
PAUSE_S = 0.5
PAUSE_S_MAX = 10.0
SLOWER = 1.5
ANSWER_TIMEOUT_S = 2.0
Outcome = dict[str, str]


class Finding:
    """Looks for members that are not at their addresses in the layout."""

    def __init__(self, node: Node, seeds: Sequence[str], schedule_turn: Callable[[], None]) -> None:
        self._node = node
        self._seeds = list(dict.fromkeys(seeds))
        self._schedule_turn = schedule_turn
        self._answers: set[asyncio.Task[None]] = set()  # tasks that answer operators
        self._logged: dict[str, str] = {}  # what was last logged of each address
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
            await self._look()
            await asyncio.sleep(self._pause_s)

    async def _look(self) -> None:
        missing = self._node.services.addresses.missing()
        self._pause_s = min(PAUSE_S_MAX, self._pause_s * SLOWER) if missing == self._missed else PAUSE_S
        self._missed = missing
        if missing:
            for outcome in await self._ask_all(dict.fromkeys([*self._seeds, *self._node.services.addresses.places()])):
                self._log(outcome)

    def _log(self, outcome: Outcome) -> None:
        """Logs what is wrong with the operator's seeds. Other addresses are guesses and not logged."""
        asked, error = outcome["asked"], outcome["error"]
        if self._logged.get(asked, "") != error and asked in self._seeds:
            log.warning("seed %s: %s", asked, error or f"node {outcome['node']} answers")
        self._logged[asked] = error

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
            answer = await ask(address, b"DYN.CLUSTER", b"MYSELF", timeout_s=ANSWER_TIMEOUT_S)
            told: dict[str, Any] = shapes.parse(answer, shapes.MYSELF, "who a node is")
            outcome = self._node.services.addresses.found(asked, told)
            self._schedule_turn()
            if outcome["error"] and self._node.services.addresses.is_ahead(told):
                here = self._node.state.member.address.encode()
                await ask(address, b"DYN.CLUSTER", b"READDRESS", here, timeout_s=2 * ANSWER_TIMEOUT_S)
                outcome["error"] = ""
            return outcome
        except SeedError as error:
            return _failure(asked, str(error))
        except (ValueError, RecursionError):
            return _failure(asked, "it is no dyn node")


def _failure(asked: str, error: str) -> Outcome:
    return {"asked": asked, "node": "", "address": "", "error": error}
