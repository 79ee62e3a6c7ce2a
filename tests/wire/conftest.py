"""Clusters for the tests: a healthy one of three nodes that all share, and fresh ones for those who break things."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.cluster import PATIENT, WireCluster


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireCluster]:
    """Three nodes for the session. Ask for `cluster` instead."""
    shared = WireCluster(tmp_path_factory.mktemp("shared"), config=PATIENT)
    try:
        shared.form()
        yield shared
    finally:
        shared.dispose()


@pytest.fixture
def cluster(shared_cluster: WireCluster) -> Iterator[WireCluster]:
    """A healthy cluster of three nodes that other tests use too: take keys of your own, and leave the nodes alone."""
    yield shared_cluster
    shared_cluster.assert_logs_clean()


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., WireCluster]]:
    """Forms clusters that live as long as the test; takes what WireCluster takes. The directory need not be given."""
    made: list[WireCluster] = []

    def make(**options: Any) -> WireCluster:
        made.append(WireCluster(**{"directory": tmp_path / f"cluster{len(made)}", **options}))
        made[-1].form()
        return made[-1]

    yield make
    for one in made:
        one.dispose()
    for one in made:
        one.assert_logs_clean()


@pytest.fixture
def needs() -> Callable[[str], None]:
    """Skips the test when a program is missing."""

    def check(program: str) -> None:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")

    return check
