"""SWAPDB and clients in blocking commands: each waits for its keys in the database that has its number now."""

from __future__ import annotations

import pytest

from server.core.waiting.blocked import REVIEWED_PER_TURN
from tests.core.commands.swapping import NODES, NOTHING, Swapping, Talker, document


def waiting(cluster: Swapping, line: str, place: int = 0, database: int = 0) -> Talker:
    """A client that waits."""
    talker = cluster.client(place)
    assert talker.ask(f"SELECT {database}") == "OK"
    talker.begin(line)
    assert talker.reply(200) is NOTHING
    return talker


@pytest.mark.parametrize(
    ("line", "push", "reply"),
    [
        ("BLPOP q 0", "RPUSH q a", ["q", "a"]),
        ("BRPOP none q 0", "RPUSH q a", ["q", "a"]),
        ("BZPOPMIN q 0", "ZADD q 1 a", ["q", "a", "1"]),
        ("BLMPOP 0 1 q LEFT", "RPUSH q a", ["q", ["a"]]),
        ("XREAD BLOCK 0 STREAMS q 0", "XADD q 5-1 f v", [["q", [["5-1", ["f", "v"]]]]]),
    ],
)
@pytest.mark.parametrize("before", [True, False], ids=["what is there", "what comes later"])
def test_a_client_is_served_from_the_database_with_its_number(
    line: str, push: str, reply: object, before: bool
) -> None:
    cluster = Swapping()
    other = cluster.client(1)
    talker = waiting(cluster, line)
    if before:
        other.ask("SELECT 1"), other.ask(push), other.ask("SELECT 0")
    assert cluster.client(2).ask("SWAPDB 0 1") == "OK"
    if not before:
        other.ask("SELECT 1"), other.ask(push), other.ask("SELECT 0")
        assert talker.reply(500) is NOTHING, "that is of the database in which it has waited before"
        assert other.ask("TYPE q") == "none"
        other.ask(push)
    assert talker.reply() == reply


def test_an_element_is_moved_within_the_database_that_has_the_number_now() -> None:
    cluster = Swapping()
    other = cluster.client(1)
    talker = waiting(cluster, "BLMOVE q to LEFT LEFT 0")
    assert other.ask("SWAPDB 0 1") == "OK"
    other.ask("RPUSH q a")
    assert talker.reply() == "a"
    assert other.ask("LRANGE to 0 -1") == ["a"]
    assert (other.ask("SELECT 1"), other.ask("DBSIZE")) == ("OK", 0)


def test_nothing_is_left_behind_for_a_client_that_waits_elsewhere_now() -> None:
    cluster = Swapping()
    talker = waiting(cluster, "BLPOP q r s 0")
    assert cluster.client(1).ask("SWAPDB 0 1") == "OK"
    cluster.run(300)
    assert sum(node.services.waiting.rows.count for node in cluster.nodes) == 3, "one row for each key"
    cluster.nodes[0].close_session(talker.session)
    cluster.run(300)
    assert sum(node.services.waiting.rows.count for node in cluster.nodes) == 0


def test_the_first_who_came_is_the_first_who_is_served_after_a_swap() -> None:
    cluster = Swapping()
    talkers = [waiting(cluster, "BLPOP q 0") for _ in range(4)]
    other = cluster.client(1)
    assert other.ask("SWAPDB 0 1") == "OK"
    cluster.run(300)
    for number, talker in enumerate(talkers):
        other.ask(f"RPUSH q {number}")
        assert talker.reply() == ["q", str(number)]


def test_a_time_limit_goes_on() -> None:
    cluster = Swapping()
    talker = waiting(cluster, "BLPOP q 2")
    cluster.run(1000)
    assert cluster.client(1).ask("SWAPDB 0 1") == "OK"
    cluster.run(1200)
    assert talker.reply(0) is None


def test_a_client_whose_attempt_is_under_way_waits_in_the_other_database_afterwards() -> None:
    cluster = Swapping()
    key = next(key for key in (b"%d" % n for n in range(100)) if cluster.nodes[0].services.route(key).coordinator)
    talker = cluster.client(0)
    talker.begin(f"BLPOP {key.decode()} 0")
    cluster.nodes[0].services.numbering.merge(document(cluster, (0, 1)))
    cluster.run(3000)  # the others hear of it by gossip
    other = cluster.client(1)
    other.ask(f"RPUSH {key.decode()} a")
    assert talker.reply() == [key.decode(), "a"]


@pytest.mark.interpreted  # it puts a function in the place of a method
def test_of_very_many_clients_some_begin_anew_in_each_turn() -> None:
    cluster, count = Swapping(), 2 * REVIEWED_PER_TURN + 100
    talkers = [cluster.client(0) for _ in range(count)]
    for talker in talkers:
        talker.begin("BLPOP q 0")
    cluster.run(500)
    node = cluster.nodes[0]
    relays, begun = node.services.relays, []
    begin = relays.begin

    def counted(*args: object) -> None:
        begun[-1] += 1
        begin(*args)  # type: ignore[arg-type]

    relays.begin = counted  # type: ignore[method-assign]
    begun.append(0)
    node.services.numbering.merge(document(cluster, (0, 1)))
    assert begun == [0]
    for _ in range(6):
        begun.append(0)
        cluster.step()
    assert max(begun) == REVIEWED_PER_TURN and sum(begun) == count


def test_clients_in_databases_that_stay_do_nothing() -> None:
    cluster = Swapping()
    waiting(cluster, "BLPOP q 0", database=3)
    cluster.received.clear()
    assert cluster.client(1).ask("SWAPDB 0 1") == "OK"
    cluster.run(200)
    tries = [message for _, _, message in cluster.received if message[0] == b"RELAY"]
    assert tries == [] and len(cluster.nodes) == NODES
