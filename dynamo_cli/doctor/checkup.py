"""All checks of `dyn doctor` in order, what they find, and the document of `--json`."""

from __future__ import annotations

from typing import Any

from dynamo_cli.doctor import cluster_checks, node_checks
from dynamo_cli.doctor.examined import ERROR, SEVERITIES, WARNING, Check, Cluster, Finding

CHECKS: dict[str, Check] = {
    "reached": cluster_checks.reached,
    "status": cluster_checks.status,
    "layout": cluster_checks.layout,
    "owners": cluster_checks.owners,
    "zones": cluster_checks.zones,
    "machines": cluster_checks.machines,
    "versions": cluster_checks.versions,
    "builds": node_checks.builds,
    "agreement": cluster_checks.agreement,
    "durability": node_checks.durability,
    "disks": node_checks.disks,
    "clocks": node_checks.clocks,
    "hints": node_checks.hints,
    "repairs": node_checks.repairs,
    "limits": node_checks.limits,
    "memory": node_checks.memory,
    "access": node_checks.access,
    "addresses": node_checks.addresses,
    "certificates": node_checks.certificates,
    "kernel": node_checks.kernel,
}
_SHOWN = ("version", "build", "python", "rocksdict", "machine", "host", "listen")


def findings_of(cluster: Cluster) -> list[tuple[str, Finding]]:
    """What each check has found, with its name, the worst first. Equal findings of several nodes are one."""
    merged: dict[tuple[str, str, str, str], list[str]] = {}
    for name, check in CHECKS.items():
        for finding in check(cluster):
            nodes = merged.setdefault((name, finding.severity, finding.text, finding.advice), [])
            nodes += [node for node in finding.nodes if node not in nodes]
    found = [(name, Finding(severity, tuple(nodes), *words)) for (name, severity, *words), nodes in merged.items()]
    return sorted(found, key=lambda each: SEVERITIES.index(each[1].severity))


def document_of(cluster: Cluster) -> dict[str, Any]:
    """The document of `--json`."""
    found = findings_of(cluster)
    is_wrong = any(finding.severity in (ERROR, WARNING) for _, finding in found)
    unavailable = cluster.status["verdict"] == "unavailable"
    return {
        "verdict": "unavailable" if unavailable else "degraded" if is_wrong else "fine",
        "findings": [
            {
                "check": name,
                "severity": finding.severity,
                "nodes": list(finding.nodes),
                "text": finding.text,
                "advice": finding.advice,
            }
            for name, finding in found
        ],
        "checks": list(CHECKS),
        "nodes": [
            {"name": node.name, "address": node.address, "reached": not node.trouble}
            | {name: node.facts.get(name) for name in _SHOWN}
            for node in cluster.nodes
        ],
    }


def text_of(document: dict[str, Any]) -> str:
    """The same for people: a line for each finding, and below it what to do."""
    lines = []
    for finding in document["findings"]:
        where = f"{', '.join(finding['nodes'])}: " if finding["nodes"] else ""
        lines += [f"{finding['severity']} ({finding['check']}) {where}{finding['text']}", f"  -> {finding['advice']}"]
    count, nodes = len(document["checks"]), len(document["nodes"])
    wrong = sum(finding["severity"] in (ERROR, WARNING) for finding in document["findings"])
    summary = f"{wrong} things to look at" if wrong != 1 else "1 thing to look at"
    return "\n".join(
        [*lines, f"{document['verdict']}: {summary if wrong else 'nothing to do'} ({count} checks, {nodes} nodes)"]
    )
