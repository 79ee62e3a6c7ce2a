"""What `make scale` and `make tails` compute by themselves: choices of keys, percentiles, places of tables."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.scale.__main__ import PARTS
from tests.scale.figures import Table, percentile, replaced
from tests.scale.generator import Samples
from tests.scale.requests import PING, READ, WRITE, YCSB, Mix, Source, Work, name_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
PLACES = ("tails", "tails-jobs", "paper-buffered-writes", "paper-client-coordination")
DRAWS = 20_000


def _drawn(mix: Mix, keys: int = 1000) -> list[tuple[str, int, bytes]]:
    source = Source(Work((), keys, mix), 1)
    return [source.next() for _ in range(DRAWS)]


@pytest.mark.parametrize(("name", "reads"), [("A", 0.5), ("B", 0.95), ("C", 1.0), ("D", 0.95)])
def test_a_mix_has_its_share_of_reads(name: str, reads: float) -> None:
    kinds = Counter(kind for kind, _, _ in _drawn(YCSB[name]))
    assert kinds[READ] / DRAWS == pytest.approx(reads, abs=0.02)
    assert kinds[READ] + kinds[WRITE] == DRAWS


def test_requests_are_whole_commands_of_the_key() -> None:
    for kind, number, data in _drawn(Mix(0.5))[:50]:
        assert b"$3\r\n%b\r\n$16\r\n%b\r\n" % (kind.encode(), name_of(number)) in data
        assert data.endswith(b"$100\r\n" + b"v" * 100 + b"\r\n") == (kind == WRITE)
    assert Source(Work((), 1, pings=True), 1).next()[0] == PING


def test_zipfian_keys_are_popular_as_gray_et_al_have_it() -> None:
    """Of 1,000 keys the most popular one gets 1 / sum(n ** -0.99) of the requests, the second half of that, and so on."""
    counts = [count for _, count in Counter(number for _, number, _ in _drawn(YCSB["C"])).most_common()]
    total = sum(number**-0.99 for number in range(1, 1001))
    assert counts[0] / DRAWS == pytest.approx(1 / total, rel=0.1)
    assert sum(counts[:10]) / DRAWS == pytest.approx(sum(number**-0.99 for number in range(1, 11)) / total, rel=0.15)


def test_even_keys_are_all_asked_for() -> None:
    assert len({number for _, number, _ in _drawn(Mix(0.7))}) == 1000


def test_the_latest_keys_are_read_most() -> None:
    drawn = _drawn(YCSB["D"])
    inserted = [number for kind, number, _ in drawn if kind == WRITE]
    assert inserted == list(range(inserted[0], inserted[0] + len(inserted))) and inserted[0] >= 1000
    late = Counter(number for kind, number, _ in drawn[-2000:] if kind == READ)
    assert late.most_common(1)[0][0] >= inserted[-200]


def test_a_modification_reads_its_key_first() -> None:
    drawn = _drawn(YCSB["F"])
    writes = [place for place, (kind, _, _) in enumerate(drawn) if kind == WRITE]
    assert len(writes) > DRAWS / 4
    assert all(drawn[place - 1][:2] == (READ, drawn[place][1]) for place in writes)


def test_samples_are_told_by_when_they_were_due() -> None:
    samples, other = Samples(), Samples()
    samples.add(READ, 1.0, 5.0)
    other.add(READ, 2.0, 3.0)
    other.add(WRITE, 2.5, 4.0)
    samples.add_all(other)
    assert samples.all() == [3.0, 4.0, 5.0]
    assert samples.between(2.0, 2.5) == [3.0]
    assert samples.all(WRITE) == [4.0]


def test_percentiles() -> None:
    values = list(range(1000))
    assert [percentile(values, percent) for percent in (50, 99, 99.9, 100)] == [500, 990, 999, 999]
    assert percentile([], 50) != percentile([], 50)


def test_a_table_takes_its_own_place_and_no_other() -> None:
    text = "a\n<!-- one: x -->\nold\n<!-- end of one -->\nb\n<!-- two: y -->\nkept\n<!-- end of two -->\n"
    table = Table("one", ("k", "v"), "small")
    table.add("1", "2")
    told = replaced(text, "one", table.markdown("here"))
    assert "old" not in told and "kept" in told and "| 1 | 2 |" in told and "Measured: small; here." in told
    assert replaced(told, "one", table.markdown("here")) == told
    with pytest.raises(SystemExit):
        replaced(text, "three", "")


def test_every_table_has_a_place() -> None:
    places = re.findall(r"^<!-- ([\w-]+): .* -->$", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(places) == sorted([*PLACES, "thousand", *[f"scale-{part}" for part in PARTS]])
