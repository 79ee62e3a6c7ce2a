"""The alerts of ops/alerts.yml, and Prometheus' own judge of them: promtool, where it is installed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

ALERTS = Path(__file__).parents[2] / "ops" / "alerts.yml"
EXPRESSIONS = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", ALERTS.read_text()))

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]  # by name and labels


def judged_by_promtool(folder: Path, alert: str, before: Samples, after: Samples) -> str:
    """For how many nodes promtool says that the alert fires, after half an hour; empty for none."""
    names = set(re.findall(r"\b(?:up|dyn_\w+)", EXPRESSIONS[alert]))
    series = []
    for (name, labels), value in after.items():
        if name in names:
            shown = ",".join([f'{label}="{text}"' for label, text in (*labels, ("instance", "n1"))])
            grown = value - before.get((name, labels), 0.0) if name.endswith("_total") else 0.0
            series.append({"series": f"{name}{{{shown}}}", "values": f"{value}+{grown}x30"})
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    for told, samples in (("1", [{"labels": "{}", "value": 1}]), ("", [])):
        test: dict[str, Any] = {
            "rule_files": [str(ALERTS)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": series,
                    "promql_expr_test": [{"expr": firing, "eval_time": "25m", "exp_samples": samples}],
                }
            ],
        }
        (folder / "test.yml").write_text(json.dumps(test))  # JSON is YAML
        if not subprocess.run(["promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True).returncode:
            return told
    raise AssertionError("promtool says neither that it fires nor that it does not")
