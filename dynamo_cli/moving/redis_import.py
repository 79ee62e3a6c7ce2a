"""dyn import redis://…: all keys of another server, by SCAN, DUMP and RESTORE; what is written since; a comparison.

The server may be shut down as soon as the last key was read. So what the result tells of it is asked at the beginning, and
an import whose keys are all there has ended well, even if the server does not take back its setting of notifications.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

from dynamo_cli.failures import Failure
from dynamo_cli.moving.comparison import Comparison
from dynamo_cli.moving.page_size import PAGE_KEYS
from dynamo_cli.moving.progress_file import ProgressFile
from dynamo_cli.moving.sender import Place, Sender, Write, write_of
from dynamo_cli.moving.source import Changed, Dumped, Notifications, Source
from dynamo_cli.output import as_shown, note
from dynamo_cli.progress import Progress
from dynamo_cli.stop_signals import StopSignals
from dynamo_cli.target import Target
from protocol.databases import DATABASES

_DIFFERENCES_SHOWN: Final = 5
_WAIT_S: Final = 0.2


class RedisImport:
    """The import from one server."""

    def __init__(self, url: str, target: Target, rate: int, progress_path: Path | None) -> None:
        self._source = Source(url, target.timeout_s)
        self._sender = Sender(target, rate)
        host, port = self._source.address
        shown_path = progress_path or Path(f"dyn-import-{host.replace(':', '_')}-{port}")
        self._progress_file = ProgressFile(shown_path, {"server": f"{host}:{port}", "run_id": self._source.run_id})
        self._changed: Changed = {}
        self._notifications: Notifications | None = None
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._counted: set[tuple[int, bytes, str]] = set()  # what is left out of which keys

    def run(self, shown: Progress, follows: bool, verifies: bool) -> dict[str, Any]:
        """Copies what was not copied before, then follows or compares. Returns the document of the result."""
        try:
            functions = self._source.functions()
            if follows:
                self._notifications = self._source.follow()
            self._copy_all(shown)
            if self._notifications is not None:
                self._follow(self._notifications, shown)
            different = self._compare(shown) if verifies else None
        finally:
            if self._notifications is not None:
                self._end_notifications(self._notifications)
            self._sender.close()
            self._source.close()
        self._progress_file.remove()
        if functions:
            self.left_out["function libraries"] = functions
        return {
            "keys": self._keys(),
            "refused": self.counts["refused"] + self._sender.refused,
            "left_out": dict(self.left_out),
            "refusals": self._sender.refusals,
            "followed": self.counts["followed"],
            "different": different,
        }

    def _keys(self) -> int:
        return self.counts["keys"] + self._sender.sent

    def _copy_all(self, shown: Progress) -> None:
        """Copies all keys. What was saved of an earlier run is gone over, unless writes are to be followed: those of the
        time between are not known."""
        noted = self._progress_file.load()  # when following, too: it refuses a file that is not to be replaced
        saved = noted if self._notifications is None else None
        at: Place = saved or {"database": -1, "cursor": "0", "counts": {}, "left_out": {}}
        self.counts.update(at["counts"])
        self.left_out.update(at["left_out"])
        sizes = self._importable()
        if saved:
            note(f"going on in database {at['database']}")
        try:
            for database in sizes:
                if database < at["database"]:
                    continue
                cursor = at["cursor"] if database == at["database"] else "0"
                for following, keys in self._source.pages(database, cursor.encode()):
                    self._copy(database, keys)
                    self._sender.begin(self._at(database + (following == b"0"), following.decode()))
                    if self._sender.reached is not None:
                        self._progress_file.save(self._sender.reached)
                    shown.show(self._keys(), sum(sizes.values()), f"database {database}")
                    if self._notifications is not None:
                        self._notifications.drain(self._changed)
            self._sender.flush()
        except BaseException:
            self._progress_file.save(self._sender.reached or at, at_once=True)
            raise

    def _importable(self) -> dict[int, int]:
        """The databases to import. Those that a cluster does not have are left out."""
        sizes = self._source.databases()
        for database in [each for each in sizes if each >= DATABASES]:
            self.left_out[f"database {database}"] = sizes.pop(database)
        return sizes

    def _at(self, database: int, cursor: str) -> Place:
        counts, left_out = dict(self.counts), dict(self.left_out)
        return {"database": database, "cursor": cursor, "counts": counts, "left_out": left_out}

    def _copy(self, database: int, keys: list[bytes], deletes: bool = False) -> None:
        """Writes keys as they are at the source now. `deletes`: what is gone or left out goes from the cluster, too."""
        for page in self._source.dump(database, keys):
            for dumped in page:
                self._count_left_out(database, dumped)
                if dumped.is_importable:
                    self._sender.add(_write(database, dumped))
                elif deletes:
                    self._sender.add(Write(database, dumped.key, (b"DEL", dumped.key), len(dumped.key)))

    def _count_left_out(self, database: int, dumped: Dumped) -> None:
        """Counts what is left out, once for each key, however often it is copied."""
        left_out = (dumped.left_out,) if dumped.left_out else dumped.parts_left_out
        for what in left_out:
            if (database, dumped.key, what) not in self._counted:
                self._counted.add((database, dumped.key, what))
                self.left_out[what] += 1

    def _follow(self, notifications: Notifications, shown: Progress) -> None:
        """Copies what is written, until Ctrl-C; then what was written before that."""
        note("following: stop the writers of the source, wait until nothing is behind, and end this with Ctrl-C")
        with StopSignals() as stop:
            while not stop.requested:
                notifications.drain(self._changed, _WAIT_S)
                shown.show(self._keys(), 0, f"{self.counts['followed']} writes followed, {len(self._changed)} behind")
                self._copy_changed()
            notifications.drain(self._changed, _WAIT_S)
            while self._changed:
                self._copy_changed()

    def _end_notifications(self, notifications: Notifications) -> None:
        """Ends them, or says that their setting may stay: that is no reason to import everything once more."""
        try:
            notifications.close()
        except Failure as failure:
            before = as_shown(notifications.before)
            note(f"the source may still have notify-keyspace-events AKE, which was {before} before: {failure}")

    def _copy_changed(self) -> None:
        """Copies keys that were written, those of one database."""
        if not self._changed:
            return
        database = next(iter(self._changed))[0]
        keys = [key for each, key in self._changed if each == database][:PAGE_KEYS]
        self._copy(database, keys, deletes=True)
        self._sender.flush()
        for key in keys:
            del self._changed[database, key]
        self.counts["followed"] += len(keys)

    def _compare(self, shown: Progress) -> int:
        """Compares all keys. Returns how many differ, and says so of the first ones."""
        found = compared = 0
        sizes = self._importable()
        for database in sizes:
            comparison = Comparison(self._source.client(database), self._sender.client(database))
            for _, keys in self._source.pages(database):
                found += self._tell(database, comparison.begin(keys), found)
                compared += len(keys)
                shown.show(compared, sum(sizes.values()), "compared")
            found += self._tell(database, comparison.finish(), found)
        return found

    def _tell(self, database: int, different: list[bytes], before: int) -> int:
        """Says which keys differ, unless enough were told before. Returns how many they are."""
        for key in different[: max(0, _DIFFERENCES_SHOWN - before)]:
            note(f"database {database}: {as_shown(key)} differs")
        return len(different)


def _write(database: int, dumped: Dumped) -> Write:
    return write_of(database, dumped.key, dumped.payload, dumped.text, dumped.expires_at_ms)
