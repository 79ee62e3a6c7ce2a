"""Scripts on a cluster of real nodes, by stock clients: where they run, what they see, and what stops them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import redis

from tests.wire.cluster import Client, WireCluster, wait_for

ADD = "local n = tonumber(redis.call('get', KEYS[1]) or '0') redis.call('set', KEYS[1], n + ARGV[1]) return n + ARGV[1]"
LIMIT = """
local count = redis.call('incrby', KEYS[1], ARGV[1])
if count == tonumber(ARGV[1]) then redis.call('expire', KEYS[1], ARGV[2]) end
return count
"""
MOVE = "redis.call('set', KEYS[2], redis.call('get', KEYS[1])) redis.call('del', KEYS[1]) return redis.call('get', KEYS[2])"


def _clients(cluster: WireCluster, **options: object) -> list[redis.Redis]:
    return [node.client(**options) for node in cluster.nodes]


def test_a_script_sees_and_changes_its_keys_through_any_node(cluster: WireCluster) -> None:
    one, two, three = _clients(cluster)
    assert one.eval(ADD, 1, "lua:a", 5) == 5
    assert two.eval(ADD, 1, "lua:a", 5) == 10
    script = three.register_script(ADD)
    assert script(keys=["lua:a"], args=[1]) == 11
    assert one.get("lua:a") == b"11"


def test_a_script_that_one_node_knows_works_through_all(cluster: WireCluster) -> None:
    one, two, three = _clients(cluster)
    sha = one.script_load("return 'only here' .. ARGV[1]")
    assert two.evalsha(sha, 0, "x") == b"only herex"
    assert two.evalsha(sha.upper(), 1, "lua:k", "y") == b"only herey"
    other = three.script_load("return 'lua:other'")
    assert one.script_exists(sha, other, "0" * 40, "short") == [True, True, False, False]
    assert two.script_flush()
    assert [node.script_exists(sha, other) for node in (one, two, three)] == [[False, False]] * 3
    with pytest.raises(redis.exceptions.NoScriptError, match="Please use EVAL"):
        three.evalsha(sha, 0)


def test_a_blocking_command_in_a_script_takes_what_is_there_and_never_waits(cluster: WireCluster) -> None:
    client = cluster.nodes[0].client()
    client.rpush("{lua:b}list", "one", "two")
    client.zadd("{lua:b}zset", {"member": 1.5})
    popped = "return redis.call(ARGV[1], KEYS[1], 0)"
    assert client.eval(popped, 1, "{lua:b}list", "blpop") == [b"{lua:b}list", b"one"]
    assert client.eval(popped, 1, "{lua:b}zset", "bzpopmin") == [b"{lua:b}zset", b"member", b"1.5"]
    moved = "return redis.call('blmove', KEYS[1], KEYS[2], 'LEFT', 'LEFT', 0)"
    assert client.eval(moved, 2, "{lua:b}list", "{lua:b}other", "x") == b"two"
    assert client.eval(moved, 2, "{lua:b}list", "{lua:b}other", "x") is None
    assert client.lrange("{lua:b}other", 0, -1) == [b"two"]
    for name in ("blpop", "brpop"):
        assert client.eval(popped, 1, "{lua:b}list", name) is None
    assert client.eval(popped, 1, "{lua:b}zset", "bzpopmax") is None


def test_undeclared_keys_of_the_slot_are_read_and_the_script_begins_again(cluster: WireCluster) -> None:
    client = cluster.nodes[0].client()
    client.set("{lua:u}1", "b")
    text = """
        local other = '{lua:u}' .. ARGV[1]
        redis.call('set', other, redis.call('get', KEYS[1]) .. '!')
        return redis.call('get', other)
    """
    assert client.eval(text, 1, "{lua:u}1", "2") == b"b!"
    assert client.get("{lua:u}2") == b"b!"
    for node in cluster.nodes:
        assert node.client().eval("return redis.call('get', ARGV[1])", 0, "{lua:u}2") == b"b!"


def test_keys_of_several_slots_run_command_by_command(cluster: WireCluster) -> None:
    for place, client in enumerate(_clients(cluster)):
        client.set(f"lua:from{place}", "v")
        assert client.eval(MOVE, 2, f"lua:from{place}", f"lua:to{place}") == b"v"
        assert client.exists(f"lua:from{place}") == 0
    client.mset({f"lua:prefix:{number}": 1 for number in range(20)})
    assert client.eval("return #redis.call('keys', ARGV[1])", 0, "lua:prefix:*") == 20
    assert client.eval("return redis.call('del', unpack(redis.call('keys', ARGV[1])))", 0, "lua:prefix:*") == 20
    assert client.keys("lua:prefix:*") == []


def test_strict_clusters_refuse_keys_of_several_slots(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config='multi_slots = "strict"\n')
    client = cluster.nodes[0].client()
    client.set("from", "v")
    with pytest.raises(redis.ResponseError, match="hash to the same slot"):
        client.eval(MOVE, 2, "from", "to")
    with pytest.raises(redis.ResponseError, match="hash to the same slot"):
        client.eval("redis.call('set', KEYS[1], 1) redis.call('set', 'elsewhere', 1)", 1, "from")
    assert client.get("from") == b"v"


def test_an_error_in_the_middle_keeps_what_was_written_before_as_in_redis(cluster: WireCluster) -> None:
    client = cluster.nodes[1].client()
    with pytest.raises(redis.ResponseError, match="value is not an integer"):
        client.eval("redis.call('set', KEYS[1], 'x') redis.call('incr', KEYS[1])", 1, "lua:error")
    assert client.get("lua:error") == b"x"


def test_no_increment_of_concurrent_scripts_is_lost(cluster: WireCluster) -> None:
    def add(client: redis.Redis) -> None:
        script = client.register_script(ADD)
        for _ in range(50):
            script(keys=["lua:sum"], args=[1])

    threads = [threading.Thread(target=add, args=(client,)) for client in _clients(cluster) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cluster.nodes[0].client().get("lua:sum") == b"300"


def test_an_endless_script_is_killed_through_any_node_and_others_are_served(cluster: WireCluster) -> None:
    client, *others = _clients(cluster)
    for key in ("lua:e1", "lua:e2", "lua:e3"):
        ended = threading.Event()

        def run(key: str = key, ended: threading.Event = ended) -> None:
            with pytest.raises(redis.ResponseError, match="killed by user with SCRIPT KILL"):
                cluster.nodes[0].client(timeout_s=60).eval("redis.call('set', KEYS[1], 1) while true do end", 1, key)
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: _kills(others[0]), "the script runs, and is killed")
        thread.join()
        assert ended.is_set()
        assert client.get(key) is None
    assert client.eval("redis.call('set', KEYS[1], 1) for i = 1, 1e7 do end return redis.call('get', KEYS[1])", 1, key)


def test_what_is_too_much_for_a_script_is_an_error(cluster: WireCluster) -> None:
    client = cluster.nodes[0].client()
    with pytest.raises(redis.ResponseError, match="script_memory_bytes_max"):
        client.eval("local s = string.rep('x', 1e6) return " + " .. ".join(["s"] * 40), 0)
    with pytest.raises(redis.ResponseError, match="1048576 bytes at most"):
        client.script_load("return 1 --" + "x" * (1 << 20))
    with pytest.raises(redis.ResponseError, match="NOTBUSY"):
        client.script_kill()


def _kills(client: Client) -> bool:
    """Whether there is a script to kill."""
    try:
        client.script_kill()
    except redis.ResponseError as error:
        assert str(error).startswith("NOTBUSY")
        return False
    return True


def test_thousands_of_commands_over_many_slots_and_of_late_keys(cluster: WireCluster) -> None:
    for each in _clients(cluster):
        each.config_set("script_ms_max", 60_000)  # for a machine that is busy with other tests
    client = cluster.nodes[0].client(timeout_s=60)
    text = "for i = 1, 300 do redis.call('incr', ARGV[1] .. i) end return redis.call('get', ARGV[1] .. 300)"
    assert client.eval(text, 0, "lua:many") == b"1"
    late = "for i = 1, 100 do redis.call('incr', KEYS[1] .. i) end return redis.call('get', KEYS[1] .. 100)"
    assert client.eval(late, 1, "{lua:late}") == b"1"
    assert client.exists(*[f"lua:many{number}" for number in range(1, 301)]) == 300


def test_pipelined_scripts_of_a_key_run_in_order(cluster: WireCluster) -> None:
    client = cluster.nodes[2].client()
    script = client.script_load(ADD)
    pipeline = client.pipeline(transaction=False)
    pipeline.set("lua:p", 1).evalsha(script, 1, "lua:p", 1).get("lua:p").evalsha(script, 1, "lua:p", 1).get("lua:p")
    pipeline.eval("redis.call('set', 'lua:p', 'free')", 0).get("lua:p")
    assert pipeline.execute()[1:] == [2, b"2", 3, b"3", None, b"free"]


def test_read_only_scripts_write_nothing(cluster: WireCluster) -> None:
    client = cluster.nodes[0].client()
    assert client.eval_ro("return redis.call('exists', KEYS[1])", 1, "lua:r") == 0
    for call in (client.eval_ro, client.eval):
        with pytest.raises(redis.ResponseError, match="Write commands are not allowed from read-only scripts"):
            text = "return redis.call('set', KEYS[1], 1)"
            call(text if call == client.eval_ro else "#!lua flags=no-writes\n" + text, 1, "lua:r")
    with pytest.raises(redis.ResponseError, match="script with write flag"):
        client.eval_ro("#!lua\nreturn 1", 0)
    assert client.get("lua:r") is None


def test_a_script_may_do_what_its_user_may(cluster: WireCluster) -> None:
    operator = cluster.nodes[0].client()
    operator.acl_setuser(
        "scripter", enabled=True, nopass=True, categories=["+@all"], commands=["-incr"], keys=["lua:mine*"]
    )
    try:
        for node in cluster.nodes:
            client = node.client(username="scripter", password="x")
            wait_for(lambda client=client: _is_let_in(client), f"{node.name} knows the user")  # type: ignore[misc]
            assert client.eval("return redis.call('set', KEYS[1], 1)", 1, "lua:mine") == b"OK"
            with pytest.raises(redis.ResponseError, match="can't run this command"):
                client.eval("return redis.call('incr', KEYS[1])", 1, "lua:mine")
            with pytest.raises(redis.ResponseError, match="can't access at least one of the keys"):
                client.eval("return redis.call('get', ARGV[1])", 1, "lua:mine", "lua:theirs")
            assert client.eval("return redis.acl_check_cmd('incr', 'lua:mine')", 0) is None
    finally:
        operator.acl_deluser("scripter")


def _is_let_in(client: redis.Redis) -> bool:
    try:
        client.get("lua:mine")
    except redis.AuthenticationError:
        return False
    return True


def test_locks_and_limiters_of_stock_clients(cluster: WireCluster) -> None:
    one, two, _ = _clients(cluster)
    lock = one.lock("lua:lock", timeout=10)
    assert lock.acquire(blocking=False)
    assert not two.lock("lua:lock", timeout=10).acquire(blocking=False)
    assert lock.extend(5) and lock.reacquire()
    lock.release()
    with pytest.raises(redis.exceptions.LockError):
        lock.release()
    assert two.lock("lua:lock", timeout=10).acquire(blocking=False)
    limiter = two.register_script(LIMIT)
    assert [limiter(keys=["lua:limit"], args=[1, 60]) for _ in range(3)] == [1, 2, 3]
    assert 0 < one.ttl("lua:limit") <= 60


def test_resp3_replies(cluster: WireCluster) -> None:
    client = cluster.nodes[0].client(protocol=3)
    client.hset("lua:hash", "f", "1")
    text = "redis.setresp(3) return redis.call('hgetall', KEYS[1])"
    for node in cluster.nodes:
        assert node.client(protocol=3).eval(text, 1, "lua:hash") == {b"f": b"1"}
        assert node.client(protocol=2).eval(text, 1, "lua:hash") == [b"f", b"1"]


def test_scripts_go_on_when_the_coordinator_is_killed(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    one, two, three = cluster.nodes
    client = one.client()
    sha = client.script_load(ADD)
    keys = [f"key{number}" for number in range(30)]
    assert [client.evalsha(sha, 1, key, 1) for key in keys] == [1] * 30
    two.kill()
    survivors = [one.client(), three.client()]
    counts: dict[str, int] = dict.fromkeys(keys, 1)
    for turn in range(4):
        for key in keys:
            try:
                counts[key] = survivors[turn % 2].evalsha(sha, 1, key, 1)
            except redis.ResponseError as error:
                assert "maybe-written" in str(error) or "unwritten" in str(error)
    final = [int(survivors[1].get(key)) for key in keys]
    assert all(4 <= found >= counts[key] for key, found in zip(keys, final, strict=True))
    two.start()
    cluster.wait_healthy()
    assert [int(two.client().get(key)) for key in keys] == final
    assert two.client().evalsha(sha, 1, keys[0], 1) == final[0] + 1


def test_scripts_work_in_the_database_of_their_client(cluster: WireCluster) -> None:
    for node in cluster.nodes:
        other, first = node.client(db=3), node.client()
        assert other.eval("return {KEYS[1], redis.call('set', KEYS[1], ARGV[1])}", 1, "lua:db", "three") == [
            b"lua:db",
            b"OK",
        ]
        assert other.get("lua:db") == b"three"
        assert other.eval("return redis.call('get', 'lua:db')", 0) == b"three"
        assert other.eval("return redis.call('get', KEYS[2])", 2, "lua:elsewhere", "lua:db") == b"three"
        assert b"lua:db" in other.eval("return redis.call('keys', '*')", 0)
        assert first.get("lua:db") is None


def test_scripts_between_multi_and_exec(cluster: WireCluster) -> None:
    client = cluster.nodes[0].client()
    sha = client.script_load(ADD)
    pipeline = client.pipeline(transaction=True)
    pipeline.set("lua:m", 1).evalsha(sha, 1, "lua:m", 1).get("lua:m").eval("return redis.call('incr', 'lua:m')", 0)
    assert pipeline.execute() == [True, 2, b"2", 3]


LIBRARY = """#!lua name=%s
redis.register_function('%s_add', function(keys, args) return redis.call('incrby', keys[1], args[1]) end)
redis.register_function{function_name='%s_get', callback=function(keys) return redis.call('get', keys[1]) end,
  flags={'no-writes'}}
"""


def test_functions_that_one_node_loads_work_through_all_and_survive_restarts(
    make_cluster: Callable[..., WireCluster],
) -> None:
    cluster = make_cluster()
    one, two, three = _clients(cluster)
    assert one.function_load(LIBRARY % (("lib",) * 3)) == b"lib"
    for place, client in enumerate((three, two, one)):
        for number in range(6):
            assert client.fcall("lib_add", 1, f"fn:{number}", 2) == 2 * place + 2
            assert client.fcall_ro("lib_get", 1, f"fn:{number}") == b"%d" % (2 * place + 2)
    with pytest.raises(redis.ResponseError, match="already exists"):
        two.function_load(LIBRARY % (("lib",) * 3))
    cluster.nodes[2].kill()
    assert two.function_load(LIBRARY % (("late",) * 3)) == b"late"
    assert one.function_delete("lib")
    cluster.nodes[2].start()
    cluster.wait_healthy()
    wait_for(lambda: [each[1] for each in cluster.nodes[2].client().function_list()] == [b"late"], "n3 learns")
    payload = one.function_dump()
    assert one.function_flush() and cluster.nodes[2].client().function_restore(payload)
    assert cluster.nodes[1].client().fcall("late_add", 1, "fn:late", 5) == 5
    stats = cluster.nodes[2].client().execute_command("FUNCTION", "STATS")
    assert "'libraries_count': 1" in repr(stats).replace("b'", "'"), stats
