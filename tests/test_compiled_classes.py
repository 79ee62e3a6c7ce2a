"""No class of a module that is not compiled inherits from one that is: mypyc refuses that, but only when the class is used.

A compiled class may permit it (`allow_interpreted_subclasses`), at the price of slower calls of its methods.
"""

from __future__ import annotations

import ast

from server.build import HOTTEST, ROOT, compiled_sources

Name = tuple[str, str]  # module and class
SOURCES = compiled_sources()


def _classes() -> dict[Name, tuple[str, ast.ClassDef, dict[str, Name]]]:
    """All classes of the product: the path of each, its definition, and what its module imports by which name."""
    found = {}
    for path in sorted([*(ROOT / "server").rglob("*.py"), *(ROOT / "protocol").rglob("*.py")]):
        where = path.relative_to(ROOT)
        if "compiled" in where.parts:
            continue
        tree = ast.parse(path.read_text())
        module = ".".join(where.with_suffix("").parts)
        imported = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                found[module, node.name] = (str(where), node, imported)
    return found


def test_no_interpreted_class_inherits_from_a_compiled_one() -> None:
    classes = _classes()
    bases = 0
    for (module, name), (path, definition, imported) in classes.items():
        for base in definition.bases:
            named = ast.unparse(base).split("[")[0]
            known = classes.get(imported.get(named, (module, named)))
            if known is None or known[0] not in SOURCES:
                continue
            bases += 1
            permits = any("allow_interpreted_subclasses" in ast.unparse(each) for each in known[1].decorator_list)
            assert path in SOURCES or permits, (
                f"{name} of {path} is not compiled, and its base {named} is: add it to HOT"
            )
    assert bases > 20


def test_no_compiled_function_gives_two_kinds_of_exceptions_one_name() -> None:
    """mypyc keeps the type that the name has first, and raises TypeError when another exception is caught under it."""
    functions = 0
    for path in SOURCES:
        for function in ast.walk(ast.parse((ROOT / path).read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            functions += 1
            caught: dict[str, set[str]] = {}
            for handler in ast.walk(function):
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                    caught.setdefault(handler.name, set()).add(ast.unparse(handler.type))
            twice = [name for name, types in caught.items() if len(types) > 1]
            assert not twice, f"{path}:{function.lineno} {function.name} catches different exceptions as {twice}"
    assert functions > 500


def test_the_modules_that_gcc_optimizes_most_are_compiled() -> None:
    """One that is renamed would be compiled by -Og without a word."""
    assert set(HOTTEST) <= set(SOURCES)
