"""How far an import has come: a small file, so that the import goes on there when it is run again.

It names its source, and is left alone if another import has written it. It is written in one step, after what it counts was
acknowledged, and removed when the import has ended.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from dynamo_cli.failures import Failure, WrongUsage
from dynamo_cli.replaced_files import replaceable

_INTERVAL_S: Final = 1.0


class ProgressFile:
    """The file at `path`. `source` says what is imported, and where to."""

    def __init__(self, path: Path, source: dict[str, Any]) -> None:
        self._path = replaceable(path)
        self._source = source
        self._due_s = 0.0

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None if nothing was. Raises WrongUsage if the file is that of another import."""
        try:
            saved = json.loads(self._path.read_text())
            if saved["source"] != self._source:
                raise WrongUsage(
                    f"{self._path} is how far another import has come, or its source has changed since",
                    "remove it to begin at the beginning, or name another file with --progress-file",
                )
            return dict(saved["at"])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"cannot read {self._path}: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError):
            raise WrongUsage(
                f"{self._path} is no progress file of dyn import", "name another file with --progress-file"
            ) from None

    def save(self, at: dict[str, Any], at_once: bool = False) -> None:
        """Saves how far the import has come, once in a second. Raises Failure."""
        if not at_once and time.monotonic() < self._due_s:
            return
        beside = self._path.with_name(self._path.name + ".new")
        try:
            beside.write_text(json.dumps({"source": self._source, "at": at}))
            os.replace(beside, self._path)
        except OSError as error:
            raise Failure(f"cannot write {self._path}: {error.strerror or error}") from None
        self._due_s = time.monotonic() + _INTERVAL_S

    def remove(self) -> None:
        """The import has ended."""
        self._path.unlink(missing_ok=True)
