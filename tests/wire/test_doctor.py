"""`dyn doctor` on real nodes: what it finds of causes that are really there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.wire.cluster import PATIENT, WireCluster, dyn, wait_for


def examined(cluster: WireCluster, place: int = 0) -> tuple[int, dict[str, Any]]:
    """The exit status and the document, from one of the nodes."""
    done = dyn("doctor", "--json", port=cluster.nodes[place].port)
    return done.returncode, json.loads(done.stdout)


def found(document: dict[str, Any], check: str) -> list[tuple[str, list[str]]]:
    """The findings of a check: severity and nodes."""
    return [(each["severity"], each["nodes"]) for each in document["findings"] if each["check"] == check]


def test_every_node_tells_of_itself(cluster: WireCluster) -> None:
    _, document = examined(cluster)
    with cluster.nodes[0].client() as client:
        info = client.info("server")
    for node in document["nodes"]:
        assert node["reached"] and (node["version"], node["build"]) == (info["dyn_version"], info["dyn_build"])
        assert node["listen"] == node["address"] and None not in node.values()
    assert found(document, "machines") == [("note", [])]
    assert not [each for each in document["findings"] if each["check"] in ("reached", "status", "layout", "owners")]


def test_causes_on_real_nodes_are_found(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=PATIENT)
    first, second, third = cluster.nodes
    second.stop()
    second.start("--fsync", "no")
    cluster.wait_healthy()
    status, document = examined(cluster)
    assert status == 4 and document["verdict"] == "degraded"
    assert found(document, "durability") == [("warning", ["n2"])] and found(document, "agreement") == [("warning", [])]
    third.kill()
    wait_for(lambda: first.states()["n3"] == "down", "n1 sees that n3 is down")
    status, document = examined(cluster)
    assert status == 4 and found(document, "reached") == [("error", ["n3"])]
    assert found(document, "status") == [("error", [])] and found(document, "owners") == [("warning", [])]
    second.kill()
    wait_for(lambda: first.states()["n2"] == "down", "n1 sees that n2 is down, too")
    status, document = examined(cluster)
    assert (status, document["verdict"]) == (5, "unavailable") and ("error", []) in found(document, "owners")
