"""The house rules, as tests: import directions, sizes, and what may not stand in the code (see server/__init__.py)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40
OWN = {"protocol", "server", "dynamo_cli", "tests"}

# What each room may import, beside the standard library and itself.
MAY_IMPORT = {
    "protocol": {"hiredis", "xxhash", "librt", "mypy_extensions", "cryptography"},
    "server/core": {"protocol", "xxhash", "librt", "mypy_extensions", "anycrc"},
    "server/storage": {"protocol", "rocksdict", "xxhash", "cryptography"},
    "server/scripting": {"server.core", "lupa"},
    "server/shell": {
        "protocol",
        "server.core",
        "server.storage",
        "server.scripting",
        "uvloop",
        "cryptography",
        "anycrc",
        "mypy_extensions",
        "prometheus_client",
        "h11",
        "opentelemetry",
    },
    # Of the server only which build a node would run, for --version: a node is a process of its own.
    "dynamo_cli": {"protocol", "server.build", "typer", "click", "rich", "hiredis", "cryptography", "anycrc"},
}
# The rooms of the core from the ground up: each imports those before it.
CORE_ROOMS = (
    "formats", "ring", "records", "liveness", "shared", "users", "scripts", "messages", "base", "work", "requests",
    "tracing", "waiting", "collection",
    "repair", "membership", "pubsub", "services", "operators", "commands",
)  # fmt: skip
# The modules above the rooms, in the same order. All of them may import every room.
CORE_TOP = (
    "outbox", "gossip", "chains", "retries", "dispatch", "incoming", "storing", "peer_messages", "answerers", "node",
)  # fmt: skip
# The core is pure: time, chance and input come in as arguments.
IMPURE = {
    "asyncio",
    "os",
    "socket",
    "time",
    "threading",
    "subprocess",
    "pathlib",
    "select",
    "signal",
    "logging",
    "secrets",
}
TOP_LEVEL = {
    "protocol", "server", "dynamo_cli", "tests", "man", "completions", "ops", "pyproject.toml", "README.md", "CHANGELOG.md",
    "SECURITY.md", "LICENSE", "Makefile", "setup.py", "docs",
}  # fmt: skip


def _sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


@lru_cache(maxsize=1)  # all of them are a million
def _nodes(path: Path) -> list[ast.AST]:
    """All of a file's syntax tree, the module first."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def _imports(path: Path) -> list[str]:
    """The modules that a file imports, those under TYPE_CHECKING included."""
    found = []
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_go_one_way(room: str) -> None:
    own = room.replace("/", ".")
    allowed = MAY_IMPORT[room] | {own}
    for path in _sources(room):
        for module in _imports(path):
            standard = module.split(".")[0] in sys.stdlib_module_names
            inside = any(module == name or module.startswith(name + ".") for name in allowed)
            assert standard or inside, f"{path.relative_to(ROOT)} imports {module}"


def test_the_rooms_of_the_core_stand_on_each_other() -> None:
    """What is imported for types only counts, too: a reader has to know it all the same."""
    for above, room in enumerate(CORE_ROOMS):
        allowed = CORE_ROOMS[: above + 1]
        for path in _sources(f"server/core/{room}"):
            for module in _imports(path):
                if module.startswith("server.core."):
                    assert module.split(".")[2] in allowed, f"{path.relative_to(ROOT)} imports {module}"
    assert sorted(CORE_ROOMS) == sorted(path.parent.name for path in (ROOT / "server/core").glob("*/__init__.py"))


def test_the_modules_above_the_rooms_stand_on_each_other() -> None:
    for above, name in enumerate(CORE_TOP):
        allowed = CORE_ROOMS + CORE_TOP[:above]
        for module in _imports(ROOT / f"server/core/{name}.py"):
            if module.startswith("server.core."):
                assert module.split(".")[2] in allowed, f"server/core/{name}.py imports {module}"
    present = {path.stem for path in (ROOT / "server/core").glob("*.py")} - {"__init__"}
    assert sorted(CORE_TOP) == sorted(present)


def _import_graph(root: Path) -> dict[str, list[str]]:
    """By module, the modules of ours that it imports: at its top, within functions, and for types only."""
    paths = [
        path for package in ("protocol", "server", "dynamo_cli") for path in sorted((root / package).rglob("*.py"))
    ]
    names = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    graph = {}
    for name, path in names.items():
        found: dict[str, None] = {}
        for node in _nodes(path):
            if isinstance(node, ast.Import):
                found |= {alias.name: None for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = [f"{node.module}.{alias.name}" for alias in node.names]  # a module of a package, or a name
                found |= {each if each in names else str(node.module): None for each in inner}
        graph[name] = [module for module in found if module in names and module != name]
    return graph


def _reached(graph: dict[str, list[str]], start: str) -> set[str]:
    """The modules that `start` imports, and those that these import, and so on."""
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph[module]
    return reached


def _circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """The sets of modules each of which imports all others of its set, directly or not."""
    reached = {module: _reached(graph, module) for module in graph}
    sets = {frozenset(each for each in reached[module] if module in reached[each]) for module in graph}
    return sorted(sorted(circle) for circle in sets if circle)


def test_the_picture_of_imports_has_no_circle() -> None:
    assert _circles(_import_graph(ROOT)) == []


@pytest.mark.parametrize(
    "back",
    [
        "import server.one\n",
        "def later() -> None:\n    from server.one import name\n",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from server import one\n",
    ],
)
def test_a_circle_is_found_wherever_its_imports_stand(back: str, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    for name, text in {"one": "from server.two import name\n", "two": "import server.three\n", "three": back}.items():
        (tmp_path / "server" / f"{name}.py").write_text(text)
    (tmp_path / "server" / "four.py").write_text("import server.one\n")
    assert _circles(_import_graph(tmp_path)) == [["server.one", "server.three", "server.two"]]


def test_the_core_is_pure() -> None:
    for path in _sources("server/core"):
        impure = IMPURE & {module.split(".")[0] for module in _imports(path)}
        assert not impure, f"{path.relative_to(ROOT)} imports {impure}"
        awaits = [node for node in _nodes(path) if isinstance(node, (ast.Await, ast.AsyncFunctionDef))]
        assert not awaits, f"{path.relative_to(ROOT)} awaits"
        calls = [name for name in _called(path) if name.startswith("random.")]
        assert not calls, f"{path.relative_to(ROOT)} uses the random module's own state: {calls}"


ROOMS = ("protocol", "server", "dynamo_cli", "tests")


@pytest.mark.parametrize("room", ROOMS)
def test_files_and_functions_are_small(room: str) -> None:
    assert [fault for path in _sources(room) for fault in _outgrown(path)] == []


def _outgrown(path: Path) -> Iterator[str]:
    if path.read_text().count("\n") > FILE_LINES_MAX:
        yield f"{path.relative_to(ROOT)} has outgrown one concept"
    for node in _nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"


def test_every_module_opens_with_its_theory() -> None:
    modules = [(path, _nodes(path)[0]) for path in _sources("protocol", "server", "dynamo_cli")]
    assert [path for path, module in modules if isinstance(module, ast.Module) and not ast.get_docstring(module)] == []
    assert len(modules) > 300


def _called(path: Path) -> list[str]:
    """The names of what a file calls, as it writes them: `time.sleep`."""
    called = [node.func for node in _nodes(path) if isinstance(node, ast.Call)]
    return [ast.unparse(name) for name in called if isinstance(name, ast.Name | ast.Attribute)]


def test_no_test_sleeps() -> None:
    for path in _sources("tests"):
        assert not {"time.sleep", "sleep", "asyncio.sleep"} & {*_called(path)}, f"{path.relative_to(ROOT)} sleeps"


def test_the_top_level_holds_only_what_it_should() -> None:
    present = {
        path.name for path in ROOT.iterdir() if not path.name.startswith(".") and not path.name.endswith(".egg-info")
    }
    assert present - {"dyn-data", "build", "dist"} <= TOP_LEVEL
