"""How a wait ends: its time limit, CLIENT UNBLOCK, a hang-up, a transaction, and the loss of nodes, each beside a push."""

from __future__ import annotations

import pytest

from server.core.waiting.blocked import Blocked, BlockedClient
from server.core.waiting.deliveries import Deliveries
from tests.sim.clients import Operation
from tests.sim.queues import unsettled
from tests.sim.test_transactions import transaction
from tests.sim.world import World, encode

SETTLE_MS = 8000
ROUNDS = 25
LOST_REPLIES = {"too late": "TIMEOUT the reply was not made in time", "a fault": "ERR internal error"}
MEMBERS = 9000  # more than two slices of a reply


@pytest.fixture
def world() -> World:
    world = World(5, 3)
    world.start()
    world.run(200)
    return world


def _left(world: World, *keys: bytes) -> list[bytes]:
    """The elements of some lists once nothing is on its way."""
    assert world.run_until(SETTLE_MS, lambda: not unsettled(world))
    lists = [world.ask(world.hosts[0], "LRANGE", key, 0, -1).reply for key in keys]
    return [element for elements in lists for element in elements]


def _rows(world: World) -> int:
    return sum(host.running.services.waiting.rows.count for host in world.hosts)


def _got(*waiting: Operation) -> list[bytes]:
    return [operation.reply[1] for operation in waiting if isinstance(operation.reply, list)]


def _races(world: World, home: int, how: str) -> list[str]:
    """Clients whose wait ends about when an element is pushed: what is wrong with it."""
    told, host, key = [], world.hosts[home], world.key_of(world.hosts[0])
    other, pusher = world.client(host), world.client(world.hosts[1])
    for count in range(ROUNDS):
        client, element = world.client(host, f"c{count}"), b"%d" % count
        number, waiting = client.send([b"CLIENT", b"ID"], encode(("BLPOP", key, "0.1" if how == "limit" else "0")))
        world.run(60)
        if how == "hang up":
            world.events.after(40, client.hang_up)
        elif how != "limit":
            unblock = encode(("CLIENT", "UNBLOCK", number.reply, how))
            world.events.after(40, lambda unblock=unblock: other.send(unblock))  # type: ignore[misc]
        world.run(world.rng.randrange(25, 50))
        pusher.send(encode(("RPUSH", key, element)))
        world.run(300)
        got, left = _got(waiting), _left(world, key)
        is_lost = got + left != [element]
        if is_lost and not (how == "hang up" and got + left == []):
            told.append(f"{element!r} went to {got} and stayed as {left}")
        if how not in ("hang up", "limit") and not got and waiting.error.startswith("UNBLOCKED") != (how == "ERROR"):
            told.append(f"a wait ended with {waiting.reply!r}")
        world.ask(world.hosts[1], "DEL", key)
    return told + ([f"{_rows(world)} rows stay"] if _rows(world) else [])


ENDS = ["limit", "TIMEOUT", "ERROR", "hang up"]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("home", [0, 2])
def test_a_wait_that_ends_beside_a_push_loses_nothing(world: World, home: int, how: str) -> None:
    assert _races(world, home, how) == []


@pytest.mark.interpreted
@pytest.mark.parametrize("how", ENDS[:3])
def test_a_client_that_is_answered_while_its_attempt_runs_is_found(
    world: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what the attempt brings put back."""

    def end(self: Blocked, client: BlockedClient, outcome: bytes) -> None:
        if not client.is_over:
            self._answer(client, outcome)

    monkeypatch.setattr(Blocked, "_end", end)
    monkeypatch.setattr(Deliveries, "_send_back", lambda self, coordinator, number: self._open.pop(number, None))
    assert _races(world, 0, how) != []


def test_within_a_transaction_nothing_waits(world: World) -> None:
    one, other = world.key_of(world.hosts[0]), world.key_of(world.hosts[1])
    client = world.client(world.hosts[2])
    alone = transaction(client, encode(("BLPOP", one, "0")), encode(("BLMOVE", one, one, "LEFT", "LEFT", "0")))
    several = transaction(
        client,
        encode(("BRPOP", one, other, "0")),
        encode(("RPUSH", other, "x", "y")),
        encode(("BLMPOP", "0", "2", one, other, "LEFT")),
        encode(("BZPOPMIN", one, "0")),
        encode(("BRPOPLPUSH", other, one, "0")),
    )
    world.run(3000)
    assert alone.reply == [None, None]
    assert several.reply == [None, 2, [other, [b"x"]], None, b"y"]
    assert _rows(world) == 0 and _left(world, one, other) == [b"y"]


def test_a_push_within_a_transaction_wakes_once_the_whole_is_done(world: World) -> None:
    """A list that the transaction has emptied again wakes nobody; else the client gets what is there in the end."""
    key = world.key_of(world.hosts[0])
    waiting = world.client(world.hosts[2]).send(encode(("BLPOP", key, "0")))[0]
    world.run(100)
    pusher = world.client(world.hosts[1])
    transaction(pusher, encode(("RPUSH", key, "x")), encode(("DEL", key)))
    world.run(500)
    assert not waiting.answered
    transaction(pusher, encode(("RPUSH", key, "x")), encode(("LPUSH", key, "y")))
    world.run(500)
    assert waiting.reply == [key, b"y"] and _left(world, key) == [b"x"]


def test_a_wait_in_another_database_is_of_another_key(world: World) -> None:
    key, home = world.key_of(world.hosts[0]), world.hosts[2]
    waiters = [world.client(home), world.client(home)]
    waiting = []
    for database, client in enumerate(waiters):
        waiting.append(client.send(encode(("SELECT", database)), encode(("BLPOP", key, "0")))[1])
    world.run(200)
    world.ask(world.hosts[1], "RPUSH", key, "zero")
    world.run(500)
    assert waiting[0].reply == [key, b"zero"] and not waiting[1].answered
    pusher = world.client(world.hosts[1])
    pusher.send(encode(("SELECT", 1)), encode(("RPUSH", key, "one")))
    world.run(500)
    assert waiting[1].reply == [key, b"one"]
    waiting = [waiters[1].send(encode(("BLPOP", key, "0")))[0]]
    world.run(200)
    world.ask(world.hosts[1], "RPUSH", key, "moved")
    world.ask(world.hosts[1], "MOVE", key, 1)
    world.run(500)
    assert waiting[0].reply == [key, b"moved"]


def test_restore_wakes(world: World) -> None:
    key, source = world.key_of(world.hosts[0]), world.key_of(world.hosts[1])
    world.ask(world.hosts[1], "RPUSH", source, "a", "b")
    payload = world.ask(world.hosts[1], "DUMP", source).reply
    waiting = world.client(world.hosts[2]).send(encode(("BRPOP", key, "0")))[0]
    world.run(200)
    assert world.ask(world.hosts[1], "RESTORE", key, 0, payload).reply == b"OK"
    world.run(500)
    assert waiting.reply == [key, b"b"]


def test_keys_are_served_in_the_order_of_the_command(world: World) -> None:
    one, other, third = (world.key_of(host) for host in world.hosts)
    world.ask(world.hosts[0], "RPUSH", third, "3")
    world.ask(world.hosts[0], "RPUSH", other, "2")
    got = world.client(world.hosts[0]).send(encode(("BLPOP", one, other, third, "0")))[0]
    world.run(500)
    assert got.reply == [other, b"2"]
    waiting = [world.client(host).send(encode(("BLPOP", one, other, "0")))[0] for host in world.hosts]
    world.run(300)
    transaction(world.client(world.hosts[1]), encode(("RPUSH", other, "b")), encode(("RPUSH", one, "a")))
    world.run(1000)
    assert sorted(_got(*waiting)) == [b"a", b"b"] and _left(world, one, other) == []


@pytest.mark.parametrize("crash", ["commit", "messages", "some messages", "replies"])
@pytest.mark.parametrize("which", ["source", "destination", "home"])
def test_a_move_whose_nodes_die_keeps_its_element(world: World, which: str, crash: str) -> None:
    """It is written to its destination before it leaves its source: there may be two of it, and never none."""
    source, destination = world.key_of(world.hosts[0]), world.key_of(world.hosts[1])
    home = world.hosts[2]
    moving = world.client(home).send(encode(("BLMOVE", source, destination, "LEFT", "RIGHT", "0")))[0]
    world.run(100)
    victim = {"source": world.hosts[0], "destination": world.hosts[1], "home": home}[which]
    pushed = world.ask(world.hosts[1], "RPUSH", source, "x")
    victim.crash_before = crash
    world.run(30)
    victim.kill()
    world.run(1000)
    world.heal()
    assert world.run_until(60_000, lambda: world.at_peace() and not world.differences())
    world.run(2000)
    assert pushed.reply == 1
    left = _left(world, source, destination)
    assert left in ([b"x"], [b"x", b"x"])
    if moving.answered and not moving.error:
        assert world.ask(home, "LRANGE", destination, 0, -1).reply[:1] == [b"x"]


@pytest.mark.parametrize("how", ["hang up", "TIMEOUT", "too late", "a fault", "nothing"])
def test_a_wait_ends_while_a_long_reply_is_made(world: World, how: str) -> None:
    """The reply of 9,000 members is made in several turns: they are put back if their client hangs up meanwhile, or if the
    home is so late that their coordinator may put them back by itself, or if a fault ends it."""
    home, key = world.hosts[0], world.key_of(world.hosts[1])
    client = world.client(home)
    number, waiting = client.send([b"CLIENT", b"ID"], encode(("BZMPOP", "0", "1", key, "MIN", "COUNT", MEMBERS)))
    world.run(200)
    scores = [word for member in range(MEMBERS) for word in (str(member), f"m{member}")]
    world.client(world.hosts[2]).send(encode(("ZADD", key, *scores)))
    assert world.events.run(2000, lambda: bool(home.running.state.procedures)), "the reply is made"
    if how == "hang up":
        client.hang_up()
    elif how == "TIMEOUT":
        assert world.ask(home, "CLIENT", "UNBLOCK", number.reply).reply == 1
    elif how == "a fault":
        home.running.state.unexpected.plant("procedure reply of a pop")
    elif how == "too late":
        home.freeze()
        world.run(home.running.state.config.request_timeout_ms + 500)
        home.thaw()
    assert world.run_until(SETTLE_MS, lambda: not unsettled(world) and not home.running.state.procedures)
    count = world.ask(world.hosts[2], "ZCARD", key).reply
    if how == "hang up":
        assert (waiting.answered, count) == (False, MEMBERS)
    elif how in LOST_REPLIES:
        assert count == MEMBERS and waiting.error.startswith(LOST_REPLIES[how])
    else:
        assert count == 0 and waiting.reply == [key, [[b"m%d" % each, b"%d" % each] for each in range(MEMBERS)]]
