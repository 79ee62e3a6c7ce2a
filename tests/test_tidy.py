"""The house rules, as tests: import directions, sizes, and what may not stand in the code (see server/__init__.py)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40
OWN = {"protocol", "server", "dynamo_cli", "tests"}

# What each room may import, beside the standard library and itself.
MAY_IMPORT = {
    "protocol": {"hiredis", "xxhash", "librt", "mypy_extensions"},
    "server/core": {"protocol", "xxhash", "librt", "mypy_extensions"},
    "server/storage": {"protocol", "rocksdict", "xxhash"},
    "server/shell": {"protocol", "server.core", "server.storage", "uvloop"},
    "dynamo_cli": {"protocol", "typer", "click", "rich", "hiredis"},
}
# The rooms of the core from the ground up: each imports those before it.
CORE_ROOMS = (
    "ring", "records", "liveness", "messages", "base", "work", "requests", "collection", "repair", "membership",
    "operators", "commands",
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
    "protocol", "server", "dynamo_cli", "tests", "man", "completions", "pyproject.toml", "README.md", "CHANGELOG.md",
    "LICENSE", "Makefile", "setup.py",
}  # fmt: skip


def _sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def _imports(path: Path) -> list[str]:
    """The modules that a file imports, those under TYPE_CHECKING included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
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


def _is_for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_the_rooms_of_the_core_stand_on_each_other() -> None:
    """What is imported for types only does not count: it is not there when the code runs."""
    for above, room in enumerate(CORE_ROOMS):
        allowed = CORE_ROOMS[: above + 1]
        for path in _sources(f"server/core/{room}"):
            tree = ast.parse(path.read_text())
            tree.body = [node for node in tree.body if not _is_for_types_only(node)]
            for node in ast.walk(tree):
                module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
                if module.startswith("server.core."):
                    assert module.split(".")[2] in allowed, f"{path.relative_to(ROOT)} imports {module}"
    assert sorted(CORE_ROOMS) == sorted(path.parent.name for path in (ROOT / "server/core").glob("*/__init__.py"))


def test_the_core_is_pure() -> None:
    for path in _sources("server/core"):
        impure = IMPURE & {module.split(".")[0] for module in _imports(path)}
        assert not impure, f"{path.relative_to(ROOT)} imports {impure}"
        tree = ast.parse(path.read_text())
        awaits = [node for node in ast.walk(tree) if isinstance(node, (ast.Await, ast.AsyncFunctionDef))]
        assert not awaits, f"{path.relative_to(ROOT)} awaits"
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("random.")
        ]
        assert not calls, f"{path.relative_to(ROOT)} uses the random module's own state: {calls}"


@pytest.mark.parametrize(
    "path", _sources("protocol", "server", "dynamo_cli", "tests"), ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX, f"{path.relative_to(ROOT)} has outgrown one concept"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", _sources("protocol", "server", "dynamo_cli"), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_opens_with_its_theory(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} has no docstring"


def test_no_test_sleeps() -> None:
    for path in _sources("tests"):
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        assert not calls & {"time.sleep", "sleep", "asyncio.sleep"}, f"{path.relative_to(ROOT)} sleeps"


def test_the_top_level_holds_only_what_it_should() -> None:
    present = {
        path.name for path in ROOT.iterdir() if not path.name.startswith(".") and not path.name.endswith(".egg-info")
    }
    assert present - {"dyn-data", "build"} <= TOP_LEVEL
