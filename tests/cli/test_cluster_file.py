"""What a directory remembers, and what `dyn up` may ask of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dynamo_cli import local_cluster
from dynamo_cli.cluster_file import Engine, Fsync, LocalCluster, UpOptions, load, plan
from dynamo_cli.failures import Failure, WrongUsage
from dynamo_cli.node_settings import parse_settings


def saved(directory: Path, wanted: UpOptions | None = None) -> LocalCluster:
    cluster = plan(directory, wanted or UpOptions())
    cluster.save()
    return cluster


def test_a_new_cluster_has_the_defaults(tmp_path: Path) -> None:
    cluster = plan(tmp_path / "d", UpOptions())
    assert [(node.name, str(node.address), node.zone) for node in cluster.nodes] == [
        ("n1", "127.0.0.1:7001", "z1"),
        ("n2", "127.0.0.1:7002", "z2"),
        ("n3", "127.0.0.1:7003", "z3"),
    ]
    assert (cluster.fsync, cluster.engine) == (Fsync.EVERYSEC, Engine.ROCKSDB)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("count", [1, 9])
def test_what_is_saved_is_remembered(tmp_path: Path, count: int) -> None:
    cluster = saved(tmp_path, UpOptions(count, 8001, Fsync.NO, Engine.MEMORY))
    assert len(cluster.nodes) == count
    assert plan(tmp_path, UpOptions()) == cluster
    assert plan(tmp_path, UpOptions(count, 8001, Fsync.NO, Engine.MEMORY)) == cluster
    assert all(cluster.node_directory(node).is_dir() for node in cluster.nodes)


def test_ids_are_remembered_for_a_node_that_loses_its_directory(tmp_path: Path) -> None:
    ids = [node.id for node in saved(tmp_path).nodes]
    assert len({*ids}) == 3
    shutil.rmtree(tmp_path / "n2")
    assert [node.id for node in plan(tmp_path, UpOptions()).nodes] == ids


def test_ids_of_an_earlier_release_are_found_in_the_directories(tmp_path: Path) -> None:
    saved(tmp_path)
    document = json.loads((tmp_path / "cluster.json").read_text())
    for node in document["nodes"]:
        del node["id"]
    (tmp_path / "cluster.json").write_text(json.dumps(document))
    (tmp_path / "n1" / "node.json").write_text(json.dumps({"id": "the old one"}))
    (tmp_path / "n2" / "node.json").write_text("nonsense")
    assert [node.id for node in plan(tmp_path, UpOptions()).nodes] == ["the old one", "", ""]


@pytest.mark.parametrize(
    ("wanted", "option"),
    [
        (UpOptions(nodes=5), "--nodes 5"),
        (UpOptions(base_port=9001), "--base-port 9001"),
        (UpOptions(engine=Engine.MEMORY), "--engine memory"),
    ],
)
def test_another_cluster_in_the_same_directory_is_refused_with_what_to_do(
    tmp_path: Path, wanted: UpOptions, option: str
) -> None:
    saved(tmp_path)
    with pytest.raises(WrongUsage, match=option) as refused:
        plan(tmp_path, wanted)
    assert refused.value.hint is not None
    assert "leave" in refused.value.hint


def test_the_fsync_policy_may_change(tmp_path: Path) -> None:
    saved(tmp_path)
    assert plan(tmp_path, UpOptions(fsync=Fsync.ALWAYS)).fsync == Fsync.ALWAYS


def test_ports_end_at_65535(tmp_path: Path) -> None:
    assert plan(tmp_path, UpOptions(nodes=3, base_port=65533)).nodes[-1].address.port == 65535
    with pytest.raises(WrongUsage, match="65535"):
        plan(tmp_path, UpOptions(nodes=3, base_port=65534))


def test_a_link_to_the_directory_is_the_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert plan(tmp_path / "link", UpOptions()).directory == (tmp_path / "real").resolve()


DOCUMENT = {
    "format": 1,
    "fsync": "no",
    "engine": "memory",
    "nodes": [{"name": "n1", "address": "127.0.0.1:7001", "zone": "z1", "weight": 1}],
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        json.dumps(DOCUMENT | {"nodes": []}),
        json.dumps(DOCUMENT | {"nodes": [{}]}),
        json.dumps(DOCUMENT | {"nodes": ["n1"]}),
        json.dumps(DOCUMENT | {"fsync": "sometimes"}),
        json.dumps(DOCUMENT | {"format": 2}),
        json.dumps(DOCUMENT | {"nodes": [DOCUMENT["nodes"][0] | {"address": "nowhere"}]}),  # type: ignore[index,operator]
    ],
)
def test_a_damaged_file_is_reported_by_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(Failure, match=r"cluster\.json"):
        load(tmp_path)
    (tmp_path / "cluster.json").write_text(json.dumps(DOCUMENT))
    assert load(tmp_path) is not None


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"{}", "is damaged: it lacks 'format'"), (b"\xff", r"cannot read .*: it is not UTF-8 text \(byte 0\)"),
     (b"[" * 200_000, "cannot read .*: it has too many brackets"), 
     (b"{", r"it is not JSON \(line 1, column 2\)"), (None, "cannot read .*: Is a directory")],
)  # fmt: skip
def test_a_damaged_file_is_told_of_in_words(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "cluster.json"
    path.mkdir() if data is None else path.write_bytes(data)
    with pytest.raises(Failure, match=words):
        load(tmp_path)


def remembered_by_nodes(directory: Path, cluster: LocalCluster) -> None:
    """What nodes write in their directories once they have run, and the loss of `cluster.json`."""
    for node in cluster.nodes:
        document = {"id": node.id, "name": node.name, "address": str(node.address), "zone": node.zone,
                    "weight": node.weight, "engine": cluster.engine, "fsync": cluster.fsync}  # fmt: skip
        (cluster.node_directory(node) / "node.json").write_text(json.dumps(document))
    (directory / "cluster.json").unlink()


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_lost_file_is_made_anew_from_what_the_nodes_remember(tmp_path: Path, count: int) -> None:
    cluster = saved(tmp_path, UpOptions(count, 8001, Fsync.NO, Engine.MEMORY))
    remembered_by_nodes(tmp_path, cluster)
    for wanted in (UpOptions(), UpOptions(count, 8001)):
        found = plan(tmp_path, wanted)
        assert (found, found.is_recovered) == (cluster, True)
    assert load(tmp_path) == cluster, "dyn down finds its nodes, too"
    with pytest.raises(WrongUsage, match="begins at port 8001, so --base-port 9001 does not fit"):
        plan(tmp_path, UpOptions(base_port=9001))
    found.save()
    assert (plan(tmp_path, UpOptions()), plan(tmp_path, UpOptions()).is_recovered) == (cluster, False)


def test_nodes_that_do_not_tell_enough_are_not_taken_for_a_new_cluster(tmp_path: Path) -> None:
    cluster = saved(tmp_path)
    remembered_by_nodes(tmp_path, cluster)
    (tmp_path / "n2" / "node.json").unlink()
    with pytest.raises(Failure, match=r"cluster.json is missing.*n2/node.json.*No such file"):
        plan(tmp_path, UpOptions())
    for number in (1, 3):
        (tmp_path / f"n{number}" / "node.json").unlink()
    assert load(tmp_path) is None, "no node has ever run here"
    (tmp_path / "n1" / "data").mkdir()
    with pytest.raises(Failure, match=r"n1/node\.json"):
        plan(tmp_path, UpOptions())
    for text in ("nonsense", "[]", json.dumps({"id": "x"})):
        (tmp_path / "n1" / "node.json").write_text(text)
        with pytest.raises(Failure, match=r"cluster\.json is missing"):
            plan(tmp_path, UpOptions())


def test_settings_are_stored_and_changed_one_by_one(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("siblings_max = 7\n")
    cluster = saved(tmp_path / "d", UpOptions(config=config, settings={"flushall": "true", "hints_bytes_max": "1"}))
    assert plan(tmp_path / "d", UpOptions()) == cluster
    assert (cluster.config, cluster.settings) == (config, {"flushall": "true", "hints_bytes_max": "1"})
    changed = plan(tmp_path / "d", UpOptions(settings={"flushall": "", "siblings_max": "3"}))
    assert (changed.config, changed.settings) == (config, {"hints_bytes_max": "1", "siblings_max": "3"})


def test_a_file_of_settings_that_is_gone_or_is_no_toml_is_named(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("")
    saved(tmp_path / "d", UpOptions(config=config))
    config.write_text("flushall: true")
    with pytest.raises(Failure, match=r"settings\.toml is not TOML"):
        plan(tmp_path / "d", UpOptions())
    config.unlink()
    with pytest.raises(Failure, match=r"cannot read the file of settings .*No such file"):
        plan(tmp_path / "d", UpOptions())
    assert plan(tmp_path / "d", UpOptions(config=Path("/dev/null"))).config == Path("/dev/null")


@pytest.mark.parametrize("word", ["flushall", "=true", "Flushall=true", "a b=1", "engine=memory", "fsync=no"])
def test_what_is_no_setting_is_wrong_usage(word: str) -> None:
    with pytest.raises(WrongUsage, match="--set"):
        parse_settings([word])


def test_the_last_value_of_a_setting_counts(tmp_path: Path) -> None:
    assert parse_settings(["a=1", "b=x=y", "a="]) == {"a": "", "b": "x=y"}


@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_stored_setting_gives_way_to_the_file_and_the_environment(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old `--fsync no` beat the file's `always`."""
    config = tmp_path / "settings.toml"
    config.write_text("")
    saved(tmp_path / "d", UpOptions(config=config, fsync=Fsync.NO, settings={"flushall": "true", "users_max": "5"}))
    if source == "file":
        config.write_text("fsync = 'always'\nflushall = false\n")
    else:
        monkeypatch.setenv("DYN_FSYNC", "always")
        monkeypatch.setenv("DYN_FLUSHALL", "no")
    cluster = plan(tmp_path / "d", UpOptions())
    assert (cluster.fsync, cluster.engine, cluster.settings) == (None, Engine.ROCKSDB, {"users_max": "5"})
    places = {"file": (config, config), "environment": ("DYN_FLUSHALL", "DYN_FSYNC")}[source]
    assert cluster.overruled == (
        f"flushall=true of an earlier start counts no more: {places[0]} gives flushall",
        f"fsync=no of an earlier start counts no more: {places[1]} gives fsync",
    )
    again = plan(tmp_path / "d", UpOptions(fsync=Fsync.NO, settings={"flushall": "true"}))
    assert (again.fsync, again.settings, again.overruled) == (Fsync.NO, {"users_max": "5", "flushall": "true"}, ())
    cluster.save()
    assert plan(tmp_path / "d", UpOptions()).overruled == () and load(tmp_path / "d") == cluster


def test_a_new_cluster_passes_no_option_that_its_file_gives(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("fsync = 'always'\nengine = 'memory'\n")
    cluster = saved(tmp_path / "d", UpOptions(config=config))
    assert (cluster.fsync, cluster.engine) == (None, None)
    argv = local_cluster.node_argv(cluster, cluster.nodes[0])
    assert "--config" in argv and "--fsync" not in argv and "--engine" not in argv
    remembered_by_nodes(tmp_path / "d", cluster)
    document = json.loads((tmp_path / "d" / "n1" / "node.json").read_text())
    kept = {name: value for name, value in document.items() if value is not None} | {"config": str(config)}
    (tmp_path / "d" / "n1" / "node.json").write_text(json.dumps(kept))
    assert plan(tmp_path / "d", UpOptions()) == cluster, "the nodes remember the file"
