"""The contract of storage: every engine, one suite, and a long random run of each against a plain dict."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.storage.engine import Engine, StorageError
from server.storage.engines import ENGINES, open_engine
from tests.bounded import bounded
from tests.storage.counting import count
from tests.storage.crash import crash_image, scratch_directory


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An empty store of each kind."""
    with scratch_directory() as directory:
        opened = open_engine(request.param, directory / "store")
        yield opened
        opened.close()


def test_open_names_the_engines_it_knows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'leveldb'; known are memory, rocksdb"):
        open_engine("leveldb", tmp_path)
    with pytest.raises(ValueError, match="needs a directory"):
        open_engine("rocksdb", None)
    open_engine("memory", None).close()


def test_a_batch_puts_overwrites_and_deletes(engine: Engine) -> None:
    engine.commit({b"a": b"1", b"b": b"2", b"c": b"3"})
    engine.commit({b"a": b"one", b"b": None, b"absent": None, b"d": b""})
    assert engine.scan(b"", None, 10) == [(b"a", b"one"), (b"c", b"3"), (b"d", b"")]
    assert engine.get(b"d") == b""
    assert engine.get(b"b") is None


def test_batches_of_one_and_none(engine: Engine) -> None:
    engine.commit({})
    engine.commit({b"a": b"1"})
    assert engine.get(b"a") == b"1"
    engine.commit({b"a": None})
    engine.commit({b"a": None})
    assert engine.get(b"a") is None
    assert engine.scan(b"", None, 10) == []


def test_keys_and_values_are_any_bytes(engine: Engine) -> None:
    pairs = {
        b"": b"empty key",
        b"\0": b"\0",
        b"\0\0": b"",
        b"\xff" * 65_536: b"\xff" * 1_000_000,
        b"\xff" * 65_535 + b"\xfe": b"x",
    }
    engine.commit(pairs)
    assert engine.scan(b"", None, 10) == sorted(pairs.items())
    assert engine.get_many(list(pairs)) == list(pairs.values())
    assert engine.scan(b"\xff" * 65_536, None, 10) == [(b"\xff" * 65_536, b"\xff" * 1_000_000)]


def test_get_many_keeps_order_and_repeats(engine: Engine) -> None:
    engine.commit({b"a": b"1", b"b": b"2"})
    assert engine.get_many([b"b", b"x", b"a", b"b"]) == [b"2", None, b"1", b"2"]
    assert engine.get_many([]) == []


def test_scan_is_half_open_and_limited(engine: Engine) -> None:
    engine.commit({bytes([n]): b"v" for n in (5, 3, 9, 1, 7)})

    def keys(start: int, end: int | None, limit: int = 10) -> list[int]:
        return [key[0] for key, _ in engine.scan(bytes([start]), None if end is None else bytes([end]), limit)]

    assert keys(0, None) == [1, 3, 5, 7, 9]
    assert keys(3, 7) == [3, 5]
    assert keys(2, 8) == [3, 5, 7]
    assert keys(2, 8, limit=2) == [3, 5]
    assert keys(0, None, limit=0) == []
    assert keys(7, 3) == keys(5, 5) == keys(10, None) == []


def test_a_scan_ends_with_the_value_that_fills_it(engine: Engine) -> None:
    engine.commit({bytes([n]): bytes(n) for n in (1, 2, 3, 4)})
    for bytes_max, expected in ((1, [1]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2, 3]), (6, [1, 2, 3]), (7, [1, 2, 3, 4])):
        assert [key[0] for key, _ in engine.scan(b"", None, 10, bytes_max)] == expected
    assert [key[0] for key, _ in engine.scan(b"\x04", None, 10, 1)] == [4], "one value, however large"


def test_pages_make_up_the_whole_while_keys_come_and_go(engine: Engine) -> None:
    engine.commit({b"%03d" % n: b"%d" % n for n in range(0, 200, 2)})
    seen: list[bytes] = []
    start = b""
    while page := engine.scan(start, None, 7):
        seen += [key for key, _ in page]
        start = page[-1][0] + b"\0"
        engine.commit({b"%03d" % (len(seen) * 2 + 1): b"new", page[0][0]: None})
    assert set(seen) >= {b"%03d" % n for n in range(0, 200, 2)}
    assert seen == sorted(set(seen))


def test_sync_runs_beside_commits_and_gets(engine: Engine) -> None:
    failures: list[StorageError] = []

    def sync_often() -> None:
        try:
            for _ in range(20):
                engine.sync()
        except StorageError as error:
            failures.append(error)

    thread = threading.Thread(target=sync_often)
    thread.start()
    written = 0
    while thread.is_alive() or written < 100:
        engine.commit({b"%d" % written: b"v", b"last": b"%d" % written})
        assert engine.get(b"last") == b"%d" % written
        written += 1
    thread.join()
    assert failures == []
    assert count(engine) == written + 1


def test_a_snapshot_is_a_rocksdb_store_of_that_moment(engine: Engine, tmp_path: Path) -> None:
    engine.commit({b"%05d" % n: b"v%d" % n for n in range(12_000)})
    engine.commit({b"00007": None})
    expected = engine.scan(b"", None, 20_000)
    engine.snapshot(tmp_path / "backups" / "one")
    engine.commit({b"later": b"x", b"00001": None})
    copy = open_engine("rocksdb", tmp_path / "backups" / "one")
    assert copy.scan(b"", None, 20_000) == expected
    copy.commit({b"copy": b"only"})
    copy.close()
    assert engine.get(b"copy") is None
    assert engine.get(b"later") == b"x"
    with pytest.raises(StorageError, match="exists already"):
        engine.snapshot(tmp_path / "backups" / "one")


def test_a_closed_store_refuses_everything_but_close(engine: Engine, tmp_path: Path) -> None:
    engine.commit({b"a": b"1"})
    engine.close()
    engine.close()
    calls: list[Callable[[], object]] = [
        lambda: engine.get(b"a"),
        lambda: engine.get_many([b"a"]),
        lambda: engine.commit({b"a": b"1"}),
        lambda: engine.commit({b"a": b"1", b"b": None}),
        engine.sync,
        lambda: engine.scan(b"", None, 1),
        lambda: engine.snapshot(tmp_path / "snapshot"),
        engine.flush,
        engine.stats,
    ]
    for call in calls:
        with pytest.raises(StorageError, match="closed"):
            call()


def test_stats_name_the_engine_and_estimate_the_keys(engine: Engine, request: pytest.FixtureRequest) -> None:
    engine.commit({b"%d" % n: b"v" for n in range(100)})
    stats = engine.stats()
    assert stats["engine"] == request.node.callspec.params["engine"]
    assert stats["keys_estimate"] == 100


KEYS = st.one_of(
    st.lists(st.sampled_from([b"\0", b"a", b"b", b"\xff"]), max_size=3).map(b"".join),
    st.sampled_from([b"a", b"\xff"]).map(lambda byte: byte * 65_536),
)
VALUES = st.one_of(st.binary(max_size=8), st.just(b"v" * 300))


class AgainstDict(RuleBasedStateMachine):
    """Any sequence of calls answers as a dict and its sorted keys would."""

    name: str

    @initialize()
    def start(self) -> None:
        self.scratch = scratch_directory()
        self.directory = self.scratch.__enter__()
        self.generation = 0
        self.model: dict[bytes, bytes] = {}
        self.engine = open_engine(self.name, self.directory / "0")

    @rule(writes=st.dictionaries(KEYS, st.none() | VALUES, max_size=6))
    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        self.engine.commit(writes)
        for key, value in writes.items():
            self.model.pop(key, None)
            if value is not None:
                self.model[key] = value

    @rule(start=KEYS, end=st.none() | KEYS, limit=st.integers(0, 8), bytes_max=st.integers(1, 700))
    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> None:
        inside = [pair for pair in sorted(self.model.items()) if start <= pair[0] and (end is None or pair[0] < end)]
        assert self.engine.scan(start, end, limit) == inside[:limit]
        assert self.engine.scan(start, end, limit, bytes_max) == bounded(self.model, start, end, limit, bytes_max)

    @rule(keys=st.lists(KEYS, max_size=5))
    def get(self, keys: list[bytes]) -> None:
        expected = [self.model.get(key) for key in keys]
        assert self.engine.get_many(keys) == expected
        assert [self.engine.get(key) for key in keys] == expected

    @rule()
    def flush(self) -> None:
        self.engine.flush()
        self.engine.sync()

    @rule()
    def come_back(self) -> None:
        """Clean stop and start; the memory engine forgets."""
        self.engine.close()
        self.engine = open_engine(self.name, self.directory / str(self.generation))
        if self.name == "memory":
            self.model = {}

    @rule()
    def crash(self) -> None:
        """The files as they are in the middle of a run are what a killed process leaves behind."""
        if self.name == "rocksdb":
            left_behind = self.directory / str(self.generation)
            self.generation += 1
            crash_image(left_behind, self.directory / str(self.generation))
        self.come_back()

    @invariant()
    def same_pairs(self) -> None:
        assert self.engine.scan(b"", None, len(self.model) + 1) == sorted(self.model.items())

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            self.scratch.__exit__(None, None, None)


class MemoryAgainstDict(AgainstDict):
    name = "memory"


class RocksAgainstDict(AgainstDict):
    name = "rocksdb"


MemoryAgainstDict.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
RocksAgainstDict.TestCase.settings = settings(max_examples=20, stateful_step_count=25)
TestMemoryAgainstDict = MemoryAgainstDict.TestCase
TestRocksAgainstDict = RocksAgainstDict.TestCase
