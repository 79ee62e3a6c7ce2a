"""Log lines about faults that a node finds by itself: damage, clocks, copies, HTTP. Each is logged once per change."""

from __future__ import annotations

import logging
from typing import Any

from server.core.base.clock_report import in_words
from server.core.node import Node
from server.core.repair.tasks import DONE

log = logging.getLogger("dyn")
HTTP_REPORT_PAUSE_MS = 60_000


class Reports:
    """The reports of one node, and what each has logged last."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._damage = (0, 0, 0)
        self._clock_is_off = False
        self._copies: list[str] = []  # addresses of processes with our id
        self._complaints: list[str] = []  # of our clock: by whom
        self._http_refused = 0
        self._http_report_due_ms = 0
        self._begun = ""  # the task of the filling that was reported last as begun
        row = self._filling_row()
        self._whole = row["task"] if row.get("state") == DONE else ""  # and as ended, in this life or an earlier one

    def make(self, now_ms: int) -> None:
        """Logs what is new; meant to be called once a second."""
        self._damage_found()
        self._clock()
        self._http(now_ms)
        self._copies_refused()
        self._filling()

    def _filling(self) -> None:
        """A node without its data is filled by the other owners, which may take hours, or less than a second."""
        row = self._filling_row()
        name = row.get("task", "")
        if self._node.state.lacks_records and name != self._begun:
            self._begun = name
            log.warning("this node has none of the data that it owns: it is being filled by the other owners")
        if row.get("state") == DONE and name != self._whole:
            self._whole = name
            log.info(
                "this node is whole: %d keys, %d fetched from the other owners",
                row["keys_compared"],
                row["keys_repaired"],
            )

    def _filling_row(self) -> dict[str, Any]:
        return next(iter(self._node.services.filling.tasks()), {})

    def left(self) -> None:
        """Logs, for a node that has left its cluster, what to do with it."""
        left, keys = self._node.services.membership.left, self._node.state.records.keys
        if left is not None and self._node.state.layout is None:
            log.warning(
                "this node is no member of cluster %s any more, by its layout of epoch %d, and serves nobody: stop it%s",
                *left,
                f"; it still holds {keys} keys, and can only join again with an empty directory" if keys else "",
            )

    def _damage_found(self) -> None:
        """Damaged records are repaired automatically, but an operator should look at the disk."""
        statistics = self._node.state.statistics
        found = (self._node.state.records.damaged, statistics.records_mended, statistics.records_lost)
        if found != self._damage:
            log.warning(
                "damaged records: met %d times, %d mended, %d lost; %d wait to be mended",
                *found,
                len(self._node.services.mending),
            )
            self._damage = found

    def _clock(self) -> None:
        """Our clock is off: an operator has to set it."""
        error_ms = self._node.services.clock_report.own_error_ms()
        if bool(error_ms) != self._clock_is_off:
            self._clock_is_off = bool(error_ms)
            if error_ms:
                log.warning("this node's clock is %s those of most members: set it (NTP); keys expire by theirs meanwhile",
                            in_words(error_ms))  # fmt: skip
            else:
                log.info("this node's clock agrees with those of most members")
        complaints = self._node.services.clock_report.complaints()
        if list(complaints) != self._complaints:
            self._complaints = list(complaints)
            for name, ahead_ms in complaints.items():
                log.warning(
                    "this node's clock is %d s ahead of that of node %s, which does not follow it: set the one that is "
                    "wrong (NTP), and start its node again",
                    ahead_ms // 1000,
                    name,
                )
            if not complaints:
                log.info("no other node complains of this node's clock any more")

    def _copies_refused(self) -> None:
        """Other nodes have refused a process that has this node's id."""
        copies = self._node.services.copies.of_us()
        for address in copies:
            if address not in self._copies:
                log.error(
                    "a process at %s has this node's id and is refused by other nodes: it was started on a copy of this "
                    "node's directory: stop it and remove the copy",
                    address,
                )
        self._copies = copies

    def _http(self, now_ms: int) -> None:
        """A client sends HTTP, perhaps with every request of a web page: logged once a minute at most."""
        refused = self._node.state.statistics.http_refused
        if refused < self._http_refused:  # CONFIG RESETSTAT
            self._http_refused = 0
        if refused > self._http_refused and now_ms >= self._http_report_due_ms:
            log.warning(
                "possible attack: %d connections spoke HTTP (POST or Host:) and were closed, the last one from %s; "
                "somebody may try to make a browser send commands to this node",
                refused - self._http_refused,
                self._node.services.process.http_refused_from,
            )
            self._http_refused, self._http_report_due_ms = refused, now_ms + HTTP_REPORT_PAUSE_MS
