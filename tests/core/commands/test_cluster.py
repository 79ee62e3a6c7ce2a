"""Redis Cluster clients learn from CLUSTER where to send each key: to its first live owner, each slot once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis._parsers.helpers import parse_cluster_nodes
from redis.cluster import parse_cluster_shards, parse_cluster_slots

from protocol.slots import SLOTS, key_slot
from server.core.commands import cluster_view
from server.core.commands.cluster_view import ClusterView, host_and_port, node_id, slot_ranges, slots_reply, view_of
from server.core.liveness.liveness import PeerState
from server.core.node import Node
from server.core.records.records import storage_key_of
from tests.core.commands.talking import CONFIG, WALL_MS, Client, Store, finish_turn, layout_of, make_node, member, reach

IDS = [f"{number:040x}" for number in range(4)]  # IDS[1] is the real node, as in talking.py
WIDTH = SLOTS // 16

# Taken from redis-server 7.0.15 with --cluster-enabled yes.
FACTS = {
    "CLUSTER": b"-ERR wrong number of arguments for 'cluster' command\r\n",
    "CLUSTER FOO": b"-ERR unknown subcommand 'FOO'. Try CLUSTER HELP.\r\n",
    "CLUSTER KEYSLOT foo": b":12182\r\n",
    "CLUSTER KEYSLOT": b"-ERR wrong number of arguments for 'cluster|keyslot' command\r\n",
    "CLUSTER COUNTKEYSINSLOT 5": b":0\r\n",
    "CLUSTER COUNTKEYSINSLOT 16384": b"-ERR Invalid slot\r\n",
    "CLUSTER COUNTKEYSINSLOT -1": b"-ERR Invalid slot\r\n",
    "CLUSTER COUNTKEYSINSLOT abc": b"-ERR value is not an integer or out of range\r\n",
    "CLUSTER GETKEYSINSLOT 5 10": b"*0\r\n",
    "CLUSTER GETKEYSINSLOT 5 -1": b"-ERR Invalid slot or number of keys\r\n",
    "CLUSTER GETKEYSINSLOT 99999 10": b"-ERR Invalid slot or number of keys\r\n",
    "CLUSTER GETKEYSINSLOT abc 10": b"-ERR value is not an integer or out of range\r\n",
    "CLUSTER GETKEYSINSLOT 5 abc": b"-ERR value is not an integer or out of range\r\n",
    "CLUSTER GETKEYSINSLOT 5": b"-ERR wrong number of arguments for 'cluster|getkeysinslot' command\r\n",
    "CLUSTER REPLICAS": b"-ERR wrong number of arguments for 'cluster|replicas' command\r\n",
    "CLUSTER REPLICAS foo": b"-ERR Unknown node foo\r\n",
    "CLUSTER SLAVES foo": b"-ERR Unknown node foo\r\n",
}


@pytest.mark.parametrize("line", FACTS)
def test_questions_are_answered_as_redis_answers_them(line: str) -> None:
    assert Client(make_node()).raw(line) == FACTS[line]


def test_a_cluster_of_one_looks_like_a_redis_cluster_of_one() -> None:
    """But for its address, id and epoch, byte for byte."""
    client = Client(make_node())
    node = f"$8\r\n10.0.0.1\r\n:7001\r\n$40\r\n{IDS[1]}\r\n".encode()
    assert client.raw("CLUSTER SLOTS") == b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n" + node + b"*0\r\n"
    line = f"{IDS[1]} 10.0.0.1:7001@7001 myself,master - 0 0 7 connected 0-16383\n".encode()
    assert client.raw("CLUSTER NODES") == b"$%d\r\n%b\r\n" % (len(line), line)
    assert client.raw("CLUSTER MYID") == b"$40\r\n%b\r\n" % IDS[1].encode()
    assert client.raw("CLUSTER REPLICAS " + IDS[1]) == b"*0\r\n"
    client.raw("HELLO 3")
    assert client.raw("CLUSTER SLOTS") == b"*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n" + node + b"%0\r\n"
    assert client.raw("CLUSTER NODES") == b"=%d\r\ntxt:%b\r\n" % (len(line) + 4, line)
    shard = client.ask("CLUSTER SHARDS")
    assert shard == [
        {
            "slots": [0, 16383],
            "nodes": [
                {
                    "id": IDS[1],
                    "port": 7001,
                    "ip": "10.0.0.1",
                    "endpoint": "10.0.0.1",
                    "role": "master",
                    "replication-offset": 0,
                    "health": "online",
                }
            ],
        }
    ]


# Where each slot goes


@settings(max_examples=50)
@given(st.lists(st.integers(1, 3), min_size=16, max_size=16))
def test_each_slot_stands_once_in_the_answer_and_neighbours_are_merged(targets: list[int]) -> None:
    members = tuple([member(number) for number in (1, 2, 3)])
    view = ClusterView(layout_of(members), IDS[1], tuple([IDS[number] for number in targets]), (PeerState.UP,) * 3)
    ranges = slot_ranges(view)
    told = [part.target for part in ranges for _ in range(part.first, part.last + 1, WIDTH)]
    assert told == [IDS[number] for number in targets]
    assert (ranges[0].first, ranges[-1].last) == (0, SLOTS - 1)
    assert all(one.last + 1 == next_.first for one, next_ in pairwise(ranges))
    assert all(one.target != next_.target for one, next_ in pairwise(ranges))


def cluster_of_three() -> Node:
    node = make_node(3)
    reach(node, 2)
    reach(node, 3)
    return node


def slots(node: Node) -> dict[tuple[int, int], dict[str, Any]]:
    """As redis-py's cluster client reads them: {(first, last): {"primary": (host, port), "replicas": []}}."""
    found: dict[tuple[int, int], dict[str, Any]] = parse_cluster_slots(Client(node).ask("CLUSTER SLOTS"))
    assert all(told["replicas"] == [] for told in found.values())
    return found


def target_of(node: Node, slot: int) -> str:
    """The host that a client sends a slot's keys to."""
    hosts = [told["primary"][0] for (first, last), told in slots(node).items() if first <= slot <= last]
    assert len(hosts) == 1
    return str(hosts[0])


def test_the_node_named_is_the_first_live_owner() -> None:
    node = cluster_of_three()
    assert [target_of(node, p * WIDTH) for p in range(4)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.1"]
    node.disconnected(IDS[2], 10)
    finish_turn(node)
    assert [target_of(node, p * WIDTH) for p in range(4)] == ["10.0.0.1", "10.0.0.3", "10.0.0.3", "10.0.0.1"]
    node.disconnected(IDS[3], 20)
    finish_turn(node)
    assert slots(node) == {(0, 16383): {"primary": ("10.0.0.1", 7001), "replicas": []}}
    reach(node, 2, 30)
    assert [target_of(node, p * WIDTH) for p in range(4)] == ["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.1"]


def test_the_encoded_answer_is_kept_until_liveness_changes() -> None:
    node = cluster_of_three()
    before, same = view_of(node.state), view_of(node.state)
    assert before is not None and same is not None and before is not same
    assert slots_reply(before, False) is slots_reply(same, False)
    assert slots_reply(before, False) != slots_reply(before, True)
    node.disconnected(IDS[2], 10)
    finish_turn(node)
    after = view_of(node.state)
    assert after is not None
    assert slots_reply(after, False) != slots_reply(before, False)


def test_a_new_layout_is_told_at_once() -> None:
    node = cluster_of_three()
    present = node.state.layout
    assert present is not None
    turned = tuple([tuple(reversed(owners)) for owners in present.owners])
    assert target_of(node, 0) == "10.0.0.1"
    assert node.services.membership.offer(replace(present, epoch=8, owners=turned))
    finish_turn(node)
    assert target_of(node, 0) == "10.0.0.3"
    assert "7 connected" not in Client(node).ask("CLUSTER NODES")


# Who the members are


def test_every_member_has_its_line_and_redis_py_reads_it() -> None:
    node = cluster_of_three()
    node.tick(0, WALL_MS)
    read = parse_cluster_nodes(Client(node).ask("CLUSTER NODES"))
    assert [told["node_id"] for told in read.values()] == IDS[1:]
    assert [told["flags"] for told in read.values()] == ["myself,master", "master", "master"]
    ranges = [(int(first), int(last)) for told in read.values() for first, last in told["slots"]]
    assert sorted(ranges) == sorted(slots(node))
    node.disconnected(IDS[2], 100)
    assert "10.0.0.2:7002@7002 master,fail? - 0 0 7 connected" in Client(node).ask("CLUSTER NODES")


def test_a_dead_member_keeps_its_line_but_no_slots() -> None:
    node = cluster_of_three()
    for now_ms in range(0, 6000, 250):
        node.tick(now_ms, WALL_MS + now_ms)
        node.greeted(IDS[3], now_ms)
        finish_turn(node)
    lines = Client(node).ask("CLUSTER NODES").splitlines()
    assert lines[1] == f"{IDS[2]} 10.0.0.2:7002@7002 master,fail - 0 0 7 disconnected"
    assert "fail" not in lines[0] + lines[2]
    client = Client(node)
    for protocol in (2, 3):
        client.raw(f"HELLO {protocol}")
        shards = parse_cluster_shards(client.ask("CLUSTER SHARDS"))
        assert [shard["nodes"][0]["health"] for shard in shards] == ["online", "failed", "online"]
        assert shards[1]["slots"] == []


def test_ids_are_forty_hexadecimal_digits() -> None:
    assert node_id(IDS[2]) == IDS[2]
    for id_ in ("n1", "F" * 40, "g" * 40):
        assert len(node_id(id_)) == 40
        assert int(node_id(id_), 16) and node_id(id_) != id_
    assert node_id("n1") != node_id("n2")


def test_addresses_of_all_kinds() -> None:
    assert host_and_port("10.0.0.1:7001") == ("10.0.0.1", 7001)
    assert host_and_port("db-1.example:80") == ("db-1.example", 80)
    assert host_and_port("[fe80::1]:7001") == ("fe80::1", 7001)
    layout = layout_of((member(1, "[::1]:7001"),))
    view = ClusterView(layout, IDS[1], (IDS[1],) * 16, (PeerState.UP,))
    assert b"$3\r\n::1\r\n:7001\r\n" in slots_reply(view, False)
    assert f"{IDS[1]} ::1:7001@7001 myself,master".encode() in cluster_view.nodes_reply(view, False)


# The state of the cluster


def info(node: Node) -> dict[str, str]:
    return dict(line.split(":") for line in Client(node).ask("CLUSTER INFO").splitlines())


def test_the_state_is_ok_while_every_slot_has_its_quorums() -> None:
    node = cluster_of_three()
    assert info(node) == {
        "cluster_state": "ok",
        "cluster_slots_assigned": "16384",
        "cluster_slots_ok": "16384",
        "cluster_slots_pfail": "0",
        "cluster_slots_fail": "0",
        "cluster_known_nodes": "3",
        "cluster_size": "3",
        "cluster_current_epoch": "7",
        "cluster_my_epoch": "7",
    }
    node.disconnected(IDS[2], 10)
    finish_turn(node)
    assert (info(node)["cluster_state"], info(node)["cluster_size"]) == ("ok", "2")
    node.disconnected(IDS[3], 10)
    finish_turn(node)
    assert (info(node)["cluster_state"], info(node)["cluster_slots_pfail"]) == ("fail", "16384")
    for now_ms in range(0, 6000, 250):
        node.tick(now_ms, WALL_MS + now_ms)
        finish_turn(node)
    assert (info(node)["cluster_state"], info(node)["cluster_slots_fail"]) == ("fail", "16384")


def test_a_node_without_a_layout_says_so() -> None:
    node = make_node(0)
    client = Client(node)
    assert (info(node)["cluster_state"], info(node)["cluster_slots_assigned"]) == ("fail", "0")
    assert client.raw("CLUSTER SLOTS", "CLUSTER SHARDS") == b"*0\r\n*0\r\n"
    assert client.ask("CLUSTER NODES") == f"{IDS[1]} 10.0.0.1:7001@7001 myself,master - 0 0 0 connected\n"
    assert client.ask("CLUSTER MYID") == IDS[1]


# The keys of a slot


def ask_over_turns(client: Client, line: str) -> Any:
    """The reply to a command that others are served beside."""
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(client.raw(line))
    while (reply := reader.gets()) is False:
        client.now_ms += 1
        client.node.wake(client.now_ms)
        reader.feed(client.raw())
    return reply


def test_live_keys_of_a_slot_are_counted_and_listed() -> None:
    node = make_node(config=replace(CONFIG, scan_page_keys=2))
    client = Client(node)
    slot = key_slot(b"{t}")
    keys = [f"{{t}}{number}" for number in range(7)]
    for key in keys:
        client.raw(f"SET {key} v")
    client.raw("SET elsewhere v", f"DEL {keys[0]}", f"SET {keys[1]} v PX 1000")
    assert ask_over_turns(client, f"CLUSTER COUNTKEYSINSLOT {slot}") == 6
    node.tick(0, WALL_MS + 2000)
    finish_turn(node)
    assert ask_over_turns(client, f"CLUSTER COUNTKEYSINSLOT {slot}") == 5
    assert sorted(ask_over_turns(client, f"CLUSTER GETKEYSINSLOT {slot} 100")) == keys[2:]
    some = ask_over_turns(client, f"CLUSTER GETKEYSINSLOT {slot} 3")
    assert len(some) == 3 and some == ask_over_turns(client, f"CLUSTER GETKEYSINSLOT {slot} 4")[:3]
    assert ask_over_turns(client, f"CLUSTER GETKEYSINSLOT {slot} 0") == []
    assert ask_over_turns(client, f"CLUSTER COUNTKEYSINSLOT {key_slot(b'elsewhere')}") == 1


def test_the_last_slot_has_an_end() -> None:
    """The node's own documents are stored behind it."""
    client = Client(make_node())
    key = next(f"k{number}" for number in range(100_000) if key_slot(f"k{number}".encode()) == 16383)
    client.raw(f"SET {key} v")
    assert client.ask("CLUSTER GETKEYSINSLOT 16383 10") == [key]


def test_a_key_written_in_this_turn_counts() -> None:
    client = Client(make_node())
    assert client.raw("SET k v", f"CLUSTER COUNTKEYSINSLOT {key_slot(b'k')}") == b"+OK\r\n:1\r\n"


def test_a_damaged_record_is_reported_and_not_counted() -> None:
    node = make_node()
    client = Client(node)
    client.raw("SET k v")
    store = node.state.records._store
    assert isinstance(store, Store)
    storage_key = storage_key_of(b"k")
    store.pairs[storage_key] = store.pairs[storage_key][:-1] + b"?"
    assert "checksum" in client.error(f"CLUSTER GETKEYSINSLOT {key_slot(b'k')} 1")
    assert node.state.records.damaged == 1


# What the operator does with dyn


REFUSED = [
    "ADDSLOTS 1", "ADDSLOTSRANGE 1 2", "DELSLOTS 1", "DELSLOTSRANGE 1 2", "MEET 10.0.0.2 7002", f"FORGET {IDS[2]}",
    "FAILOVER", "FAILOVER FORCE", f"REPLICATE {IDS[2]}", "RESET", "RESET HARD", f"SETSLOT 1 NODE {IDS[2]}", "FLUSHSLOTS",
    "SAVECONFIG", "SET-CONFIG-EPOCH 9", "BUMPEPOCH",
]  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_changes_are_refused_with_the_command_to_use(words: str) -> None:
    node = cluster_of_three()
    before = view_of(node.state)
    message = Client(node).error(f"CLUSTER {words}")
    assert message.startswith(f"ERR CLUSTER {words.split()[0]} is not supported: ")
    assert "`dyn cluster " in message
    assert view_of(node.state) == before


def test_help_lists_what_is_answered() -> None:
    told = Client(make_node()).ask("CLUSTER HELP")
    assert "KEYSLOT key" in told
    assert not any(line.startswith("MEET") for line in told)
