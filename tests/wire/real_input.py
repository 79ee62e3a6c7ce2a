"""Real data: the package records that apt knows, some sixty thousand texts of many lines and of all sizes."""

from __future__ import annotations

import random
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

DPKG_STATUS = Path("/var/lib/dpkg/status")
RECORDS_MIN = 100
GENERATED = 20_000


def package_records() -> dict[bytes, bytes]:
    """Each record under a key of its own. Falls back, with a warning that pytest shows, where apt has no lists."""
    for name, text in _sources():
        records = _keyed(text)
        if len(records) >= RECORDS_MIN:
            return records
        warnings.warn(f"{name} has {len(records)} package records only: trying another source", stacklevel=2)
    raise AssertionError("the last source has records")


def _sources() -> Iterator[tuple[str, bytes]]:
    if shutil.which("apt-cache"):
        yield "apt-cache dumpavail", subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True).stdout
    if DPKG_STATUS.exists():
        yield str(DPKG_STATUS), DPKG_STATUS.read_bytes()
    yield "the generator", b"\n\n".join(_generated())


def _keyed(text: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    for record in text.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in record.splitlines() if b": " in line and line[:1] != b" ")
        if b"Package" in fields:
            key = b"pkg:%b:%b:%b" % tuple(fields.get(name, b"") for name in (b"Package", b"Version", b"Architecture"))
            while key in records:
                key += b"'"
            records[key] = record
    return records


def _generated() -> Iterator[bytes]:
    rng = random.Random(0)
    for number in range(GENERATED):
        lines = [f" {rng.randbytes(rng.randrange(40)).hex()}" for _ in range(rng.randrange(60))]
        yield "\n".join([f"Package: generated-{number}", "Version: 1", "Description:", *lines]).encode()
