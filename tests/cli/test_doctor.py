"""`dyn doctor`: each finding is seen when its cause is there, and only then; exit statuses; nodes of earlier versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from dynamo_cli.doctor.checkup import CHECKS, document_of, findings_of, text_of
from dynamo_cli.doctor.examined import ERROR, NOTE, UNKNOWN, WARNING, Cluster, Examined
from server.core.operators.documents import statistics
from server.shell.machine import machine_facts
from tests.cli import documents
from tests.cli.scripted import Close, ScriptedNode
from tests.shell.test_metrics import made

GIB = 1 << 30
SETTINGS: dict[str, Any] = {
    "engine": "rocksdb", "fsync": "everysec", "protected_mode": True, "tls_peers": "no", "clients_max": 10_000,
    "record_cache_bytes": 2 * GIB, "block_cache_bytes": GIB // 2, "hints_bytes_max": 1000,
    "disk_free_bytes_min": GIB // 16, "clock_warn_ms": 5000, "repair_interval_ms": 600_000,
}  # fmt: skip
FACTS: dict[str, Any] = {
    "epoch": 4, "layout": "4.0.abc", "protocol": [1, 1], "capabilities": ["a", "b"], "settings": SETTINGS,
    "clock_error_ms": 3, "clock_bound_ms": 5, "has_password": True, "is_protected": False, "peer_auth": "required",
    "hints": [], "hints_dropped": {}, "compared_s": {}, "version": "0.1.0", "build": "compiled", "python": "3.11.2",
    "rocksdict": "0.3.29", "disk_bytes": 100 * GIB, "disk_free_bytes": 60 * GIB, "files_hard_max": 65_536,
    "memory_bytes": 16 * GIB, "machine_memory_bytes": 16 * GIB, "resident_bytes": GIB, "swap_bytes": 0,
    "kernel": {"overcommit_memory": 0, "swappiness": 60, "somaxconn": 4096, "transparent_hugepages": "madvise"},
    "is_public": True, "has_tls": True, "certificate_days": 90,
}  # fmt: skip
Dyn = Callable[..., Result]
Scripted = Callable[..., ScriptedNode]
ROWS = [["n1", "n2", "n3"], ["n2", "n3", "n1"]]


def healthy(count: int = 3) -> Cluster:
    """Nodes on machines and in zones of their own, with nothing to find."""
    nodes = []
    for number in range(1, count + 1):
        facts = {**FACTS, "settings": dict(SETTINGS), "kernel": dict(FACTS["kernel"]), "machine": f"m{number}",
                 "host": f"h{number}", "listen": f"10.0.0.{number}:7001"}  # fmt: skip
        nodes.append(Examined(f"n{number}", f"10.0.0.{number}:7001", {"state": "up"}, facts))
    ring = {"n": 3, "owners": ROWS, "nodes": [{"name": node.name, "zone": f"z{node.name}"} for node in nodes]}
    return Cluster({"verdict": "healthy", "summary": "all is well", "r": 2, "w": 2}, ring, nodes)


def facts(**changed: Any) -> Callable[[Cluster], None]:
    """A cause: other facts of n1."""
    return lambda cluster: cluster.nodes[0].facts.update(changed)


def setting(**changed: Any) -> Callable[[Cluster], None]:
    """A cause: other settings of n1."""
    return lambda cluster: cluster.nodes[0].facts["settings"].update(changed)


def kernel(**changed: Any) -> Callable[[Cluster], None]:
    """A cause: another kernel under n1."""
    return lambda cluster: cluster.nodes[0].facts["kernel"].update(changed)


def all_nodes(**changed: Any) -> Callable[[Cluster], None]:
    """A cause: other facts of all nodes."""
    return lambda cluster: [node.facts.update(changed) for node in cluster.nodes] and None


def rows(*changed: dict[str, Any]) -> Callable[[Cluster], None]:
    """A cause: other rows in the status."""
    return lambda cluster: [node.row.update(row) for node, row in zip(cluster.nodes, changed, strict=False)] and None


def zone(name: str, value: str) -> Callable[[Cluster], None]:
    """A cause: another zone of a node."""
    return lambda cluster: [row.update(zone=value) for row in cluster.ring["nodes"] if row["name"] == name] and None


HINTS = [{"owner": "n2", "count": 9, "bytes": 900, "oldest_s": 60}]
OLD_HINTS = [{"owner": "n2", "count": 9, "bytes": 90, "oldest_s": 3600}]
CAUSES: list[tuple[Callable[[Cluster], None], str, str, str]] = [
    (lambda c: setattr(c.nodes[0], "trouble", "connection refused"), "reached", ERROR, "n1"),
    (lambda c: c.nodes[0].facts.clear(), "reached", UNKNOWN, "n1"),
    (lambda c: c.status.update(verdict="degraded", summary="n2 is down"), "status", ERROR, ""),
    (facts(layout="3.0.abc"), "layout", ERROR, "n1"),
    (facts(layout="4.0.other"), "layout", ERROR, "n1"),
    (rows({"state": "down"}), "owners", WARNING, ""),
    (rows({"state": "down"}, {"state": "suspect"}), "owners", ERROR, ""),
    (zone("n1", "zn2"), "zones", WARNING, ""),
    (facts(machine="m2"), "machines", WARNING, "n1"),
    (all_nodes(machine="m"), "machines", NOTE, ""),
    (facts(version="0.2.0"), "versions", WARNING, ""),
    (facts(python="3.12.1"), "versions", NOTE, ""),
    (facts(protocol=[2, 2]), "versions", ERROR, ""),
    (facts(capabilities=["a"]), "versions", WARNING, "n1"),
    (facts(build="interpreted"), "builds", WARNING, "n1"),
    (setting(fsync="always"), "agreement", WARNING, ""),
    (setting(tls_peers="optional"), "agreement", WARNING, ""),
    (facts(peer_auth="none"), "agreement", WARNING, ""),
    (setting(fsync="no"), "durability", WARNING, "n1"),
    (setting(engine="memory"), "durability", WARNING, "n1"),
    (facts(disk_free_bytes=10 * GIB), "disks", WARNING, "n1"),
    (facts(disk_free_bytes=1 << 20), "disks", ERROR, "n1"),
    (facts(clock_error_ms=-9000), "clocks", WARNING, "n1"),
    (facts(clock_bound_ms=None), "clocks", WARNING, "n1"),
    (facts(hints=OLD_HINTS), "hints", WARNING, "n1"),
    (facts(hints=HINTS), "hints", WARNING, "n1"),
    (facts(hints_dropped={"n3": 5}), "hints", WARNING, "n1"),
    (facts(compared_s={"n2": 100_000}), "repairs", WARNING, "n1"),
    (facts(files_hard_max=1024), "limits", WARNING, "n1"),
    (facts(resident_bytes=15 * GIB), "memory", ERROR, "n1"),
    (setting(record_cache_bytes=12 * GIB), "memory", WARNING, "n1"),
    (facts(has_password=False), "access", ERROR, "n1"),
    (facts(has_password=False, is_protected=True), "access", NOTE, "n1"),
    (facts(has_tls=False), "access", WARNING, "n1"),
    (facts(peer_auth="open"), "access", ERROR, "n1"),
    (lambda c: setattr(c.nodes[0], "address", "127.0.0.1:7001"), "addresses", ERROR, "n1"),
    (facts(certificate_days=9), "certificates", WARNING, "n1"),
    (facts(certificate_days=-1), "certificates", ERROR, "n1"),
    (kernel(overcommit_memory=2), "kernel", WARNING, "n1"),
    (kernel(transparent_hugepages="always"), "kernel", WARNING, "n1"),
    (kernel(somaxconn=128), "kernel", WARNING, "n1"),
    (facts(swap_bytes=GIB), "kernel", NOTE, "n1"),
]


def test_a_healthy_cluster_has_no_findings() -> None:
    assert findings_of(healthy()) == []
    assert document_of(healthy())["verdict"] == "fine"
    assert text_of(document_of(healthy())) == f"fine: nothing to do ({len(CHECKS)} checks, 3 nodes)"


@pytest.mark.parametrize(("cause", "check", "severity", "node"), CAUSES)
def test_each_cause_is_found(cause: Callable[[Cluster], None], check: str, severity: str, node: str) -> None:
    cluster = healthy()
    cause(cluster)
    found = [finding for name, finding in findings_of(cluster) if name == check and finding.severity == severity]
    assert found and found[0].advice
    assert node in found[0].nodes or not node


def test_each_check_has_a_cause_here() -> None:
    assert {check for _, check, _, _ in CAUSES} == set(CHECKS)


def test_a_small_cluster_is_told_that_it_can_lose_no_node() -> None:
    cluster = healthy(2)
    cluster.ring.update(n=2, owners=[["n1", "n2"]])
    assert [(name, finding.severity) for name, finding in findings_of(cluster)] == [("owners", WARNING)]


def test_many_nodes_of_a_machine_share_its_memory() -> None:
    cluster = healthy()
    for node in cluster.nodes:
        node.facts |= {"machine": "m", "machine_memory_bytes": 8 * GIB}
    (found,) = [finding for name, finding in findings_of(cluster) if name == "memory"]
    assert found.nodes == ("n1", "n2", "n3") and found.advice.startswith("cache_memory_percent = 20")


def test_equal_findings_are_one_and_the_worst_come_first() -> None:
    cluster = healthy()
    all_nodes(build="interpreted")(cluster)
    facts(certificate_days=-1, swap_bytes=GIB)(cluster)
    found = findings_of(cluster)
    assert [finding.severity for _, finding in found] == [ERROR, WARNING, NOTE]
    assert found[1][1].nodes == ("n1", "n2", "n3")


def test_a_note_does_not_change_the_verdict() -> None:
    cluster = healthy()
    facts(swap_bytes=GIB)(cluster)
    assert document_of(cluster)["verdict"] == "fine"


@pytest.mark.parametrize("lacking", [*FACTS, *SETTINGS])
def test_a_node_that_lacks_a_fact_is_left_out_and_nothing_breaks(lacking: str) -> None:
    cluster = healthy()
    cluster.nodes[0].facts.pop(lacking, None)
    cluster.nodes[0].facts.get("settings", {}).pop(lacking, None)
    assert all(finding.severity in (NOTE, UNKNOWN) for _, finding in findings_of(cluster))


def test_a_node_tells_every_fact_that_is_checked(tmp_path: Any) -> None:
    """The names above are those of a real node: else a check would be silent for ever."""
    shell, _ = made()
    shell.services.process.examine = lambda: machine_facts(tmp_path, {})
    told = statistics(shell.services)["facts"]
    json.dumps(told)
    assert set(FACTS) - set(told) == {"is_public", "has_tls", "certificate_days"}  # those are of Exposure.facts
    assert set(SETTINGS) <= set(told["settings"])
    assert {name: type(told[name]) for name in told if name in FACTS} == {
        name: type(value) for name, value in FACTS.items() if name in told
    } | {"clock_bound_ms": type(told["clock_bound_ms"])}


# --- the command


def cluster_of(scripted: Scripted, verdict: str = "healthy", stats: Any = None, **changed: Any) -> ScriptedNode:
    """A scripted node that plays all three nodes of a cluster."""
    node = scripted({})
    status = documents.status(verdict, "up", "up", "up")
    for row in status["nodes"]:
        row["address"] = node.address
    ring = documents.ring(2) | {"owners": ROWS, "n": 3}
    ring["nodes"] = [{"name": row["name"], "zone": row["zone"]} for row in status["nodes"]]
    told = {"node": "n1", "facts": {**FACTS, "machine_memory_bytes": 64 * GIB, "machine": "m", **changed}}
    node.script |= {
        "DYN.CLUSTER STATUS": status,
        "DYN.RING SHOW": ring,
        "DYN.STATS": stats or told,
        "CLUSTER NODES": "-NOPERM",
    }
    return node


@pytest.mark.parametrize(
    ("verdict", "changed", "status"),
    [("healthy", {}, 0), ("healthy", {"build": "interpreted"}, 4), ("degraded", {}, 4), ("unavailable", {}, 5)],
)
def test_the_exit_status_is_the_verdict(
    scripted: Scripted, dyn: Dyn, verdict: str, changed: dict[str, Any], status: int
) -> None:
    got = dyn(cluster_of(scripted, verdict, **changed), "doctor", "--json")
    document = json.loads(got.stdout)
    assert (got.exit_code, document["verdict"]) == (status, {0: "fine", 4: "degraded", 5: "unavailable"}[status])
    assert document["checks"] == list(CHECKS) and len(document["nodes"]) == 3
    assert set(document["nodes"][0]) == {
        "name", "address", "reached", "version", "build", "python", "rocksdict", "machine", "host", "listen",
    }  # fmt: skip
    assert all(list(finding) == ["check", "severity", "nodes", "text", "advice"] for finding in document["findings"])


def test_a_node_that_does_not_answer_is_found(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(cluster_of(scripted, stats=Close), "doctor")
    assert got.exit_code == 4 and got.stdout.count("does not answer here") == 1
    assert got.stdout.startswith("error (reached) n1, n2, n3: does not answer here (lost 127.0.0.1")


def test_of_the_summary_of_the_status_only_the_first_clause_is_shown(scripted: Scripted, dyn: Dyn) -> None:
    node = cluster_of(scripted, "degraded")
    node.script["DYN.CLUSTER STATUS"]["summary"] = "n3 is down: every key is still served; start it; look there"
    lines = dyn(node, "doctor").stdout.splitlines()
    assert "error (status) degraded: n3 is down: every key is still served" in lines
    assert not any("start it" in line for line in lines)


def test_a_node_of_an_earlier_version_is_unknown(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(cluster_of(scripted, stats={"node": "n1", "counters": {}}), "doctor")
    assert (got.exit_code, got.stdout.splitlines()[0]) == (
        0,
        "unknown (reached) n1, n2, n3: an earlier version, which does not tell what is checked here",
    )


def test_no_node_and_no_cluster(scripted: Scripted, dyn: Dyn) -> None:
    nowhere = scripted({})
    nowhere.close()
    assert dyn(nowhere, "doctor").exit_code == 3
    assert dyn(scripted({"DYN.CLUSTER STATUS": "-ERR not part of a cluster yet"}), "doctor").exit_code == 1
