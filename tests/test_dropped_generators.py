"""No generator is made and dropped: a call without `yield from` does nothing, and no type checker says so.

RESTORE of a list restored nothing after `push_right` had become a generator. The rule looks at calls that are statements
of their own, of functions of the same module or imported by name, and of methods of `self`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
Name = tuple[str, str]  # module, function


def _is_generator(function: ast.FunctionDef) -> bool:
    inner = [each for each in ast.walk(function) if isinstance(each, ast.FunctionDef | ast.Lambda)]
    foreign = {id(node) for each in inner if each is not function for node in ast.walk(each)}
    return any(isinstance(node, ast.Yield | ast.YieldFrom) and id(node) not in foreign for node in ast.walk(function))


def _called(call: ast.expr, module: str, imported: Mapping[str, Name]) -> Name | None:
    if not isinstance(call, ast.Call):
        return None
    function = call.func
    if isinstance(function, ast.Name):
        return imported.get(function.id, (module, function.id))
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "self":
        return module, function.attr
    return None


def dropped(sources: Mapping[str, str]) -> Iterator[str]:
    """Yields `module:line` of each generator that is dropped; `sources` are texts by module."""
    trees = {module: ast.parse(text) for module, text in sources.items()}
    generators = {
        (module, node.name)
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and _is_generator(node)
    }
    for module, tree in trees.items():
        imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and _called(node.value, module, imported) in generators:
                yield f"{module}:{node.lineno}"


def test_no_generator_is_dropped() -> None:
    paths = [*ROOT.glob("server/**/*.py"), *ROOT.glob("protocol/**/*.py"), *ROOT.glob("dynamo_cli/**/*.py")]
    sources = {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in paths}
    assert list(dropped(sources)) == []


def test_the_rule_finds_them() -> None:
    made = "def steps():\n    yield 1\n\ndef plain():\n    return lambda: (yield)\n\n"
    assert list(dropped({"a": made + "def f():\n    steps()\n    plain()\n"})) == ["a:8"]
    assert list(dropped({"a": made, "b": "from a import steps as s\ndef g():\n    s()\n    yield from s()\n"})) == [
        "b:3"
    ]
    method = "class C:\n    def steps(self):\n        yield\n    def run(self):\n        self.steps()\n"
    assert list(dropped({"a": method})) == ["a:5"]
