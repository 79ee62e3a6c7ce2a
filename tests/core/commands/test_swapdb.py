"""SWAPDB on three nodes: what all their clients see of it, in plain commands, transactions and blocking ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from protocol.databases import inner_key
from server.core.base.transaction import Watch
from tests.core.commands.swapping import NODES, Swapping, document, filled, swapped
from tests.core.commands.talking import CONFIG

# --- what clients see


def test_clients_of_all_nodes_that_are_connected_see_the_other_database() -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    talkers[2].ask("SELECT 1")
    assert talkers[1].ask("SWAPDB 0 1") == "OK"
    assert [talker.ask("GET k") for talker in talkers] == ["one", "one", "zero"]
    assert cluster.client(2).ask("GET k") == "one", "a new client, too"
    assert talkers[0].ask("SET k new") == "OK" and talkers[1].ask("GET k") == "new"
    assert talkers[2].ask("SWAPDB 1 0") == "OK"
    assert [talker.ask("GET k") for talker in talkers] == ["zero", "zero", "new"]


def test_all_commands_speak_of_the_numbers_of_clients() -> None:
    cluster = Swapping(config=replace(CONFIG, flushall=True))
    talker, other = filled(cluster)[:2]
    for number in range(3):
        other.ask(f"SET only{number} v")
    assert other.ask("SWAPDB 0 5") == "OK"
    assert (talker.ask("DBSIZE"), talker.ask("KEYS *"), talker.ask("RANDOMKEY")) == (0, [], None)
    assert talker.ask("SELECT 5") == "OK"
    assert talker.ask("DBSIZE") == 4 and sorted(talker.ask("KEYS *")) == ["k", "only0", "only1", "only2"]
    assert sorted(talker.ask("SCAN 0 COUNT 100")[1]) == ["k", "only0", "only1", "only2"]
    lines = talker.ask("INFO keyspace").split("\r\n")
    assert [line.split(",")[0] for line in lines if line.startswith("db")] == ["db1:keys=1", "db5:keys=4"]
    assert " db=5 " in talker.ask("CLIENT INFO")
    assert talker.ask("MOVE only0 0") == 1 and other.ask("GET only0") == "v"
    assert talker.ask("COPY only1 only1 DB 0") == 1 and other.ask("GET only1") == "v"
    assert talker.ask("MOVE only1 5") == "ERR source and destination objects are the same"
    assert talker.ask("FLUSHDB") == "OK" and talker.ask("DBSIZE") == 0 and other.ask("DBSIZE") == 2
    assert talker.ask("RESET") == "RESET" and talker.ask("GET only1") == "v", "RESET goes to database 0"
    assert talker.ask("FLUSHALL") == "OK" and other.ask("DBSIZE") == 0


def test_keys_in_messages_have_the_numbers_of_clients() -> None:
    cluster = Swapping()
    talker = filled(cluster)[0]
    assert talker.ask("SWAPDB 0 3") == "OK"
    for node in cluster.nodes:
        shown = node.state.records.listeners.wrong_checksum(b"prefix" + inner_key(0, b"k"))
        assert shown == "the stored record of key b'k' of database 3 fails its checksum"


def test_keyspace_events_have_the_numbers_of_clients() -> None:
    cluster = Swapping(config=replace(CONFIG, notify_keyspace_events="KEA"))
    talkers, listener = filled(cluster), cluster.client(2)
    assert listener.ask("PSUBSCRIBE __key*__:*") == ["psubscribe", "__key*__:*", 1]
    assert talkers[0].ask("SWAPDB 0 3") == "OK"
    talkers[0].ask("SET e 1")
    assert listener.reply() == ["pmessage", "__key*__:*", "__keyspace@0__:e", "set"]
    assert listener.reply() == ["pmessage", "__key*__:*", "__keyevent@0__:set", "e"]


def test_monitor_shows_the_swap_and_the_numbers_of_clients() -> None:
    cluster = Swapping()
    talkers, monitor = filled(cluster), cluster.client(0)
    assert monitor.ask("MONITOR") == "OK"
    talkers[0].ask("SWAPDB 0 3")
    talkers[0].ask("GET k")
    assert ' [0 10.0.0.9:1] "SWAPDB" "0" "3"' in monitor.reply()
    assert ' [0 10.0.0.9:1] "GET" "k"' in monitor.reply()


def test_what_is_tracked_is_invalidated_on_every_node() -> None:
    cluster = Swapping()
    filled(cluster)
    trackers = [cluster.client(place) for place in range(NODES)]
    for tracker in trackers:
        tracker.ask("HELLO 3")
        assert tracker.ask("CLIENT TRACKING ON") == "OK"
        assert tracker.ask("GET k") == "zero"
    assert cluster.client(1).ask("SWAPDB 0 1") == "OK"
    for tracker in trackers:
        assert tracker.reply() == ["invalidate", None], "all keys: clients do not know of databases there"


# --- transactions and scripts


def test_a_swap_within_a_transaction_counts_for_what_is_behind_it() -> None:
    cluster = Swapping()
    talker = filled(cluster)[0]
    for line in ("MULTI", "GET k", "SWAPDB 0 1", "GET k", "SELECT 1", "GET k", "SWAPDB 1 2", "GET k"):
        talker.ask(line)
    assert talker.ask("EXEC") == ["zero", "OK", "one", "OK", "zero", "OK", None]
    assert (talker.ask("GET k"), talker.ask("SELECT 2"), talker.ask("GET k")) == (None, "OK", "zero")
    assert cluster.spaces() == [swapped((0, 1), (1, 2))] * NODES


def test_a_transaction_that_runs_keeps_the_databases_that_it_began_with() -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    assert talkers[0].ask("WATCH k") == "OK"
    for line in ("MULTI", "SET {a}1 v", "SET {b}1 v", "SET {c}1 v", "EXEC"):
        talkers[0].begin(line)
    cluster.nodes[0].services.numbering.merge(document(cluster, (0, 1)))
    assert [talkers[0].reply() for _ in range(5)] == ["OK", *["QUEUED"] * 3, ["OK"] * 3]
    assert sorted(talkers[0].ask("KEYS *")) == ["k"], "the client itself is in the other database now"
    talkers[0].ask("SELECT 1")
    assert sorted(talkers[0].ask("KEYS *")) == ["k", "{a}1", "{b}1", "{c}1"]


def test_what_is_watched_while_databases_are_swapped_has_changed() -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    talkers[0].begin("WATCH k")
    cluster.nodes[0].services.numbering.merge(document(cluster, (0, 1)))
    assert talkers[0].reply() == "OK"
    assert (talkers[0].ask("MULTI"), talkers[0].ask("GET k"), talkers[0].ask("EXEC")) == ("OK", "QUEUED", None)


def test_a_listing_that_is_under_way_stays_in_its_database() -> None:
    cluster = Swapping(config=replace(CONFIG, scan_page_keys=2))
    talkers = filled(cluster)
    names = sorted(f"key{number}" for number in range(20))
    for name in names:
        talkers[0].ask(f"SET {name} v")
    talkers[0].begin("KEYS key*")
    cluster.nodes[0].services.numbering.merge(document(cluster, (0, 1)))
    assert sorted(talkers[0].reply()) == names
    assert talkers[0].ask("KEYS key*") == []


@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (0, 7)])
def test_watched_keys_of_a_swapped_database_have_changed(pair: tuple[int, int]) -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    talkers[0].ask("WATCH k")
    assert talkers[1].ask(f"SWAPDB {pair[0]} {pair[1]}") == "OK"
    assert talkers[1].ask(f"SWAPDB {pair[0]} {pair[1]}") == "OK", "that it was taken back does not matter, as in Redis"
    assert (talkers[0].ask("MULTI"), talkers[0].ask("GET k"), talkers[0].ask("EXEC")) == ("OK", "QUEUED", None)


def test_watched_keys_of_other_databases_have_not_changed() -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    talkers[0].ask("WATCH k")
    assert talkers[1].ask("SWAPDB 1 2") == "OK"
    assert (talkers[0].ask("MULTI"), talkers[0].ask("GET k"), talkers[0].ask("EXEC")) == ("OK", "QUEUED", ["zero"])


@pytest.mark.parametrize(("pair", "reply"), [((0, 5), None), ((3, 5), None), ((5, 6), ["zero"])])
def test_keys_may_be_watched_in_several_databases(pair: tuple[int, int], reply: object) -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    for line in ("SELECT 3", "WATCH k", "SELECT 0", "WATCH k"):
        assert talkers[0].ask(line) == "OK"
    assert talkers[1].ask(f"SWAPDB {pair[0]} {pair[1]}") == "OK"
    assert talkers[0].ask("WATCH l") == "OK", "what is watched later does not hide it"
    talkers[0].ask("MULTI"), talkers[0].ask("GET k")
    assert talkers[0].ask("EXEC") == reply
    assert talkers[0].ask("WATCH k") == "OK"
    talkers[0].ask("MULTI"), talkers[0].ask("PING")
    assert talkers[0].ask("EXEC") == ["PONG"], "a swap before WATCH does not matter"


class _Unlooked(dict[bytes, bytes]):
    """Watched keys that nobody may go through."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("a swap goes through the watched keys")


def test_a_swap_does_not_go_through_the_keys_that_clients_watch() -> None:
    cluster = Swapping()
    talker = cluster.client(0)
    talker.session.watched = Watch()
    talker.session.watched.tokens = _Unlooked({b"k": b""})
    cluster.nodes[0].services.numbering.merge(document(cluster, (0, 1)))
    assert talker.session.space == 1
