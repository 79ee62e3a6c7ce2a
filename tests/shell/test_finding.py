"""What is logged of seeds: nothing alarming while a cluster starts, and one warning for what does not end."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from server.shell.finding import QUIET_S, Finding

SEED = "10.0.0.2:7002"
SILENT = {"asked": SEED, "node": "", "address": "", "error": "connection refused"}
FOUND = {"asked": SEED, "node": "n2", "address": SEED, "error": ""}
STRANGER = FOUND | {"error": "node n9 is in another cluster"}


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def finding(clock: list[float]) -> Finding:
    nothing: Any = None
    return Finding(nothing, [SEED], lambda: None, nothing, lambda: clock[0])


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    found = [record.levelno for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dyn")


def test_a_seed_that_starts_later_is_no_warning(
    finding: Finding, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    finding._log(SILENT)
    finding._log(SILENT)
    assert levels(caplog) == [logging.INFO], "once"
    clock[0] += QUIET_S / 2
    finding._log(FOUND)
    assert levels(caplog) == [logging.INFO] and not caplog.records


def test_a_seed_that_stays_silent_is_one_warning(
    finding: Finding, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    finding._log(SILENT)
    clock[0] += QUIET_S
    finding._log(SILENT)
    finding._log(SILENT)
    assert levels(caplog) == [logging.INFO, logging.WARNING]


def test_a_seed_of_another_cluster_is_a_warning_at_once(finding: Finding, caplog: pytest.LogCaptureFixture) -> None:
    finding._log(STRANGER)
    assert levels(caplog) == [logging.WARNING]


def test_other_addresses_are_not_logged(finding: Finding, caplog: pytest.LogCaptureFixture) -> None:
    finding._log(SILENT | {"asked": "10.0.0.3:7003"})
    assert levels(caplog) == []
