"""Queues on real nodes: redis-py's workers, byte for byte beside redis-server, and while nodes are killed and frozen."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.wire.cluster import Client, WireCluster, WireNode, wait_for
from tests.wire.differential.servers import Asker, Command, redis_server, redis_version

MESSAGES = 5_000
SOAK_MESSAGES = 100_000
BATCH = 50
WORKERS = 8
LOSSES_S = 180.0
PATIENCE_S = 120.0  # of a worker: one that hangs up on a reply that is on its way loses it, as with Redis


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server of its own."""
    if redis_version() != "7.0":
        pytest.skip("redis-server 7.0, which all is compared with, is not installed")
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


# What waits, and then what another connection says.
WOKEN: tuple[tuple[Command, tuple[Command, ...]], ...] = (
    ((b"BLPOP", b"wq:a", b"0"), ((b"RPUSH", b"wq:a", b"1", b"2"), (b"LRANGE", b"wq:a", b"0", b"-1"))),
    ((b"BRPOP", b"wq:none", b"wq:a", b"0"), ((b"RPUSH", b"wq:a", b"1", b"2"),)),
    ((b"BLMPOP", b"0", b"1", b"wq:a", b"LEFT", b"COUNT", b"5"), ((b"RPUSH", b"wq:a", b"1", b"2"),)),
    ((b"BLMOVE", b"wq:a", b"wq:b", b"LEFT", b"RIGHT", b"0"), ((b"LPUSH", b"wq:a", b"1"),)),
    ((b"BRPOPLPUSH", b"wq:a", b"wq:b", b"0"), ((b"LPUSH", b"wq:a", b"1"),)),
    ((b"BLMOVE", b"wq:a", b"wq:b", b"LEFT", b"RIGHT", b"0"), ((b"SET", b"wq:b", b"v"), (b"LPUSH", b"wq:a", b"1"))),
    ((b"BZPOPMIN", b"wq:a", b"0"), ((b"ZADD", b"wq:a", b"1.5", b"m", b"2", b"n"),)),
    ((b"BZPOPMAX", b"wq:a", b"0"), ((b"ZADD", b"wq:a", b"-inf", b"m"),)),
    ((b"BZMPOP", b"0", b"1", b"wq:a", b"MAX", b"COUNT", b"2"), ((b"ZADD", b"wq:a", b"1.5", b"m", b"2", b"n"),)),
    ((b"BLPOP", b"wq:a", b"0"), ((b"ZADD", b"wq:a", b"1", b"m"), (b"DEL", b"wq:a"), (b"LPUSH", b"wq:a", b"x"))),
    ((b"XREAD", b"BLOCK", b"0", b"STREAMS", b"wq:a", b"$"), ((b"XADD", b"wq:a", b"1-1", b"f", b"v"),)),
    # A key that is named twice is waited for behind its first id.
    (
        (b"XREAD", b"BLOCK", b"0", b"STREAMS", b"wq:a", b"wq:a", b"5-0", b"9-0"),
        ((b"XADD", b"wq:a", b"6-0", b"f", b"v"),),
    ),
    (
        (b"XREAD", b"BLOCK", b"0", b"STREAMS", b"wq:a", b"wq:a", b"9-0", b"5-0"),
        ((b"XADD", b"wq:a", b"6-0", b"f", b"v"), (b"XADD", b"wq:a", b"10-0", b"f", b"v")),
    ),
    (
        (b"XREAD", b"COUNT", b"1", b"BLOCK", b"0", b"STREAMS", b"wq:none", b"wq:a", b"0", b"5"),
        ((b"XADD", b"wq:a", b"5-0", b"f", b"v"), (b"XADD", b"wq:a", b"6-0", b"f", b"v")),
    ),
)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(("waits", "says"), WOKEN)
def test_a_client_that_waits_is_told_what_redis_tells(
    cluster: WireCluster, redis_port: int, waits: Command, says: tuple[Command, ...], protocol: int
) -> None:
    told = []
    for port in (redis_port, cluster.ports[0]):
        waiter, other = Asker(port, protocol), Asker(port if port == redis_port else cluster.ports[1], protocol)
        other.ask((b"DEL", b"wq:a", b"wq:b"))
        own_id = waiter.ask((b"CLIENT", b"ID"))[1:-2]
        waiter.send(waits)
        lists = Asker(port, 2)
        wait_for(lambda: b" flags=b " in lists.ask((b"CLIENT", b"LIST", b"ID", own_id)), "it waits")  # noqa: B023
        for command in says[:-1]:
            other.ask(command)
        other.ask(says[-1])
        told.append(waiter.reply())
        for each in (waiter, other, lists):
            each.close()
    assert told[0] == told[1]


def test_waiting_clients_are_shown_unblocked_and_killed(cluster: WireCluster) -> None:
    node = cluster.nodes[0]
    admin = node.client(decode_responses=True)
    for how, error in (("TIMEOUT", None), ("ERROR", redis.ResponseError), ("KILL", redis.ConnectionError)):
        waiter = node.client(single_connection_client=True, timeout_s=60.0)
        own_id = waiter.client_id()
        ended: list[object] = []
        thread = threading.Thread(target=_wait_once, args=(waiter, ended))
        thread.start()
        wait_for(lambda: "b" in admin.client_list(client_id=[own_id])[0]["flags"], "it waits")  # noqa: B023
        wait_for(lambda: admin.info("clients")["blocked_clients"] == 1, "those of the tests before have gone")
        if how == "KILL":
            assert admin.client_kill_filter(_id=own_id) == 1
        else:
            assert admin.execute_command("CLIENT", "UNBLOCK", own_id, how) == 1
        thread.join()
        assert ended == [None] if error is None else isinstance(ended[0], error)
        wait_for(lambda: admin.info("clients")["blocked_clients"] == 0, "nobody waits")
        assert admin.execute_command("CLIENT", "UNBLOCK", own_id) == 0


def _wait_once(client: Client, ended: list[object]) -> None:
    try:
        ended.append(client.blpop("wq:unblocked", 0))
    except redis.RedisError as error:
        ended.append(error)


class Workers:
    """Threads that take what comes over BRPOP, each from one node after the other, as their connections break."""

    def __init__(self, nodes: list[WireNode], count: int) -> None:
        self.taken: list[bytes] = []
        self.over = threading.Event()
        self._nodes = nodes
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        while not self.over.is_set():
            number += 1
            try:
                with self._nodes[number % len(self._nodes)].client(timeout_s=PATIENCE_S) as client:
                    while not self.over.is_set():
                        found = client.brpop(["wq:jobs"], 1)
                        if found is not None:
                            self.taken.append(found[1])
            except redis.RedisError:
                self.over.wait(0.1)

    def join(self) -> None:
        """Ends them."""
        self.over.set()
        for thread in self._threads:
            thread.join()


def _push(nodes: list[WireNode], first: int, end: int, timeout_s: float = 5.0) -> tuple[list[bytes], list[bytes]]:
    """Pushes messages with these numbers. Returns those that were acknowledged, and those of unknown outcome."""
    acknowledged: list[bytes] = []
    unknown: list[bytes] = []
    place = 0
    for start in range(first, end, BATCH):
        batch = [b"%d" % number for number in range(start, min(start + BATCH, end))]
        try:
            with nodes[place % len(nodes)].client(timeout_s=timeout_s) as client:
                client.lpush("wq:jobs", *batch)
            acknowledged += batch
        except redis.RedisError:
            unknown += batch
            place += 1
    return acknowledged, unknown


def test_in_calm_each_message_comes_to_one_worker(cluster: WireCluster) -> None:
    workers = Workers(cluster.nodes, WORKERS)
    try:
        acknowledged, unknown = _push(cluster.nodes, 0, MESSAGES, PATIENCE_S)
        wait_for(lambda: len(workers.taken) >= MESSAGES, "all have come", LOSSES_S)
    finally:
        workers.join()
    assert not unknown and Counter(workers.taken) == Counter(acknowledged)


def _run_with_losses(cluster: WireCluster, messages: int) -> None:
    """One node is frozen while messages are pushed and taken, then another one is killed."""
    n1, n2, n3 = cluster.nodes
    workers = Workers(cluster.nodes, WORKERS)
    try:
        acknowledged: list[bytes] = []
        unknown: list[bytes] = []

        def push(first: int, end: int) -> None:
            known, others = _push([n1, n2, n3], first, end)
            acknowledged.extend(known)
            unknown.extend(others)

        push(0, messages // 5)
        with n2.frozen():
            push(messages // 5, 2 * messages // 5)
            some = "some come without a frozen node"
            wait_for(lambda: len(workers.taken) > messages // 4, some, LOSSES_S + messages / 100)
        push(2 * messages // 5, 3 * messages // 5)
        n3.kill()
        push(3 * messages // 5, 4 * messages // 5)
        n3.start()
        push(4 * messages // 5, messages)
        cluster.wait_healthy()
        wait_for(lambda: not {*acknowledged} - {*workers.taken}, "all have come", LOSSES_S + messages / 100)
    finally:
        workers.join()
    assert not {*workers.taken} - {*acknowledged, *unknown}


@pytest.mark.timeout(600)
def test_no_message_is_lost_while_nodes_are_frozen_and_killed(make_cluster: Callable[..., WireCluster]) -> None:
    _run_with_losses(make_cluster(), MESSAGES)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_messages_none_lost(make_cluster: Callable[..., WireCluster]) -> None:
    _run_with_losses(make_cluster(), SOAK_MESSAGES)
