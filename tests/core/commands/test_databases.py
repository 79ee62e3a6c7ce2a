"""SELECT, MOVE, COPY DB, and the commands that look at all keys: each database is a name space of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocol.databases import DATABASES, MARK, inner_key
from protocol.peer_versions import CAPABILITIES
from protocol.peer_versions import DATABASES as DATABASES_WORD
from server.core.base.config import Config
from server.core.records.records import SLOT_PREFIX, Records
from server.core.records.trees import Trees
from tests.core.commands.talking import CONFIG, Client, finish_turn, go_by_own_clock, make_node, member
from tests.core.requests.test_reads import messages_in


class Patient(Client):
    """A client that waits for commands of several turns."""

    def raw_words(self, *commands: list[bytes]) -> bytes:
        """What the node sends until all are answered."""
        replies = super().raw_words(*commands)
        for _ in range(100):
            if not self.session.in_flight:
                break
            self.now_ms += 1
            self.node.wake(self.now_ms)
            replies += b"".join([data for session, data in finish_turn(self.node).replies if session is self.session])
        return replies


def sizes(client: Client) -> list[int]:
    """DBSIZE of the first four databases; the client is in database 0 then."""
    found = []
    for database in (3, 2, 1, 0):
        assert client.ask(f"SELECT {database}") == "OK"
        found.append(client.ask("DBSIZE"))
    return found[::-1]


def keyspace(client: Client) -> dict[str, str]:
    lines = client.ask("INFO keyspace").split("\r\n")
    return dict(line.split(":", 1) for line in lines if line.startswith("db"))


def test_a_key_of_one_database_is_none_of_another() -> None:
    client = Patient(make_node())
    client.ask("SET k zero")
    client.ask("SELECT 1")
    assert client.ask("GET k") is None
    assert client.ask("SET k one") == "OK"
    assert client.ask("MSET a 1 b 2") == "OK"
    assert client.ask("MGET k a b") == ["one", "1", "2"]
    assert client.ask("LPUSH list x y") == 2
    assert client.ask("LMPOP 2 none list LEFT") == ["list", ["y"]]
    assert client.ask("ZADD z 1 m") == 1
    assert client.ask("ZMPOP 2 none z MIN") == ["z", [["m", "1"]]]
    client.ask("SELECT 0")
    assert client.ask("GET k") == "zero"
    assert client.ask("EXISTS a b list z") == 0


def test_commands_that_are_sent_at_once_take_effect_in_order() -> None:
    client = Patient(make_node())
    sent = client.raw(
        "SET k 0", "SELECT 1", "SET k 1", "GET k", "SELECT 2", "GET k", "SELECT 0", "GET k", "SELECT 1", "GET k"
    )
    assert sent == b"+OK\r\n+OK\r\n+OK\r\n$1\r\n1\r\n+OK\r\n$-1\r\n+OK\r\n$1\r\n0\r\n+OK\r\n$1\r\n1\r\n"


def test_keys_are_listed_and_counted_by_database() -> None:
    client = Patient(make_node())
    for database in (0, 1, 3):
        client.ask(f"SELECT {database}")
        for number in range(20 + database):
            client.ask(f"SET k{database}:{number} v")
    assert sizes(client) == [20, 21, 0, 23]
    for database in (1, 2, 3, 0):
        client.ask(f"SELECT {database}")
        wanted = sorted([] if database == 2 else [f"k{database}:{number}" for number in range(20 + database)])
        assert sorted(client.ask("KEYS *")) == wanted
        assert sorted(client.ask("KEYS k*")) == wanted
        assert (client.ask("RANDOMKEY") in wanted) == bool(wanted)
        found: list[str] = []
        cursor = "0"
        while True:
            cursor, page = client.ask(f"SCAN {cursor} COUNT 7")
            found += page
            if cursor == "0":
                break
        assert sorted(found) == wanted
    assert keyspace(client) == {f"db{database}": f"keys={20 + database},expires=0,avg_ttl=0" for database in (0, 1, 3)}


def test_counts_follow_deletions_and_expiries() -> None:
    client = Patient(make_node())
    client.ask("SET k 0")
    client.ask("SELECT 1")
    client.raw("SET k 1", "SET l 1 EX 100", "SET m 1 EX 100")
    assert keyspace(client) == {"db0": "keys=1,expires=0,avg_ttl=0", "db1": "keys=3,expires=2,avg_ttl=0"}
    assert client.ask("DEL k l") == 2
    assert keyspace(client) == {"db0": "keys=1,expires=0,avg_ttl=0", "db1": "keys=1,expires=1,avg_ttl=0"}
    assert client.ask("PERSIST m") == 1
    assert keyspace(client)["db1"] == "keys=1,expires=0,avg_ttl=0"
    assert client.ask("DBSIZE") == 1
    assert client.ask("DEL m") == 1
    assert keyspace(client) == {"db0": "keys=1,expires=0,avg_ttl=0"}
    assert client.ask("DBSIZE") == 0


def test_flushdb_deletes_the_keys_of_one_database() -> None:
    client = Patient(make_node())
    for database in (0, 1, 2):
        client.ask(f"SELECT {database}")
        client.raw("SET a 1", "SET b 1")
    client.ask("SELECT 1")
    assert client.ask("FLUSHDB") == "OK", "caches of frameworks clear themselves by it"
    assert sizes(client) == [2, 0, 2, 0]
    assert client.error("FLUSHALL").startswith("ERR FLUSHALL destroys every key on every node")
    assert client.ask("FLUSHALL CONFIRM") == "OK"
    assert sizes(client) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("settings", "line", "refusal"),
    [
        ({}, "FLUSHALL", "ERR FLUSHALL destroys every key on every node"),
        ({}, "FLUSHALL CONFIRM", ""),
        ({}, "FLUSHDB", ""),
        ({"flushall": True}, "FLUSHALL", ""),
        ({"flushdb": False}, "FLUSHDB", "ERR FLUSHDB destroys every key of database 1 on every node"),
        ({"flushdb": False}, "FLUSHDB CONFIRM", ""),
        ({"flushdb": False, "flushall": True}, "FLUSHALL", ""),
    ],
)
def test_a_setting_for_each_flush_says_whether_it_wants_to_be_confirmed(
    settings: dict[str, bool], line: str, refusal: str
) -> None:
    client = Patient(make_node(1, replace(CONFIG, **settings)))  # type: ignore[arg-type]
    client.raw("SELECT 1", "SET a 1")
    if refusal:
        assert client.error(line).startswith(refusal) and client.ask("EXISTS a") == 1
    else:
        assert client.ask(line) == "OK" and client.ask("EXISTS a") == 0


def test_move_leaves_a_key_of_the_same_name_alone() -> None:
    client = Patient(make_node())
    client.raw("SET k v", "EXPIRE k 100", "SET used 0")
    assert client.ask("MOVE k 1") == 1
    assert client.ask("MOVE k 1") == 0, "there is none any more"
    client.ask("SELECT 1")
    assert client.ask("GET k") == "v"
    assert 0 < client.ask("TTL k") <= 100
    client.ask("SET used 1")
    client.ask("SELECT 0")
    assert client.ask("MOVE used 1") == 0
    assert client.ask("GET used") == "0"
    assert client.error("MOVE used 0") == "ERR source and destination objects are the same"
    assert client.error("MOVE used 16") == "ERR DB index is out of range"
    assert client.error("MOVE used x") == "ERR value is not an integer or out of range"


def test_what_follows_a_move_in_one_pipeline_sees_it() -> None:
    client = Client(make_node())
    replies = client.raw("RPUSH k 1 2", "MOVE k 1", "LLEN k", "RPUSH k 3", "LRANGE k 0 -1", "SELECT 1", "LLEN k")
    assert replies == b":2\r\n:1\r\n:0\r\n:1\r\n*1\r\n$1\r\n3\r\n+OK\r\n:2\r\n"


def test_copy_writes_into_another_database() -> None:
    client = Patient(make_node())
    client.ask("SADD s a b")
    assert client.ask("COPY s s DB 2") == 1
    assert client.ask("COPY s s DB 2") == 0
    assert client.ask("COPY s s DB 2 REPLACE") == 1
    assert client.error("COPY s s") == "ERR source and destination objects are the same"
    assert client.error("COPY s s DB 0") == "ERR source and destination objects are the same"
    client.ask("SELECT 2")
    assert sorted(client.ask("SMEMBERS s")) == ["a", "b"]


def test_sort_looks_at_the_keys_of_its_own_database() -> None:
    client = Patient(make_node())
    client.raw("MSET w_1 1 w_2 2 n_1 wrong n_2 wrong", "SELECT 1", "MSET w_1 2 w_2 1 n_1 one n_2 two", "SADD s 1 2")
    assert client.ask("SORT s BY w_* GET n_* GET #") == ["two", "2", "one", "1"]
    assert client.ask("SORT s BY w_* STORE sorted") == 2
    assert client.ask("LRANGE sorted 0 -1") == ["2", "1"]
    client.ask("SELECT 0")
    assert client.ask("EXISTS sorted") == 0


def test_a_key_that_looks_like_one_of_another_database_is_an_ordinary_key() -> None:
    client = Patient(make_node())
    strange = [MARK, inner_key(1, b"k"), inner_key(0, b"k"), MARK + b"\xff"]
    client.ask("SELECT 1")
    client.ask("SET k other")
    client.ask("SELECT 0")
    for number, key in enumerate(strange):
        assert client.raw_words([b"SET", key, b"%d" % number]) == b"+OK\r\n"
        assert client.raw_words([b"HSET", key + b"h", b"f", b"v"]) == b":1\r\n"
    for number, key in enumerate(strange):
        assert client.raw_words([b"GET", key]) == b"$1\r\n%d\r\n" % number
    assert client.ask("DBSIZE") == 2 * len(strange)
    keys = client.raw_words([b"KEYS", b"*"])
    assert all(b"\r\n%b\r\n" % key in keys for key in strange)
    client.ask("SELECT 1")
    assert client.ask("GET k") == "other"
    assert client.ask("DBSIZE") == 1


def test_the_siblings_of_a_key_are_those_of_the_database() -> None:
    client = Patient(make_node())
    client.ask("SELECT 1")
    client.raw("DYN.SET k a", "DYN.SET k b")
    assert '"key":"k"' in client.ask("DYN.SIBLINGS LIST").replace(" ", "")
    assert '"siblings":2' in client.ask("DYN.SIBLINGS SHOW k").replace(" ", "")
    client.ask("SELECT 0")
    assert '"keys":[]' in client.ask("DYN.SIBLINGS LIST").replace(" ", "")


def test_a_connection_tells_its_database_and_reset_leaves_it() -> None:
    client = Patient(make_node())
    client.ask("SELECT 7")
    assert " db=7 " in client.ask("CLIENT LIST")
    client.ask("HELLO 2")
    assert " db=7 " in client.ask("CLIENT INFO"), "HELLO does not change it, as in Redis"
    client.ask("RESET")
    assert " db=0 " in client.ask("CLIENT INFO")


@pytest.mark.parametrize("index", ["16", "-1", "99999999"])
def test_there_are_sixteen(index: str) -> None:
    client = Patient(make_node())
    assert client.error(f"SELECT {index}") == "ERR DB index is out of range"
    assert client.ask(f"SELECT {DATABASES - 1}") == "OK"
    assert client.ask("CONFIG GET databases") == ["databases", "16"]


def test_users_are_held_to_the_keys_as_they_name_them() -> None:
    node = make_node()
    admin, client = Patient(node), Client(node)
    admin.ask("ACL SETUSER u on nopass +@all ~app:*")
    client.ask("AUTH u x")
    client.ask("SELECT 1")
    assert client.ask("SET app:1 v") == "OK"
    assert client.error("SET other v").startswith("NOPERM")


def test_a_cluster_of_redis_clients_has_one_database() -> None:
    client = Patient(make_node(config=Config(engine="memory", tree_leaf_bits=14, cluster_mode=True)))
    assert client.ask("SELECT 0") == "OK"
    assert client.error("SELECT 1") == "ERR SELECT is not allowed in cluster mode"
    assert client.error("MOVE k 1") == "ERR MOVE is not allowed in cluster mode"
    assert client.error("COPY a b DB 1") == "ERR Copying to another database is not allowed in cluster mode"
    assert client.error("SWAPDB 0 1") == "ERR SWAPDB is not allowed in cluster mode"


def test_other_databases_wait_for_every_member_to_know_them() -> None:
    node = make_node(3)
    client = Patient(node)
    earlier = tuple([word for word in CAPABILITIES if word != DATABASES_WORD])
    node.connected(member(2).id, 0, CAPABILITIES)
    node.connected(member(3).id, 0, earlier)
    go_by_own_clock(node)
    finish_turn(node)
    assert client.error("SELECT 1").endswith("these nodes have not announced one: n3")
    assert client.error("MOVE k 1").endswith("these nodes have not announced one: n3")
    node.connected(member(3).id, 0, CAPABILITIES)
    assert client.ask("SELECT 1") == "OK"
    node.connected(member(3).id, 0, earlier)
    go_by_own_clock(node)
    assert client.error("SET k v").endswith("these nodes have not announced one: n3"), "it was set back"


def test_owners_of_an_earlier_version_are_asked_as_before() -> None:
    def asked(*words: bytes) -> list[Any]:
        node = make_node(2)
        for capabilities in (CAPABILITIES, [each for each in CAPABILITIES if each != DATABASES_WORD]):
            node.connected(member(2).id, 0, capabilities)
        if words:
            node.connected(member(2).id, 0, CAPABILITIES)
        go_by_own_clock(node)
        finish_turn(node)
        node.command(Client(node).session, [b"DBSIZE"], 0)
        messages = messages_in(finish_turn(node).messages[member(2).id])
        return [message for message in messages if b"KEYCOUNTS" in message]

    assert asked(b"new")[0][-1] == b"0"
    assert asked()[0][-1] == b"16", "the number of partitions"


def test_counts_outlive_a_clean_stop() -> None:
    client = Patient(make_node())
    client.ask("SELECT 3")
    client.raw("SET a 1", "SET b 1 EX 100")
    trees = client.node.state.records.trees
    again = Trees(trees.leaf_bits)
    assert again.restore(trees.encode())
    assert again.keys_of(3, 0, 1 << 14) == (2, 1)
    assert again.keys_of(0, 0, 1 << 14) == (0, 0)
    assert again.keys_of(1, 0, 1 << 14) == (0, 0)
    assert again.encode() == trees.encode()


def test_the_document_of_a_stop_is_as_before_without_other_databases() -> None:
    client = Patient(make_node())
    client.ask("SET a 1")
    assert client.node.state.records.trees.encode()[8:10] == b"\x00\x02"


def test_counts_are_made_anew_from_the_records() -> None:
    client = Patient(make_node())
    client.raw("SET a 1", "SELECT 2", "SET a 1", "SET b 1 EX 100", "SET c 1", "DEL c")
    records: Records = client.node.state.records
    before = [records.trees.keys_of(database, 0, 1 << 14) for database in (0, 1, 2)]
    assert before == [(1, 0), (0, 0), (2, 1)]
    records.rescan(0, len(SLOT_PREFIX) - 1)
    assert [records.trees.keys_of(database, 0, 1 << 14) for database in (0, 1, 2)] == before


def test_a_transaction_is_of_the_database_where_it_runs() -> None:
    client = Patient(make_node())
    client.raw("SELECT 3", "MULTI", "SET {k} three", "INCR {k}n", "EXEC")
    assert (client.ask("GET {k}"), client.ask("GET {k}n")) == ("three", "1")
    client.raw("MULTI", "SELECT 4", "SET k four", "SELECT 5", "SET k five", "EXEC")
    assert client.ask("GET k") == "five", "the connection stays in the database that the transaction has chosen last"
    client.ask("SELECT 4")
    assert client.ask("GET k") == "four"
    client.ask("SELECT 0")
    assert client.ask("EXISTS k {k} {k}n") == 0


def test_a_watched_key_is_one_of_its_database() -> None:
    client, other = Patient(node := make_node()), Patient(node)
    client.raw("SELECT 3", "SET k 1", "WATCH k")
    other.ask("SET k 2")
    client.raw("MULTI", "SET k 3")
    assert client.ask("EXEC") == ["OK"], "the key of database 0 is another one"
    client.raw("WATCH k", "MULTI", "SET k 4")
    other.raw("SELECT 3", "SET k 5")
    assert client.ask("EXEC") is None


def test_sharded_channels_are_of_no_database() -> None:
    node = make_node()
    subscriber, publisher = Client(node), Client(node)
    subscriber.raw("SSUBSCRIBE ch")
    assert publisher.ask("SELECT 3") == "OK"
    assert publisher.ask("SPUBLISH ch hello") == 1
    assert b"$2\r\nch\r\n$5\r\nhello\r\n" in publisher.pushed[subscriber.session]
