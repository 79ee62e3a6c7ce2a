"""dyn import FILE.rdb: all keys of an RDB file, into the databases that they are of."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from dynamo_cli.moving.checksums import sealed
from dynamo_cli.moving.progress_file import ProgressFile
from dynamo_cli.moving.rdb_reader import Key, RdbFile
from dynamo_cli.moving.sender import Place, Sender, Write, write_of
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
        try:
            for key in self._file.keys(saved["place"], saved["database"]):
                if self._is_importable(key):
                    self._sender.add(self._write(key), lambda key=key: self._at(key, shown))  # type: ignore[misc]
            self._sender.flush()
        except BaseException:
            self._progress_file.save(self._sender.reached or saved, at_once=True)
            raise
        finally:
            self._sender.close()
        self._progress_file.remove()
        if self._file.functions:
            self.left_out["function libraries"] = self._file.functions
        return self._result()

    def _is_importable(self, key: Key) -> bool:
        """Whether a key is to be written. Counts it if it is left out, and what is left out of it."""
        if key.left_out:
            self.left_out[key.left_out] += 1
        elif not 0 <= key.database < DATABASES:
            self.left_out[f"database {key.database}"] += 1
        elif 0 < key.expires_at_ms <= time.time() * 1000:
            self.counts["expired"] += 1
        else:
            self.left_out.update(key.parts_left_out)
            return True
        return False

    def _write(self, key: Key) -> Write:
        payload = b"" if key.text is not None else sealed(key.value, self._file.version)
        return write_of(key.database, key.key, payload, key.text, key.expires_at_ms)

    def _keys(self) -> int:
        return self.counts["keys"] + self._sender.sent

    def _at(self, key: Key, shown: Progress) -> Place:
        """Where the import is behind a key, which ends a batch. Saves and shows what is acknowledged."""
        if self._sender.reached is not None:
            self._progress_file.save(self._sender.reached)
        shown.show(key.end >> 20, self._file.size_bytes >> 20, f"{self._keys()} keys")
        counts, left_out = dict(self.counts), dict(self.left_out)
        return {"place": key.end, "database": key.database, "counts": counts, "left_out": left_out}

    def _result(self) -> dict[str, Any]:
        return {
            "keys": self._keys(),
            "expired": self.counts["expired"],
            "refused": self.counts["refused"] + self._sender.refused,
            "left_out": dict(self.left_out),
            "refusals": self._sender.refusals,
        }
