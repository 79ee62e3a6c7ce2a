"""Log lines about what a node detects: damage, clocks, duplicate nodes, HTTP. Each is logged once a change. And those about
users and logins (services/security_log.py).
"""

from __future__ import annotations

import logging
from typing import Any

from server.core.base.clock_report import in_words
from server.core.node import Node
from server.core.repair.tasks import DONE

log = logging.getLogger("dyn")
HTTP_REPORT_PAUSE_MS = 60_000
_SCRIPT_LEVELS = (
    logging.DEBUG,
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
)  # of redis.log: debug, verbose, notice, warning


class Reports:
    """The reports of one node, and what each has logged last."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._damage = (0, 0, 0)
        self._clock_is_off = False
        self._duplicates: list[str] = []  # addresses of other processes with our id
        self._complaints: list[str] = []  # the nodes that refuse our clock's readings
        self._http_refused = 0
        self._http_report_due_ms = 0
        self._begun_task = ""  # the filling whose begin was logged last
        row = self._filling_row()
        self._done_task = (
            row["task"] if row.get("state") == DONE else ""
        )  # the one whose end was, in this run or before

    def make(self, now_ms: int) -> None:
        """Logs what is new; meant to be called once a second."""
        self._log_damage()
        self._log_clock()
        self._log_http(now_ms)
        self._log_duplicates()
        self._log_filling()
        self._log_users()
        self._log_scripts()

    def _log_scripts(self) -> None:
        """Logs what scripts have logged."""
        for level, line in self._node.services.scripts.drain_lines():
            log.log(_SCRIPT_LEVELS[level], "a script: %s", line, extra={"site": "script"})

    def _log_users(self) -> None:
        """Logs refused logins, and changes of users."""
        told = self._node.services.users.log
        refused, more = told.drain_refused()
        for (host, user), count in refused.items():
            log.warning("logins refused: %d, of user %s from %s", count, user, host)
        if more:
            log.warning("logins refused: %d more, of other users or from other hosts", more)
        for is_warning, line in told.drain_lines():
            log.log(logging.WARNING if is_warning else logging.INFO, "%s", line)

    def write_audit(self) -> None:
        """Logs what operators have done since the last call. Each command has a limit of lines of its own (logs.py)."""
        notes, dropped = self._node.services.audit.drain()
        for command, words, who, refusal in notes:
            site = {"site": f"command {command}"}
            if refusal:
                log.warning("command of %s was refused: %s: %s", who, words, refusal, extra=site)
            else:
                log.info("command of %s: %s", who, words, extra=site)
        if dropped:
            log.warning("%d more commands of operators came in one moment and are not in this log", dropped)

    def _log_filling(self) -> None:
        """Logs when the other owners begin to fill this node, and when it has all its data."""
        row = self._filling_row()
        name = row.get("task", "")
        is_done = row.get("state") == DONE and name != self._done_task
        # A filling that took less than a second is seen only once it is done.
        if (self._node.state.lacks_records or is_done) and name != self._begun_task:
            self._begun_task = name
            log.warning("this node has none of the data that it owns: it is being filled by the other owners")
        if is_done:
            self._done_task = name
            log.info(
                "this node is whole: %d keys, %d fetched from the other owners",
                row["keys_compared"],
                row["keys_repaired"],
            )

    def _filling_row(self) -> dict[str, Any]:
        return next(iter(self._node.services.filling.tasks()), {})

    def log_left(self) -> None:
        """Logs, for a node that has left its cluster, what to do with it."""
        left, keys = self._node.services.membership.left, self._node.state.records.keys
        if left is not None and self._node.state.layout is None:
            log.warning(
                "this node is no member of cluster %s any more, by its layout of epoch %d, and serves nobody: stop it%s",
                *left,
                f"; it still holds {keys} keys, and can only join again with an empty directory" if keys else "",
            )

    def _log_damage(self) -> None:
        """Logs damaged records: they are repaired automatically, but an operator should look at the disk."""
        statistics = self._node.state.statistics
        found = (self._node.state.records.damaged, statistics.records_mended, statistics.records_lost)
        if found != self._damage:
            log.warning(
                "damaged records: met %d times, %d mended, %d lost; %d wait to be mended",
                *found,
                len(self._node.services.mending),
            )
            self._damage = found

    def _log_clock(self) -> None:
        """Logs when our clock becomes wrong, and when other nodes refuse its readings: an operator has to set it."""
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

    def _log_duplicates(self) -> None:
        """Logs that other nodes have refused a process that has this node's id."""
        duplicates = self._node.services.duplicates.of_us()
        for address in duplicates:
            if address not in self._duplicates:
                log.error(
                    "a process at %s has this node's id and is refused by other nodes: it was started on a copy of this "
                    "node's directory: stop it and remove the copy",
                    address,
                )
        self._duplicates = duplicates

    def _log_http(self, now_ms: int) -> None:
        """Logs that clients have sent HTTP, at most once a minute: a web page may do it with every request."""
        refused = self._node.state.statistics.http_refused
        if refused > self._http_refused and now_ms >= self._http_report_due_ms:
            log.warning(
                "possible attack: %d connections spoke HTTP (POST or Host:) and were closed, the last one from %s; "
                "somebody may try to make a browser send commands to this node",
                refused - self._http_refused,
                self._node.services.process.http_refused_from,
            )
            self._http_refused, self._http_report_due_ms = refused, now_ms + HTTP_REPORT_PAUSE_MS
