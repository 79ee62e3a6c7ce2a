"""The alerts of ops/alerts.yml, and two judges of them.

The expressions are judged by a translation of the few forms that the file has, so that this runs everywhere; where
Prometheus' own promtool is installed, it judges the same metrics by the file itself, its `for` included.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

ALERTS = Path(__file__).parents[2] / "ops" / "alerts.yml"
EXPRESSIONS = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)\n", ALERTS.read_text()))

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]  # by name and labels


def fires(alert: str, before: Samples, after: Samples) -> bool:
    """Whether the expression of an alert holds. What counters have gained in the minute they gain in each minute."""

    def total(name: str, samples: Samples = after) -> float:
        return sum([value for (other, _), value in samples.items() if other == name])

    def value(name: str) -> float:
        found = [value for (other, _), value in after.items() if other == name]
        return max(found, key=abs, default=float("nan"))

    def gained(name: str, span_s: float) -> float:
        return (total(name) - total(name, before)) / span_s

    text = EXPRESSIONS[alert].replace('{job="dyn"}', "").replace(" on (instance)", "")
    text = re.sub(r"rate\((\w+)\[5m\]\)", r"gained('\1', 60)", text)
    text = re.sub(r"increase\((\w+)\[\w+\]\)", r"gained('\1', 1)", text)
    text = re.sub(r"sum by \(instance\) \((\w+)\)", r"total('\1')", text)
    text = re.sub(r"(?<![\w'])(up|dyn_\w+)", r"value('\1')", text)
    return bool(eval(text, {"total": total, "value": value, "gained": gained, "abs": abs}))


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
