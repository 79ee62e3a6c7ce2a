"""`--seeds`: a node that misses members asks at further addresses who is there.

Theory. The core says what an answer means (core/membership/addresses.py); here is the asking. While members are missing
the seeds are asked at an even pace, which slows down where nothing changes: a member may be away for days. A host name
is resolved anew each time and may stand for several nodes, as that of a headless service does, so all its addresses are
asked. An operator's question (`dyn cluster readdress`) is asked at once, and answered with what came of it.
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
    """What looks for members that the addresses in the layout do not lead to."""

    def __init__(self, node: Node, seeds: Sequence[str], schedule_turn: Callable[[], None]) -> None:
        self._node = node
        self._seeds = list(dict.fromkeys(seeds))
        self._schedule_turn = schedule_turn
        self._answers: set[asyncio.Task[None]] = set()  # to operators, under way
        self._told: dict[str, str] = {}  # what was last logged of each address
        self._missed: list[str] = []  # who was missing the last time
        self._pause_s = PAUSE_S

    def search(self, searches: Sequence[tuple[list[str], Report]]) -> None:
        """Asks at the addresses that operators have named, and reports what came of each question."""
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
                self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        """Of the operator's seeds the log says what is wrong with them; the rest are guesses."""
        asked, error = outcome["asked"], outcome["error"]
        if self._told.get(asked, "") != error and asked in self._seeds:
            log.warning("seed %s: %s", asked, error or f"node {outcome['node']} answers")
        self._told[asked] = error

    async def _ask_all(self, addresses: Sequence[str] | dict[str, None]) -> list[Outcome]:
        answers = await asyncio.gather(*(self._ask_name(address) for address in addresses))
        return [outcome for outcomes in answers for outcome in outcomes]

    async def _ask_name(self, asked: str) -> list[Outcome]:
        """Asks at each address that the host name stands for. If one of them answers well, the others are no news."""
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
        """Asks one process who it is. One that knows members that we do not know is told where we are."""
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
