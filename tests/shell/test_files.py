"""How open files are shared out: clients give way, and nothing starts without enough."""

from __future__ import annotations

import pytest

from server.shell.files import (
    ARRIVAL_FILES,
    CLIENTS_MIN,
    HANDSHAKE_FILES_MAX,
    HANDSHAKE_FILES_MIN,
    PEER_FILES_MIN,
    PROCESS_FILES,
    STORAGE_FILES_MAX,
    STORAGE_FILES_MIN,
    TooFewFiles,
    share_files,
)

LEAST = PROCESS_FILES + ARRIVAL_FILES + HANDSHAKE_FILES_MIN + PEER_FILES_MIN + STORAGE_FILES_MIN + CLIENTS_MIN


@pytest.mark.parametrize("allowed", [LEAST, LEAST + 1, 300, 512, 1024, 4096, 15_000, 65_536, 1 << 20])
@pytest.mark.parametrize("clients_max", [0, 1, 50, 10_000, 100_000])
@pytest.mark.parametrize("peers_max", [4, 256, 2000])
def test_the_shares_fit_and_clients_get_what_is_left(allowed: int, clients_max: int, peers_max: int) -> None:
    shares = share_files(allowed, clients_max, peers_max)
    reserved = shares.total - shares.clients
    assert shares.total <= allowed
    assert STORAGE_FILES_MIN <= shares.storage <= STORAGE_FILES_MAX
    assert HANDSHAKE_FILES_MIN <= shares.handshakes <= HANDSHAKE_FILES_MAX
    assert shares.peers == reserved - shares.storage - shares.handshakes - PROCESS_FILES - ARRIVAL_FILES
    assert PEER_FILES_MIN <= shares.peers <= max(PEER_FILES_MIN, 2 * peers_max)
    assert shares.clients == min(clients_max, allowed - reserved)


@pytest.mark.parametrize("allowed", [0, 64, LEAST - 1])
def test_too_few_files_are_refused_with_both_numbers(allowed: int) -> None:
    with pytest.raises(TooFewFiles, match=f"may open {allowed} files, and a node needs {LEAST} at least"):
        share_files(allowed, 10_000, 256)


def test_a_large_cluster_gets_its_connections_if_it_asks_for_them() -> None:
    """1,000 nodes have one in each direction, and `peers_max` says so."""
    assert share_files(65_536, 10_000, 256).peers == 512
    assert share_files(65_536, 10_000, 1024).peers == 2048
