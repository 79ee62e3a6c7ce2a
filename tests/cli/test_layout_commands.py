"""dyn cluster init, cluster status, ring show, ring locate against scripted nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from dynamo_cli.plain import status_text
from tests.cli.documents import LOCATION, ring, status
from tests.cli.scripted import Reply, ScriptedNode
from tests.ports import free_ports

Scripted = Callable[[dict[str, Reply]], ScriptedNode]
Dyn = Callable[..., Result]


def identity(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"id-{name}",
        "name": name,
        "address": f"host-{name}:7001",
        "zone": "z",
        "weight": 1,
        "epoch": 0,
        "cluster": "",
        **fields,
    }


@pytest.fixture
def fresh(scripted: Scripted) -> Callable[..., list[ScriptedNode]]:
    """Makes fresh nodes that learn a layout from each other once one of them got it."""

    def make(*identities: dict[str, Any], learns: bool = True) -> list[ScriptedNode]:
        nodes = [scripted({"DYN.CLUSTER MYSELF": fields}) for fields in identities]

        def learn(words: list[bytes]) -> Reply:
            for node in nodes if learns else nodes[:1]:
                node.script["DYN.CLUSTER MYSELF"] = node.script["DYN.CLUSTER MYSELF"] | {"epoch": 1}
            return {"epoch": 1, "cluster": "c0ffee"}

        for node in nodes:
            node.script["DYN.CLUSTER INIT"] = learn
        return nodes

    return make


def init(dyn: Dyn, nodes: list[ScriptedNode], *options: str) -> Result:
    return dyn(None, "cluster", "init", *(node.address for node in nodes), *options)


@pytest.mark.parametrize(
    ("secrets", "complaint"),
    [
        ((["a"], ["b"]), "and {1} have different secrets"),
        ((["a"], []), "{1} has no secret, and {0} has one"),
        (([], ["a"]), "{0} has no secret, and {1} has one"),
        ((["a", "b"], ["a"]), "have different secrets"),
    ],
)
def test_init_refuses_nodes_that_would_refuse_each_other(
    dyn: Dyn, fresh: Callable[..., list[ScriptedNode]], secrets: tuple[list[str], list[str]], complaint: str
) -> None:
    nodes = fresh(identity("a", secrets=secrets[0]), identity("b", secrets=secrets[1]))
    refused = init(dyn, nodes)
    assert refused.exit_code == 1 and complaint.format(*(node.address for node in nodes)) in refused.stderr
    assert "--secret-file" in refused.stderr and not sent(nodes[0])


@pytest.mark.parametrize(("secrets", "warns"), [(["a"], False), ([], True)])
def test_init_warns_if_nodes_have_no_secret(
    dyn: Dyn, fresh: Callable[..., list[ScriptedNode]], secrets: list[str], warns: bool
) -> None:
    done = init(dyn, fresh(identity("a", secrets=secrets), identity("b", secrets=secrets)))
    assert done.exit_code == 0 and ("the nodes are not authenticated" in done.stderr) == warns


def sent(node: ScriptedNode) -> list[Any]:
    return [json.loads(words[2]) for words in node.calls if words[1] == b"INIT"]


def test_init_sends_all_members_to_the_first_node_and_waits_for_all(fresh: Any, dyn: Dyn) -> None:
    nodes = fresh(identity("n1"), identity("n2", zone="y", weight=5))
    got = init(dyn, nodes, "--partitions", "64", "--n", "2", "--r", "1", "--w", "2")
    assert (got.exit_code, got.stdout) == (0, "cluster c0ffee made: n1 n2; 64 partitions, N=2 R=1 W=2\n")
    fields = ("id", "name", "address", "zone", "weight")
    members = [{field: identity(name)[field] for field in fields} for name in ("n1", "n2")]
    members[1] |= {"zone": "y", "weight": 5}
    assert sent(nodes[0]) == [{"partitions": 64, "n": 2, "r": 1, "w": 2, "members": members}]
    assert sent(nodes[1]) == []
    assert nodes[1].calls[-1] == [b"DYN.CLUSTER", b"MYSELF"]


def test_init_json(fresh: Any, dyn: Dyn) -> None:
    got = init(dyn, fresh(identity("n1")), "--json")
    document = json.loads(got.stdout)
    assert (document["epoch"], document["cluster"], document["partitions"]) == (1, "c0ffee", 128)
    assert [member["name"] for member in document["members"]] == ["n1"]


def test_init_refuses_a_node_that_has_a_layout(fresh: Any, dyn: Dyn) -> None:
    nodes = fresh(identity("n1"), identity("n2", epoch=4, cluster="beef"))
    got = init(dyn, nodes)
    assert (got.exit_code, got.stdout) == (1, "")
    assert f"{nodes[1].address} (n2) already has a layout: epoch 4 of cluster beef" in got.stderr
    assert sent(nodes[0]) == []


@pytest.mark.parametrize("field", ["id", "name", "address"])
def test_init_refuses_two_nodes_that_are_the_same(fresh: Any, dyn: Dyn, field: str) -> None:
    nodes = fresh(identity("n1"), identity("n2") | {field: identity("n1")[field]})
    got = init(dyn, nodes)
    assert (got.exit_code, got.stdout) == (2, "")
    assert f"are both the node with the {field}" in got.stderr
    assert sent(nodes[0]) == []


def test_init_sends_nothing_when_a_node_is_not_reached(fresh: Any, dyn: Dyn) -> None:
    nodes = fresh(identity("n1"))
    got = dyn(None, "cluster", "init", nodes[0].address, f"127.0.0.1:{free_ports(1)}")
    assert (got.exit_code, sent(nodes[0])) == (3, [])


def test_init_says_which_node_does_not_learn_the_layout(fresh: Any, dyn: Dyn) -> None:
    nodes = fresh(identity("n1"), identity("n2"), learns=False)
    got = init(dyn, nodes, "--wait", "0.1")
    assert got.exit_code == 1
    assert f"{nodes[1].address} was not ready within 0.1 s: it has not learned the layout" in got.stderr


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("127.0.0.1:7001", "--partitions", "100"),
        ("127.0.0.1:7001", "--partitions", "32768"),
        ("127.0.0.1:7001", "--r", "4"),
        ("127.0.0.1:7001", "--n", "1"),
        ("127.0.0.1:7001", "--n", "0"),
    ],
)
def test_a_layout_that_cannot_be_is_wrong_usage(dyn: Dyn, words: tuple[str, ...]) -> None:
    assert dyn(None, "cluster", "init", *words).exit_code == 2


def test_status_in_a_pipe_is_aligned_text(scripted: Scripted, dyn: Dyn) -> None:
    got = dyn(scripted({"DYN.CLUSTER STATUS": status("healthy", "up", "up")}), "cluster", "status")
    assert got.exit_code == 0
    assert got.stdout.splitlines() == [
        "healthy: two nodes",
        "epoch 1, 128 partitions, N=3 R=2 W=2",
        "",
        "NODE  ADDRESS         ZONE  STATE  ROLE    OWNED  SHARE  KEYS  HINTS",
        "n1    127.0.0.1:7001  z1    up     member    128  50.0%  1000      0",
        "n2    127.0.0.1:7002  -     up     member    128  50.0%  1000      0",
    ]


@pytest.mark.parametrize(
    ("verdict", "expected"), [("healthy", 0), ("degraded", 4), ("unavailable", 5), ("new word", 4)]
)
def test_status_json_is_the_nodes_own_document_and_the_verdict_is_the_exit_status(
    scripted: Scripted, dyn: Dyn, verdict: str, expected: int
) -> None:
    document = status(verdict, "up", "down")
    got = dyn(scripted({"DYN.CLUSTER STATUS": document}), "cluster", "status", "--json")
    assert (got.exit_code, json.loads(got.stdout)) == (expected, document)


def test_ring_show_in_a_pipe_has_a_line_a_partition(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.RING SHOW": ring(4)})
    lines = dyn(node, "ring", "show").stdout.splitlines()
    assert lines == [
        "epoch 1, 4 partitions, N=2, balance 0.7500",
        "",
        "NODE  ZONE  WEIGHT  OWNED  SHARE",
        "n1    z1         1      4  50.0%",
        "n2    z2         3      4  50.0%",
        "",
        "PARTITION  OWNERS",
        "0          n1 n2",
        "1          n2 n1",
        "2          n1 n2",
        "3          n2 n1",
    ]
    assert json.loads(dyn(node, "ring", "show", "--json").stdout) == ring(4)


def test_ring_locate(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.RING LOCATE": LOCATION})
    got = dyn(node, "ring", "locate", "k")
    assert got.stdout.splitlines() == [
        "key        'k'",
        "slot       7629",
        "partition  59",
        "owners     n1 n2 n3",
        "fallbacks  none",
    ]
    assert node.calls == [[b"DYN.RING", b"LOCATE", b"k"]]
    assert json.loads(dyn(node, "ring", "locate", "k", "--json").stdout) == LOCATION
    binary = json.loads(dyn(node, "ring", "locate", "\udcff", "--json").stdout)
    assert binary == {**LOCATION, "key": {"base64": "/w=="}}


@pytest.mark.parametrize("words", [("cluster", "status"), ("ring", "show"), ("ring", "locate", "k")])
@pytest.mark.parametrize("document", [{}, {"epoch": "1"}])
def test_a_document_out_of_shape_is_an_error(
    scripted: Scripted, dyn: Dyn, words: tuple[str, ...], document: dict[str, Any]
) -> None:
    got = dyn(scripted({"DYN.CLUSTER STATUS": document, "DYN.RING": document}), *words)
    assert (got.exit_code, got.stdout) == (1, "")
    assert "is it a dyn node?" in got.stderr


def test_a_node_without_a_layout_says_so(scripted: Scripted, dyn: Dyn) -> None:
    node = scripted({"DYN.CLUSTER": "-ERR this node is not part of a cluster yet"})
    got = dyn(node, "cluster", "status")
    assert (got.exit_code, got.stdout) == (1, "")
    assert "not part of a cluster yet" in got.stderr


@pytest.mark.parametrize(
    ("told", "said"),
    [({}, ""), ({"clock_bound_ms": 12}, ", cluster time ±12 ms"),
     ({"clock_bound_ms": None}, ", cluster time not known by a majority")],
)  # fmt: skip
def test_the_status_says_how_well_the_time_is_known(told: dict[str, int | None], said: str) -> None:
    assert status_text(status("healthy", "up") | told).splitlines()[1].endswith(f"W=2{said}")


def test_nobody_knows_how_many_keys_a_node_has_that_is_down(dyn: Dyn, scripted: Scripted) -> None:
    document = status("degraded", "up", "down")
    document["nodes"][1] |= {"keys": None, "down_since_ms": None}
    shown = dyn(scripted({"DYN.CLUSTER STATUS": document}), "cluster", "status")
    assert shown.stdout.splitlines()[-1].split()[-2:] == ["-", "-"]
