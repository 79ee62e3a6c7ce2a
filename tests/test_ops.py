"""The files of ops/ name only metrics that a node has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.shell.test_metrics import made

OPS = Path(__file__).parent.parent / "ops"
# RocksDB's figures, which the node of this test does not have: tests/wire/test_metrics.py sees them.
ENGINE = {"dyn_engine_disk_bytes", "dyn_engine_compaction_pending_bytes"}
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def known_names() -> set[str]:
    """The names of all samples that a node may have; a family may be empty now."""
    shell, metrics = made()
    shell.services.process.facts = dict.fromkeys(
        ("loop_lag_ms", "loop_lag_ms_max", "disk_free_bytes", "certificate_left_s"), "1"
    )
    shell.services.scrub.keys_with_siblings = 0  # known after the first scrub
    families = text_string_to_metric_families(metrics.answer(b"GET", b"/metrics")[2].decode())
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]} | ENGINE


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_only_metrics_that_exist_are_named(file: str) -> None:
    text = (OPS / file).read_text()
    named = set(re.findall(r"\b(?:dyn|process)_[a-z0-9_]+", text))
    assert len(named) > 10 and not named - known_names()


def test_the_dashboard_is_json_with_panels_side_by_side() -> None:
    panels = json.loads((OPS / "dashboard.json").read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) > 10 and all(panel["targets"] for panel in panels)


def test_the_dashboard_shows_what_alerts_look_at() -> None:
    """Who is woken by an alert sees its metric in the dashboard, before and after."""
    alerts = "\n".join(re.findall(r"expr: (.*)", (OPS / "alerts.yml").read_text()))
    named = set(re.findall(r"\bdyn_[a-z0-9_]+", alerts))
    shown = set(re.findall(r"\bdyn_[a-z0-9_]+", (OPS / "dashboard.json").read_text()))
    assert len(named) > 10 and sorted(named - shown) == []


def test_every_alert_says_what_to_look_at() -> None:
    text = (OPS / "alerts.yml").read_text()
    assert text.count("- alert:") == text.count("expr:") == text.count("summary:") > 10
