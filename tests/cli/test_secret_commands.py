"""dyn secret make, add, use, drop; and the secrets that dyn up makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from dynamo_cli import secret_files
from dynamo_cli.addresses import Address
from dynamo_cli.cluster_file import Engine, Fsync, LocalCluster, LocalNode
from dynamo_cli.failures import Failure
from protocol.handshake import decode_secrets, fingerprint

Dyn = Callable[..., Result]


def held(*files: Path) -> tuple[bytes, ...]:
    """The secrets of files that must all hold the same, and that nobody else may read."""
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    (found,) = {decode_secrets(file.read_text()) for file in files}
    return found


def test_a_rotation_step_by_step_over_several_files(dyn: Dyn, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    made = dyn(None, "secret", "make", str(one))
    (old,) = held(one)
    assert made.exit_code == 0 and made.stdout == f"{one}: proves {fingerprint(old)}\n" and old.hex() not in made.output
    secret_files.write(other, (old,))
    files = [str(one), str(other)]
    assert dyn(None, "secret", "add", *files).exit_code == 0
    first, new = held(one, other)
    assert first == old != new
    shown = json.loads(dyn(None, "secret", "use", *files, "--json").stdout)
    assert shown == {"files": files, "secrets": [fingerprint(new), fingerprint(old)]}
    assert held(one, other) == (new, old)
    assert dyn(None, "secret", "drop", *files).exit_code == 0
    assert held(one, other) == (new,)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("one", "other")] == []


def test_steps_out_of_order_change_nothing(dyn: Dyn, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    dyn(None, "secret", "make", str(one))
    before = one.read_text()
    for step, complaint in (("make", "exists already"), ("use", "only one secret"), ("drop", "only one secret")):
        refused = dyn(None, "secret", step, str(one))
        assert refused.exit_code == 1 and complaint in refused.stderr
    dyn(None, "secret", "make", str(other))
    refused = dyn(None, "secret", "add", str(one), str(other))
    assert refused.exit_code == 1 and f"{one} and {other} differ" in refused.stderr
    refused = dyn(None, "secret", "add", str(tmp_path / "missing"))
    assert refused.exit_code == 1 and "cannot read" in refused.stderr
    assert one.read_text() == before
    dyn(None, "secret", "add", str(one))
    refused = dyn(None, "secret", "add", str(one))
    assert refused.exit_code == 1 and "a rotation is under way" in refused.stderr


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret_files.make(file)
    file.chmod(0o440)
    secret_files.write(file, (bytes(32),))
    assert file.stat().st_mode & 0o777 == 0o440


def test_nodes_of_a_local_cluster_get_one_secret_and_those_that_have_one_keep_it(tmp_path: Path) -> None:
    nodes = tuple(LocalNode(f"n{n}", Address("127.0.0.1", 7000 + n), "z", 1) for n in (1, 2, 3))
    cluster = LocalCluster(tmp_path, nodes, Fsync.EVERYSEC, Engine.ROCKSDB)
    cluster.save()
    files = [tmp_path / name / "secret" for name in ("n1", "n2", "n3")]
    secret_files.provide(cluster)
    (secret,) = held(*files)
    files[1].unlink()
    secret_files.write(files[2], (bytes(32), secret))  # a rotation is under way
    secret_files.provide(cluster)
    assert held(files[0], files[1]) == (secret,) and held(files[2]) == (bytes(32), secret)
    files[0].write_text("damaged")
    files[1].unlink()
    with pytest.raises(Failure, match="does not hold the secret"):
        secret_files.provide(cluster)
