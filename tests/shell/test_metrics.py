"""What the port for monitoring answers, without a socket."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.core.base.errors import is_leaving
from server.core.ring.layout_faults import name_faults
from server.shell.metric_families import NodeCollector
from server.shell.metrics import REQUEST_BYTES_MAX, VISITORS_MAX, Metrics, Visit, metrics_of
from tests.core.commands.talking import Client, finish_turn, reach
from tests.shell.test_connections import Shell, Transport

# Limits beside gauges that have labels, and may have no samples now; and one that bounds another limit's gauge.
ALONE = {"dyn_requests_running_max", "dyn_peer_unsent_bytes_max", "dyn_hints_bytes_max"}
ENGINE = {"engine": "memory", "disk_bytes": 7}


def made(members: int = 3) -> tuple[Shell, Metrics]:
    shell = Shell(Transport(), members)
    if members > 1:
        reach(shell.node, 2)
    return shell, metrics_of(NodeCollector(shell.services, shell.clients, lambda: ENGINE))


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample of a scrape: its name and its labels' values -> its value."""
    status, kind, content = metrics.answer(b"GET", b"/metrics")
    assert status == 200 and kind.startswith(b"text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }


def test_a_scrape_has_the_progress_of_what_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    shell, metrics = made()
    shell.node.state.is_filling = False
    assert not [sample for sample in samples(metrics) if sample[0].startswith("dyn_transfer_")]
    progress = {"partitions": 9, "partitions_done": 2, "keys": 70, "keys_done": 20}
    monkeypatch.setattr(shell.services.transfers, "document", lambda: progress | {"eta_s": None, "paused": True})
    told = {sample: value for sample, value in samples(metrics).items() if sample[0].startswith("dyn_transfer_")}
    assert told == {(f"dyn_transfer_{name}", "transfer"): value for name, value in progress.items()}


def test_a_node_without_its_disk_tells_how_far_it_is_filled() -> None:
    shell, metrics = made()
    assert shell.node.state.is_filling, "it is a member, and its store is empty"
    read = samples(metrics)
    assert read["dyn_transfer_partitions", "filling"] > read["dyn_transfer_partitions_done", "filling"] == 0


def test_a_scrape_has_counters_times_and_gauges() -> None:
    shell, metrics = made()
    shell.node.state.statistics.commands = 12
    shell.services.latencies.add("get", 100, 3)
    shell.services.latencies.add("get", 5000, 1)
    shell.node.state.hints.keep("f" * 40, [b"key"], shell.node.state.wall_ms - 5000, 0, False)
    shell.services.process.facts = {"loop_lag_ms": "12", "gc_ms_max": "3.5"}
    read = samples(metrics)
    wanted: dict[tuple[str, ...], float] = {
        ("dyn_commands_total",): 12,
        ("dyn_command_seconds_count", "get"): 4,
        ("dyn_command_seconds_sum", "get"): 0.0053,
        ("dyn_command_seconds_bucket", "get", "0.000064"): 0,
        ("dyn_command_seconds_bucket", "get", "0.000128"): 3,
        ("dyn_command_seconds_bucket", "get", "0.004096"): 3,
        ("dyn_command_seconds_bucket", "get", "0.008192"): 4,
        ("dyn_command_seconds_bucket", "get", "+Inf"): 4,
        ("dyn_hints", "f" * 40): 1,
        ("dyn_hints_age_seconds", "f" * 40): 5,
        ("dyn_peer_state", "n2", "up"): 1,
        ("dyn_peer_state", "n2", "down"): 0,
        ("dyn_ready",): 1,
        ("dyn_members",): 3,
        ("dyn_loop_lag_seconds",): 0.012,
        ("dyn_gc_seconds_max",): 0.0035,
        ("dyn_engine_disk_bytes",): 7,
    }
    assert {name: read.get(name) for name in wanted} == wanted
    assert ("process_cpu_seconds_total",) in read and ("dyn_reset_total",) not in read


def test_every_sample_has_a_family_of_its_own_and_help() -> None:
    _, metrics = made()
    families = list(text_string_to_metric_families(metrics.answer(b"GET", b"/metrics")[2].decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert all(family.documentation for family in families)


def test_who_is_compared_with_is_told_with_the_age() -> None:
    shell, metrics = made()
    shell.node.state.is_filling = False  # whoever is filled leads no comparisons
    second = shell.node.state.layout.members[1] if shell.node.state.layout is not None else None
    assert second is not None and ("dyn_compared_age_seconds", "n2") not in samples(metrics)
    shell.services.anti_entropy.compared_ms[second.id] = shell.node.state.now_ms - 4000
    assert samples(metrics)["dyn_compared_age_seconds", "n2"] == 4


def test_the_phases_of_requests_are_timed() -> None:
    shell, metrics = made(1)
    client = Client(shell.node)
    client.raw("SET a v", "SET b v")
    client.raw("GET a")
    shell.services.latencies.commit.add(300, 1)
    read = samples(metrics)
    assert read["dyn_phase_seconds_count", "write_quorum"] == 2
    assert read["dyn_phase_seconds_count", "read_quorum"] == 1
    assert read["dyn_phase_seconds_count", "relay"] == 0
    assert read["dyn_phase_seconds_bucket", "0.000512", "commit"] == 1


def test_each_queue_is_shown_beside_its_limit() -> None:
    shell, metrics = made()
    read = samples(metrics)
    for name, limit in (("peers", 256), ("tracked_keys", 1_000_000), ("unconfirmed_bytes", 256 << 20)):
        assert read[f"dyn_{name}",] == 0 and read[f"dyn_{name}_max",] == limit
    shell.services.writes.unconfirmed_bytes = 17
    shell.services.subscriptions.names_bytes = 18
    read = samples(metrics)
    assert (read["dyn_unconfirmed_bytes",], read["dyn_subscriptions_bytes",]) == (17, 18)
    assert read["dyn_deferred_patches_bytes_max",] == shell.services.state.config.record_cache_bytes // 4
    limits = {name[0] for name in read if name[0].endswith("_max")}
    assert len(limits) >= 20 and limits - {f"{name[0]}_max" for name in read} <= ALONE


def test_keys_with_siblings_are_those_of_the_last_scrub() -> None:
    shell, metrics = made()
    assert ("dyn_keys_with_siblings",) not in samples(metrics)
    shell.services.scrub.keys_with_siblings = 3
    assert samples(metrics)["dyn_keys_with_siblings",] == 3


def test_ready_is_who_serves_clients() -> None:
    shell, metrics = made()
    assert metrics.answer(b"GET", b"/readyz?x=1") == (200, b"text/plain; charset=utf-8", b"ready\n")
    shell.node.state.refuse_clients(is_leaving("n1"))
    finish_turn(shell.node)
    status, _, reason = metrics.answer(b"HEAD", b"/readyz")
    assert status == 503 and b"n1" in reason and b"leav" in reason
    shell.node.state.serve_clients()
    shell.clients.is_stopping = True
    assert metrics.answer(b"GET", b"/readyz")[0] == 503
    assert metrics.answer(b"GET", b"/healthz")[0] == 200


def test_a_node_without_a_layout_is_healthy_and_not_ready() -> None:
    _, metrics = made(0)
    assert metrics.answer(b"GET", b"/readyz")[::2] == (503, b"this node is not a member of a cluster yet\n")
    assert samples(metrics)["dyn_ready",] == 0


@pytest.mark.parametrize(("method", "target", "status"), [(b"POST", b"/metrics", 405), (b"GET", b"/", 404)])
def test_what_is_not_there(method: bytes, target: bytes, status: int) -> None:
    assert made()[1].answer(method, target)[0] == status


class Line(Transport):
    """The transport of a visit."""

    def write(self, data: bytes) -> None:
        self.written += data


def visit(metrics: Metrics, *pieces: bytes) -> Line:
    """What a visitor gets who sends these pieces."""
    with closing(asyncio.new_event_loop()) as loop:
        one = Visit(metrics, loop)
        transport = Line()
        one.connection_made(cast(Any, transport))
        for piece in pieces:
            one.data_received(piece)
        one.connection_lost(None)
    return transport


def test_a_request_may_come_in_pieces_and_only_the_first_one_is_answered() -> None:
    transport = visit(
        made()[1], b"GET /heal", b"thz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    head, _, content = transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 \r\n") and content == b"ok\n" and transport.closed


@pytest.mark.parametrize(
    "junk", [b"*1\r\n$4\r\nPING\r\n\r\n", b"\x00" * 10, b"GET /x HTTP/9\r\n\r\n", b"x" * (REQUEST_BYTES_MAX + 1)]
)
def test_junk_gets_an_error_and_the_end(junk: bytes) -> None:
    transport = visit(made()[1], junk)
    assert transport.written.startswith(b"HTTP/1.1 4") and transport.closed


def test_there_are_only_so_many_visitors() -> None:
    metrics = made()[1]
    with closing(asyncio.new_event_loop()) as loop:
        visits = [Visit(metrics, loop) for _ in range(VISITORS_MAX + 1)]
        lines = [Line() for _ in visits]
        for one, transport in zip(visits, lines, strict=True):
            one.connection_made(cast(Any, transport))
        assert [transport.aborted for transport in lines] == [False] * VISITORS_MAX + [True]
        visits[-1].connection_lost(None)
        metrics.close()
        assert all(transport.aborted for transport in lines)
        for one in visits[:-1]:
            one.connection_lost(None)
        assert not metrics.visitors


NAMES = ("n1", 'n"2"{}=,\\n', "\\ñ日本\u0301#=1")  # all that a name of a node may be is printable and has no blank


def test_any_name_of_a_node_comes_back_from_the_text_as_it_is() -> None:
    assert not [fault for name in NAMES for fault in name_faults("id", name)]
    shell, metrics = made()
    state = shell.node.state
    assert state.layout is not None
    members = [replace(each, name=name) for each, name in zip(state.layout.members, NAMES, strict=True)]
    state.layout = replace(state.layout, members=tuple(members))
    state.hints.keep(members[1].id, [b"key"], state.wall_ms, 0, False)
    state.hints.dropped_hints[members[2].id] = 1
    read = samples(metrics)
    for name in NAMES[1:]:
        assert ("dyn_peer_state", name, "up") in read, "of each other member"
    assert read["dyn_hints", NAMES[1]] == 1 and read["dyn_hints_dropped", NAMES[2]] == 1
    text = metrics.answer(b"GET", b"/metrics")[2]
    assert sum(line.startswith(b"dyn_peer_state{") for line in text.splitlines()) == 6, "no name begins a line"
    if shutil.which("promtool") is not None:
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
        assert done.returncode in (0, 3), done.stderr  # 3: it does not like the names of some metrics
        assert b"error while linting" not in done.stderr, "Prometheus' own parser reads it"
