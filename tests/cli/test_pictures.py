"""What a person sees on a terminal: everything the pipe says, within the width there is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dynamo_cli import pictures, plain
from tests.cli.documents import PLAN, change, ring, status, task


def console(width: int, colour: bool = False) -> tuple[Console, io.StringIO]:
    """A terminal of `width` columns, and what was written to it."""
    written = io.StringIO()
    system = "standard" if colour else None
    return Console(
        file=written, width=width, force_terminal=True, color_system=system, highlight=False, markup=False
    ), written


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_status_fits_and_says_it_all(width: int) -> None:
    to, written = console(width)
    document = status("degraded", "up", "suspect", "down")
    document["summary"] = "n3 [id3] is down: every key is still served"
    pictures.show_status(document, to)
    text = written.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    assert "degraded" in text
    assert "n3 [id3] is down" in text
    for word in ("n1", "n2", "n3", "up", "suspect", "down"):
        assert word in text
    if width >= 80:
        assert "127.0.0.1:7003" in text


def test_colours_only_repeat_what_the_words_say() -> None:
    plain_to, plain = console(80)
    colour_to, coloured = console(80, colour=True)
    for to in (plain_to, colour_to):
        pictures.show_status(status("unavailable", "up", "down"), to)
        pictures.show_ring(ring(128), to)
    assert "\x1b[1;31m● unavailable" in coloured.getvalue()
    assert "\x1b[31m" not in plain.getvalue()


@pytest.mark.parametrize(("width", "cells"), [(30, 16), (40, 32), (71, 32), (72, 64), (200, 64)])
def test_the_strip_has_a_cell_for_each_partition(width: int, cells: int) -> None:
    to, written = console(width)
    pictures.show_ring(ring(128), to)
    lines = written.getvalue().splitlines()
    strip = lines[next(i for i, line in enumerate(lines) if "first owner" in line) + 1 :]
    assert len(strip) == 128 // cells
    assert "".join("".join(line.split()[1:]) for line in strip) == "12" * 64
    assert [int(line.split()[0]) for line in strip] == list(range(0, 128, cells))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_bar_shows_the_share_and_a_notch_the_fair_one(width: int) -> None:
    to, written = console(width)
    pictures.show_ring(ring(128), to)
    bars = [line for line in written.getvalue().splitlines() if "█" in line]
    assert all(len(line) <= width for line in bars)
    first, second = bars
    # Half of all against a fair quarter: the notch is inside the bar. Half against three quarters: it is beyond.
    assert first.index("│") < first.rindex("█")
    assert second.index("│") > second.rindex("█")


def test_a_ring_of_many_nodes_has_a_mark_for_each() -> None:
    document = ring(128)
    document["nodes"] = [{**document["nodes"][0], "name": f"n{number}"} for number in range(1, 51)]
    document["owners"] = [[f"n{partition % 50 + 1}"] for partition in range(128)]
    to, written = console(80)
    pictures.show_ring(document, to)
    assert "123456789abcdefghijklmnopqrstuvwxyz+" in "".join(written.getvalue().split())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_plan_fits_and_ends_with_what_to_type(width: int) -> None:
    to, written = console(width)
    pictures.show_plan(PLAN | {"now": "the change to epoch 4 is not over yet"}, to)
    lines = written.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    text = " ".join(written.getvalue().split())
    for words in ("plan for epoch 5", "+ join n4 at 127.0.0.1:7004, zone b", "· weight of n1: 2", "n2 n4 64 6400 625.0 KiB",
                  "1.0000 now, 0.9945 then", "about 4 min", "the change to epoch 4"):  # fmt: skip
        assert words in text
    assert "dyn cluster commit --epoch 5" in lines[-2]
    assert "dyn cluster abort" in lines[-1]


@pytest.mark.parametrize(("moved", "cells"), [(0, 0), (48, 12), (95, 23), (96, 24)])
def test_the_status_has_a_bar_while_data_moves(moved: int, cells: int) -> None:
    to, written = console(100)
    pictures.show_status(status("healthy", "up") | {"change": change(moved)}, to)
    line = next(line for line in written.getvalue().splitlines() if "96 partitions" in line)
    assert line.count("█") == cells and line.count("·") == 24 - cells
    assert f"{moved * 100}/9600 keys, {moved} of 96 partitions, about 40 s left" in line


LONG = "cache-prod-03 could not be reached: 12 of 128 partitions were not made equal there"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_nothing_that_matters_is_cut_off_where_names_are_long(width: int) -> None:
    """Every cell is there, though perhaps in several lines: names, states, times, and errors of failed tasks."""
    document = status("degraded", "up", "suspect", "down")
    for number, node in enumerate(document["nodes"], 1):
        node |= {"name": f"cache-prod-0{number}", "address": f"cache-prod-0{number}.example:7001", "zone": "eu-west-1a"}
    failed = task("failed", 2, error=LONG, node="cache-prod-01", task="repair-00ff00ff00", started_ms=1_764_494_211_000)
    rows = plain.status_rows(document), plain.task_rows({"tasks": [failed]})
    to, written = console(width)
    pictures.show_status(document, to)
    pictures.show_table(plain.TASK_HEADINGS, rows[1], to)
    lines = written.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    text = "".join(written.getvalue().split())
    missing = [cell for table in rows for row in table for cell in row if "".join(cell.split()) not in text]
    assert [cell for cell in missing if width < 200 or cell != LONG] == [], (
        "on a wide one the error stands in its column"
    )
    assert {"could", "reached:", "partitions", "there"} <= set(written.getvalue().split())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_ring_of_long_names_fits(width: int) -> None:
    document = ring(128)
    for number, node in enumerate(document["nodes"], 1):
        node |= {"name": f"cache-prod-0{number}", "zone": "eu-west-1a"}
    document["owners"] = [["cache-prod-01", "cache-prod-02"]] * 128
    to, written = console(width)
    pictures.show_ring(document, to)
    lines = written.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    for line in [line for line in lines if "cache-prod" in line]:
        assert "eu-west-1a" in line and "128" in line and "50.0%" in line
