"""The files of ops/ and of the wheel fit the code; and the checkers that are installed have nothing to object."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamo_cli.commands import app
from dynamo_cli.pages import walk
from server.build import compiled_sources
from server.core.base.config import Config
from server.shell.options import parser

ROOT = Path(__file__).parent.parent
OPS = ROOT / "ops"
DYN = Path(sys.executable).with_name("dyn")


class Unit(configparser.RawConfigParser):
    """A unit file; of keys that stand there several times the last one counts here."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment, method-assign]
        self.read(OPS / "systemd" / name)


def known_options() -> set[str]:
    """The options of `dyn node start`."""
    from typer.main import get_command

    page = next(page for page in walk(get_command(app), ("dyn",)) if page.words == ("dyn", "node", "start"))
    return {name for parameter in page.command.params for name in parameter.opts}


# --- the wheel


def test_the_wheel_has_all_man_pages_and_completions(tmp_path: Path) -> None:
    """As setuptools itself puts them into a wheel: install_data is what fills its data directory."""
    script = f"import sys; sys.argv = ['setup.py', '-q', 'install_data', '--install-dir', {str(tmp_path)!r}]; "
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script + "exec(open('setup.py').read(), {'__file__': 'setup.py'})"],
        cwd=ROOT, check=True,
    )  # fmt: skip
    found = {str(path.relative_to(tmp_path / "share")) for path in tmp_path.rglob("*") if path.is_file()}
    pages = {f"man/man{path.suffix[1:]}/{path.name}" for path in (ROOT / "man").iterdir()}
    completions = {
        "bash-completion/completions/dyn.bash",
        "zsh/site-functions/_dyn",
        "fish/vendor_completions.d/dyn.fish",
    }
    assert found == pages | completions
    assert {Path(name).name for name in completions} == {path.name for path in (ROOT / "completions").iterdir()}


BROUGHT_BY_MYPY = {"mypy_extensions", "librt"}


def imports_of(path: Path) -> dict[str, None]:
    """The modules that a source imports anywhere, also as `from package import module`."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= dict.fromkeys([alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom):
            found |= dict.fromkeys([node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)])
    return found


def checked_libraries() -> dict[str, Path]:
    """The libraries that mypyc reads, each with a source that imports it: compiled, or imported by such a source."""
    to_read = [ROOT / source for source in compiled_sources()]
    seen, libraries = dict.fromkeys(to_read), {}
    while to_read:
        path = to_read.pop()
        for module in imports_of(path):
            place = ROOT / module.replace(".", "/")
            own = next((each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file()), None)
            if own is None:
                libraries[module.partition(".")[0]] = path
            elif own not in seen:
                seen[own] = None
                to_read.append(own)
    return {
        name: path for name, path in libraries.items() if name not in sys.stdlib_module_names | {"protocol", "server"}
    }


def test_the_build_has_all_libraries_whose_types_mypyc_looks_up() -> None:
    """Without one of them mypyc refuses, and a wheel that pip builds by itself, as in the image, is not compiled."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["build-system"]["requires"]
    there = {re.split(r"[<>=~!\[]", requirement)[0] for requirement in build} | BROUGHT_BY_MYPY
    untyped = {name.removesuffix(".*") for name in project["tool"]["mypy"]["overrides"][0]["module"]}
    wanted = checked_libraries()
    assert "hiredis" in wanted and {name: path for name, path in wanted.items() if name not in there | untyped} == {}


def is_spec(value: ast.expr | None) -> bool:
    """Whether an expression makes specs of commands: a call of CommandSpec or container, or a tuple with one."""
    calls = [value, *value.elts] if isinstance(value, ast.Tuple) else [value]
    made = [each.func.id for each in calls if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)]
    return any(name in ("CommandSpec", "container") for name in made)


def test_specs_that_other_modules_import_are_annotated() -> None:
    """These modules import each other in a cycle. mypy takes its modules in another order where pip builds in a folder of
    its own, and cannot tell a type there that is not written down: then the wheel is not compiled."""
    bare, annotated = [], 0
    for path in (ROOT / "server/core/commands").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            annotated += isinstance(node, ast.AnnAssign) and is_spec(node.value)
            if isinstance(node, ast.Assign) and is_spec(node.value):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                bare += [f"{path.name}: {name}" for name in names if not name.startswith("_")]
    assert annotated > 40 and not bare


@pytest.mark.parametrize(("build", "status"), [("compiled", 1), ("", 0)])
def test_a_build_that_cannot_compile_fails_only_where_it_must_be_compiled(
    tmp_path: Path, build: str, status: int
) -> None:
    """mypy is missing here, as it would be if `build-system.requires` lacked it."""
    script = (
        "import sys; sys.modules['mypyc'] = None; sys.argv = ['setup.py', '-q', 'build_ext', '--build-lib', 'built']; "
        f"sys.path.insert(0, {str(ROOT)!r}); import server.build; server.build.is_current = lambda place: False; "
        f"exec(open({str(ROOT / 'setup.py')!r}).read(), {{'__file__': {str(ROOT / 'setup.py')!r}, '__name__': '__main__'}})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"DYN_BUILD": build},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "mypyc" in done.stderr and ("not compiled, so nodes" in done.stderr) == (not status)


# --- settings


def test_the_example_of_settings_is_one_of_the_settings_that_there_are() -> None:
    text = (OPS / "dyn.toml").read_text()
    assert Config.of(tomllib.loads(text)) == Config(), "uncommented are defaults only"
    whole = tomllib.loads(re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", text))
    assert len(whole) > 15 and Config.of(whole)


# --- systemd


def test_the_unit_starts_a_node_as_the_command_allows() -> None:
    service = Unit("dyn@.service")["Service"]
    assert service["Type"] == "notify" and int(service["WatchdogSec"]) >= 10
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("on-failure", "2")
    words = service["ExecStart"].split()
    assert words[1:3] == ["node", "start"]
    assert {word for word in words if word.startswith("--")} <= known_options()
    assert service["StateDirectory"] == "dyn/%i" and "/var/lib/dyn/%i" in words
    for key in ("NoNewPrivileges", "PrivateDevices", "ProtectHome", "MemoryDenyWriteExecute", "RestrictNamespaces"):
        assert service[key] == "yes"
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""


def test_the_unit_gives_up_a_node_that_fails_at_each_start_and_no_other() -> None:
    unit = Unit("dyn@.service")
    seconds, starts, pause = (
        int(unit[section][key])
        for section, key in (("Unit", "StartLimitIntervalSec"), ("Unit", "StartLimitBurst"), ("Service", "RestartSec"))
    )
    fails_after_s, lives_s = 0.4, 1.0
    assert starts * (pause + fails_after_s) < seconds <= starts * (pause + lives_s)


def test_the_nodes_of_a_machine_are_one_service() -> None:
    unit = Unit("dyn@.service")
    assert unit["Unit"]["PartOf"] == unit["Install"]["WantedBy"] == "dyn.target"
    assert Unit("dyn.target")["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_has_nothing_to_object(tmp_path: Path) -> None:
    for name, instance in (("dyn@.service", "dyn@1.service"), ("dyn.target", "dyn.target")):
        text = (OPS / "systemd" / name).read_text()
        (tmp_path / instance).write_text(text.replace("/opt/dyn/bin/dyn", shutil.which("true") or "/bin/true"))
    units = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    known = ["systemd-analyze", "security", "--offline=yes", "--json=short", str(tmp_path / "dyn@1.service")]
    if (report := subprocess.run(known, capture_output=True, text=True)).returncode == 0:
        exposed = {row["name"]: row["exposure"] for row in json.loads(report.stdout) if row["set"] is False}
        assert len(exposed) < 25, exposed


# --- containers


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def check_node_words(words: list[str]) -> None:
    """The command of a container is one that a node accepts."""
    assert words[:2] == ["node", "start"]
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known_options()
    flat = [part for word in words[2:] for part in word.split("=", 1)]
    place = flat.index("--metrics")
    flat[place : place + 2] = ["--set", f"metrics={flat[place + 1]}"]
    parser().parse_args(flat)


def test_the_image_starts_a_node_and_asks_how_it_is() -> None:
    lines = (OPS / "Dockerfile").read_text().splitlines()
    command = json.loads(next(line for line in lines if line.startswith("CMD "))[4:])
    check_node_words(command)
    assert "USER 7001:7001" in lines and any("/healthz" in line for line in lines)
    assert any(line.startswith("RUN DYN_BUILD=compiled pip wheel") for line in lines), "no silent sources"
    copied = {line.split()[1] for line in lines if line.startswith("COPY") and "." not in line.split()[1]}
    ignored = (OPS / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied and all(f"!{name}" in ignored and (ROOT / name).is_dir() for name in copied)


def test_the_image_passes_the_linter_of_docker_files() -> None:
    linter = DYN.with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not installed: make ops-check")
    # Versions of packages are those of the base image's release; pip takes the wheels of the first stage only.
    rules = ["--ignore", "DL3008", "--ignore", "DL3013"]
    done = subprocess.run([linter, *rules, OPS / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_runs_three_nodes_and_forms_their_cluster() -> None:
    (compose,) = documents(OPS / "compose.yml")
    for number in (1, 2, 3):
        node = compose["services"][f"n{number}"]
        check_node_words(node["command"])
        assert f"n{number}:7001" in node["command"] and node["volumes"] == [f"n{number}:/data"]
    assert "dyn cluster init n1:7001 n2:7001 n3:7001" in compose["services"]["init"]["entrypoint"][2]


def test_compose_passes_its_specification() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="make ops-check")
    (merged,) = documents(OPS / "compose.yml")  # without the anchors of YAML, which the library does not know
    compose_spec.PyCompose.from_json(json.dumps(merged)).validate()


def test_kubernetes_starts_nodes_and_asks_how_they_are() -> None:
    found = {item["kind"]: item for item in documents(OPS / "kubernetes/dyn.yml")}
    (container,) = found["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    (job,) = (item for item in documents(OPS / "kubernetes/init.yml") if item["kind"] == "Job")
    for workload in (found["StatefulSet"], job):  # a service `dyn` makes variables such as DYN_PORT
        assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False
    words = [word.replace("$(POD_NAME)", "dyn-0") for word in container["args"]]
    check_node_words(words)
    asks = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("readiness", "liveness")}
    assert asks == {"readiness": "/readyz", "liveness": "/healthz"}
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert found["StatefulSet"]["spec"]["serviceName"] == "dyn" and container["lifecycle"]["preStop"]


@pytest.mark.parametrize("file", ["dyn.yml", "init.yml"])
def test_kubernetes_files_pass_their_schema(file: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make ops-check")
    for document in documents(OPS / "kubernetes" / file):
        validate.validate(document, "1.31", strict=True)
