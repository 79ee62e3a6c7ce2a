"""`dyn doctor` on real nodes: what it finds of causes that are really there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamo_cli.certificates import LOCAL_HOSTS, make
from tests.ports import free_ports
from tests.wire.cluster import PATIENT, Host, WireCluster, dyn, wait_for
from tests.wire.wrong_clocks import LIBFAKETIME, need_libfaketime


def examined(cluster: WireCluster, place: int = 0) -> tuple[int, dict[str, Any]]:
    """The exit status and the document, from one of the nodes."""
    done = dyn("doctor", "--json", port=cluster.nodes[place].port)
    return done.returncode, json.loads(done.stdout)


def found(document: dict[str, Any], check: str) -> list[tuple[str, list[str]]]:
    """The findings of a check: severity and nodes."""
    return [(each["severity"], each["nodes"]) for each in document["findings"] if each["check"] == check]


def test_every_node_tells_of_itself(cluster: WireCluster) -> None:
    _, document = examined(cluster)
    with cluster.nodes[0].client() as client:
        info = client.info("server")
    for node in document["nodes"]:
        assert node["reached"] and (node["version"], node["build"]) == (info["dyn_version"], info["dyn_build"])
        assert node["listen"] == node["address"] and None not in node.values()
    assert found(document, "machines") == [("note", [])]
    assert not [each for each in document["findings"] if each["check"] in ("reached", "status", "layout", "owners")]


def test_causes_on_real_nodes_are_found(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=PATIENT)
    first, second, third = cluster.nodes
    second.stop()
    second.start("--fsync", "no")
    cluster.wait_healthy()
    status, document = examined(cluster)
    assert status == 4 and document["verdict"] == "degraded"
    assert found(document, "durability") == [("warning", ["n2"])] and found(document, "agreement") == [("warning", [])]
    third.kill()
    wait_for(lambda: first.states()["n3"] == "down", "n1 sees that n3 is down")
    status, document = examined(cluster)
    assert status == 4 and found(document, "reached") == [("error", ["n3"])]
    assert found(document, "status") == [("error", [])] and found(document, "owners") == [("warning", [])]
    second.kill()
    wait_for(lambda: first.states()["n2"] == "down", "n1 sees that n2 is down, too")
    status, document = examined(cluster)
    assert (status, document["verdict"]) == (5, "unavailable") and ("error", []) in found(document, "owners")


KERNEL = {  # what a node is to read instead of what this machine has
    "/proc/sys/vm/overcommit_memory": "2\n",
    "/proc/sys/net/core/somaxconn": "128\n",
    "/proc/sys/kernel/random/boot_id": "another machine\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
}
IN_ITS_PLACE = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1; shift 2; done; shift; exec "$@"'
FEW_FILES = 'ulimit -n 256; exec "$@"'


def elsewhere(directory: Path) -> tuple[str, ...]:
    """The words before the command of a node on another machine, as far as it can see. Skips the test if mounting is not
    allowed."""
    directory.mkdir()
    pairs: list[str] = []
    for place, (path, text) in enumerate(KERNEL.items()):
        (directory / str(place)).write_text(text)
        pairs += [str(directory / str(place)), path]
    words = ("unshare", "--mount", "sh", "-c", IN_ITS_PLACE, "sh", *pairs, "--")
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("not allowed to mount files in a name space")
    return words


def earlier_version(directory: Path) -> dict[str, str]:
    """The environment of a node whose package is called version 0.0.9."""
    package = directory / "dyn-0.0.9.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: dyn\nVersion: 0.0.9\n")
    return {"PYTHONPATH": str(directory)}


def odd_cluster(tmp_path: Path) -> tuple[WireCluster, Path]:
    """n1 will be on another machine and of an earlier version, n2 has few descriptors. All have a certificate of five days
    and too large caches. Returns the file of their clock, too."""
    need_libfaketime()
    make(tmp_path, "node", LOCAL_HOSTS, days=5)
    clock = tmp_path / "clock"
    clock.write_text("+0d\n")
    fake = {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    port = free_ports(3)
    environments = [fake | {"DYN_TLS_PORT": str(port + place)} for place in range(3)]
    environments[0] |= earlier_version(tmp_path / "old")
    cluster = WireCluster(
        tmp_path / "cluster",
        config=f"{PATIENT}cache_memory_percent = 50\ntls_ca_file = '{tmp_path}/ca.crt'\n"
        f"tls_cert_file = '{tmp_path}/node.crt'\ntls_key_file = '{tmp_path}/node.key'\n",
        hosts=[Host(prefix=elsewhere(tmp_path / "kernel")), Host(prefix=("sh", "-c", FEW_FILES, "sh")), Host()],
        environments=dict(enumerate(environments)),
    )
    return cluster, clock


def open_one_and_lock_out_another(cluster: WireCluster) -> None:
    """n2 is open to everybody now; n3 has another secret, so it misses the layout that is committed."""
    n1, n2, n3 = cluster.nodes
    assert n2.stop() == 0
    n2.start("--listen", f"0.0.0.0:{n2.port}", "--advertise", n2.address, "--set", "protected_mode=false")
    wait_for(n2.serves, "n2 serves clients")

    def is_compared() -> bool:
        return any("n3" in node.document("DYN.STATS")["facts"]["compared_s"] for node in (n1, n2))

    wait_for(is_compared, "n1 or n2, whichever of them leads comparisons with n3, knows it")
    assert n3.stop() == 0
    n3.secrets = [bytes(range(1, 33))]
    n3.start()
    wait_for(n3.serves, "n3 serves clients")
    wait_for(lambda: n1.states()["n3"] == "down", "n3 is not let in")
    assert dyn("cluster", "zone", "n1", "rack1", port=n1.port).returncode == 0
    assert dyn("cluster", "commit", "--epoch", "2", port=n1.port).returncode == 0


def test_what_is_wrong_with_machines_versions_access_and_layouts_is_found(tmp_path: Path) -> None:
    cluster, clock = odd_cluster(tmp_path)
    try:
        cluster.form()
        open_one_and_lock_out_another(cluster)
        new = clock.with_suffix(".new")
        new.write_text("+2d\n")
        new.rename(clock)
        wait_for(lambda: found(examined(cluster)[1], "repairs"), "n3 was not compared for two days")
        status, document = examined(cluster)
        text = dyn("doctor", port=cluster.nodes[0].port)
    finally:
        cluster.dispose()
    assert status == text.returncode == 4
    error, warning, every = "error", "warning", ["n1", "n2", "n3"]
    known = {check: found(document, check) for check in document["checks"]}
    assert known["layout"] == [(error, every)] and known["status"] == [(error, [])]
    assert known["access"] == [(error, ["n2"])] and known["limits"] == [(warning, ["n2"])]
    assert known["addresses"] == [(error, [name]) for name in every]
    assert known["versions"] == [(warning, [])] and known["machines"] == [(warning, ["n2", "n3"])]
    assert known["repairs"] in ([(warning, ["n1"])], [(warning, ["n2"])])  # one of them leads comparisons with n3
    assert known["memory"] == [(warning, ["n2", "n3"])] and known["kernel"] == [(warning, ["n1"])] * 3
    assert known["certificates"] == [(warning, every)] and known["zones"] == [(warning, [])]
    texts = [each["text"] for each in document["findings"]]
    assert "different versions: 0.0.9 on n1; 0.1.0 on n2, n3" in texts
    assert "different layouts: epoch 2 on n1, n2; epoch 1 on n3" in texts
    assert all(each in text.stdout.decode() for each in texts)
