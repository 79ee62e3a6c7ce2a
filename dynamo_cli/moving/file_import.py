"""dyn import FILE.rdb: all keys of an RDB file, into the databases that they are of."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from dynamo_cli.moving.checksums import sealed
from dynamo_cli.moving.progress_file import ProgressFile
from dynamo_cli.moving.rdb_reader import Key, RdbFile
from dynamo_cli.moving.sender import Sender, write_of
from dynamo_cli.output import note
from dynamo_cli.progress import Progress
from dynamo_cli.target import Target
from protocol.databases import DATABASES


class FileImport:
    """The import of one file. `counts` are of keys."""

    def __init__(self, path: Path, target: Target, rate: int, progress_path: Path | None) -> None:
        self._file = RdbFile(path)
        self._sender = Sender(target, rate)
        source = {"file": str(path.resolve()), "bytes": self._file.size_bytes, "modified_ns": self._file.modified_ns}
        self._progress_file = ProgressFile(progress_path or path.with_name(path.name + ".dyn-import"), source)
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def run(self, shown: Progress) -> dict[str, Any]:
        """Imports what was not imported before. Returns the document of the result. Raises Failure."""
        self._file.check()
        saved = self._progress_file.load() or {"place": 0, "database": 0, "counts": {}, "left_out": {}}
        self.counts.update(saved["counts"])
        self.left_out.update(saved["left_out"])
        if saved["place"]:
            note(f"going on at byte {saved['place']} of {self._file.size_bytes}")
        at = saved
        try:
            for key in self._file.keys(saved["place"], saved["database"]):
                if self._take(key):
                    at = self._at(key.end, key.database)
                    self._progress_file.save(at)
                    shown.show(key.end >> 20, self._file.size_bytes >> 20, f"{self._keys()} keys")
            self._sender.flush()
        except BaseException:
            self._progress_file.save(at, at_once=True)
            raise
        finally:
            self._sender.close()
        self._progress_file.remove()
        if self._file.functions:
            self.left_out["function libraries"] = self._file.functions
        return self._result()

    def _take(self, key: Key) -> bool:
        """Sends a key, or leaves it out. Whether all keys so far are acknowledged."""
        if key.left_out:
            self.left_out[key.left_out] += 1
        elif not 0 <= key.database < DATABASES:
            self.left_out[f"database {key.database}"] += 1
        elif 0 < key.expires_at_ms <= time.time() * 1000:
            self.counts["expired"] += 1
        else:
            self.left_out.update(key.parts_left_out)
            payload = b"" if key.text is not None else sealed(key.value, self._file.version)
            return self._sender.add(write_of(key.database, key.key, payload, key.text, key.expires_at_ms))
        return False

    def _keys(self) -> int:
        return self.counts["keys"] + self._sender.sent

    def _at(self, place: int, database: int) -> dict[str, Any]:
        counts = self.counts + Counter({"keys": self._sender.sent, "refused": self._sender.refused})
        return {"place": place, "database": database, "counts": dict(counts), "left_out": dict(self.left_out)}

    def _result(self) -> dict[str, Any]:
        return {
            "keys": self._keys(),
            "expired": self.counts["expired"],
            "refused": self.counts["refused"] + self._sender.refused,
            "left_out": dict(self.left_out),
            "refusals": self._sender.refusals,
        }
