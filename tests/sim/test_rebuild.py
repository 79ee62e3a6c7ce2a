"""A store with a block that cannot be read is set aside, and the node is filled by the others, when that loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from server.core.base.config import Config
from server.core.records.records import storage_key_of
from tests.sim.host import Host
from tests.sim.world import World

KEYS = [b"k%d" % number for number in range(200)]
CONFIG = Config(scrub_interval_ms=2000)  # which finds the block
REBUILT_MS = 60_000
LONG_MS = 40_000
MENDED_MS = 4000  # the scrub has found the damage, and it is mended; the store is not set aside yet


class Shop:
    """Three nodes that hold all keys; what is set aside is noted."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.world = World(11, 3, config)
        self.aside: list[str] = []
        for host in self.world.hosts:
            host.on_set_aside = self._note
        self.world.start()
        self.world.run(100)
        client = self.world.client(self.world.hosts[0])
        written = client.send(*[[b"SET", key, b"value of " + key] for key in KEYS])
        assert self.world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in written))
        self.world.run(2000)

    def _note(self, host: Host) -> None:
        self.aside.append(host.member.name)
        self.world.wipe(host)

    def damage(self, host: Host, place: int) -> None:
        """A block goes bad that stays so, whatever is written there."""
        host.disk.damage_sorted_file(storage_key_of(KEYS[place]))
        host.running.state.records.cache.clear()

    def status(self, host: Host) -> dict[str, Any]:
        """What `dyn cluster status` says at a node."""
        document: dict[str, Any] = json.loads(self.world.ask(host, "DYN.CLUSTER", "STATUS").reply)
        return document

    def is_healthy(self) -> bool:
        """Whether each node says so."""
        return all(self.status(host)["verdict"] == "healthy" for host in self.world.hosts)

    def assert_whole(self) -> None:
        """Each node holds each key, and can read it."""
        for key in KEYS:
            records = [self.world.stored(host, key) for host in self.world.hosts]
            assert records[0] is not None and records[0] == records[1] == records[2]


def test_a_node_with_a_bad_block_begins_an_empty_store_and_is_filled() -> None:
    shop = Shop()
    n1 = shop.world.hosts[0]
    shop.damage(n1, 50)
    assert shop.world.run_until(REBUILT_MS, lambda: shop.aside == ["n1"])
    assert shop.world.run_until(5000, shop.world.at_peace)
    assert shop.world.run_until(REBUILT_MS, shop.is_healthy)
    shop.assert_whole()
    assert not n1.running.state.records.unreadable
    summary = shop.status(shop.world.hosts[1])["summary"]
    assert "n1 could not read all of its store: that is now data.damaged-1 there" in summary
    shop.world.run(LONG_MS)
    assert shop.aside == ["n1"]


def test_several_nodes_with_bad_blocks_go_one_after_the_other() -> None:
    """Each key has two sound copies at any time, so none is lost."""
    shop = Shop()
    for number, host in enumerate(shop.world.hosts):
        shop.damage(host, 40 + 50 * number)
    while len(shop.aside) < 3:
        before = len(shop.aside)
        assert shop.world.run_until(REBUILT_MS, lambda before=before: len(shop.aside) > before)  # type: ignore[misc]
        assert shop.world.run_until(5000, shop.world.at_peace)
        others = [host for host in shop.world.hosts if host.member.name not in shop.aside[-1:]]
        assert not any(host.running.state.is_filling for host in others)
    assert sorted(shop.aside) == ["n1", "n2", "n3"] and shop.world.run_until(5000, shop.world.at_peace)
    assert shop.world.run_until(REBUILT_MS, shop.is_healthy)
    shop.assert_whole()


def _stop_another(shop: Shop) -> None:
    shop.world.hosts[2].kill()


def _owe(shop: Shop) -> None:
    n1, _, n3 = shop.world.hosts
    n1.running.state.hints.keep(n3.id, [storage_key_of(KEYS[0])], n1.running.state.time_ms, 0, False)
    n1.running.services.hint_replay._retry_ms[n3.id] = 1 << 60  # it is never delivered


def _fill_another(shop: Shop) -> None:
    shop.world.hosts[2].running.state.is_filling = True
    shop.world.hosts[2].running.services.filling.document = lambda: {  # type: ignore[method-assign]
        **dict.fromkeys(("partitions", "partitions_done", "keys", "keys_done", "percent", "bytes_sent"), 1),
        "eta_s": None,
    }


def _begun_anew_already(shop: Shop) -> None:
    shop.world.hosts[0].running.services.rollback.set_aside("data.damaged-1")


@pytest.mark.parametrize(
    ("hinder", "words"),
    [
        (_stop_another, "waits for n3, which is not up"),
        (_owe, "waits for the delivery of its hints"),
        (_fill_another, "waits for n3, which is being filled"),
        (_begun_anew_already, "waits for an operator, as it has begun an empty store within a day already"),
    ],
)
def test_it_waits_while_a_record_could_be_lost_and_says_for_what(hinder: Callable[[Shop], None], words: str) -> None:
    shop = Shop()
    shop.damage(shop.world.hosts[0], 50)
    shop.world.run(MENDED_MS)
    hinder(shop)
    shop.world.run(LONG_MS)
    assert not shop.aside
    status = shop.status(shop.world.hosts[1])
    assert status["verdict"] == "degraded" and words in status["summary"]


def test_with_w_1_it_is_left_to_an_operator() -> None:
    shop = Shop()
    n1 = shop.world.hosts[0]
    rebuild, layout = n1.running.services.rebuild, n1.running.state.layout
    assert layout is not None and rebuild._obstacle_here(layout) == ""
    assert "W=1" in rebuild._obstacle_here(replace(layout, w=1))


def test_a_write_that_is_on_no_other_node_yet_keeps_the_store() -> None:
    """A client may have asked for W=1 by itself, a moment ago."""
    shop = Shop()
    n1 = shop.world.hosts[0]
    rebuild = n1.running.services.rebuild
    rebuild._holds_only_copy = lambda: True
    shop.damage(n1, 50)
    shop.world.run(LONG_MS)
    assert not shop.aside
    assert "another owner to confirm" in shop.status(shop.world.hosts[1])["summary"]
    rebuild._holds_only_copy = lambda: False
    assert shop.world.run_until(REBUILT_MS, lambda: shop.aside == [n1.member.name])


def test_nothing_is_set_aside_before_a_repair_has_ended_well() -> None:
    """A node that has records that nobody else has brings them to the others first."""
    shop = Shop()
    n1 = shop.world.hosts[0]
    shop.damage(n1, 50)
    held = n1.running.services.tasks
    started: list[int] = []
    start = held.start

    def note(partitions: list[int]) -> Any:
        task = start(partitions)
        started.append(len(partitions))
        task.state = "failed"
        return task

    held.start = note  # type: ignore[method-assign, assignment]
    shop.world.run(LONG_MS)
    layout = n1.running.state.layout
    assert layout is not None and started == [layout.partitions] and not shop.aside


def test_of_several_such_nodes_the_one_with_the_smallest_id_is_first() -> None:
    """Two that looked at the same moment would both find each other whole."""
    shop = Shop()
    ids = sorted(host.id for host in shop.world.hosts)
    rebuild = next(host for host in shop.world.hosts if host.id == ids[1]).running.services.rebuild
    told = {"unreadable": 1}
    assert rebuild._obstacle_there(ids[0], told) == "cannot read all of its store either, and comes first"
    assert rebuild._obstacle_there(ids[2], told) == ""
