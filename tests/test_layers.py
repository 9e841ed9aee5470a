"""The floors of the house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import retell_flask

ROOT = Path(retell_flask.__file__).parent
# From the ground up; a module may import those below it and those in the same line.
FLOORS = [
    {"errors", "decoding", "models", "forks"},
    {
        "values",
        "settings",
        "signatures",
        "events",
        "throttle",
        "inbox",
        "filters",
        "transport",
        "client",
    },
    {"signals", "connections", "identity", "receiver"},
    {"invocation", "leases", "delivery", "inbound", "functions", "backfill"},
    {"dispatch"},
    {"state", "routes", "cli", "gunicorn", "blueprint"},
    {"__init__"},
]
REQUEST_SIDE = {"request", "Request", "Response", "Blueprint", "session"}
MODULES = sorted(path for path in ROOT.rglob("*.py") if "testing" not in path.parts)


def part(path: Path, root: Path = ROOT) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def imports(
    path: Path, root: Path = ROOT, *, without: type[ast.NodeTransformer] = ast.NodeTransformer
) -> set[tuple[str, str]]:
    """Module and name of every import, as ``(retell_flask part or package, name)``."""
    found = set()
    depth = len(path.relative_to(root).parts)
    for node in ast.walk(without().visit(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            found |= {(_within(alias.name), "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == depth:
                module = f"retell_flask.{module}".rstrip(".")
            elif node.level:
                module = f"retell_flask.{part(path, root)}"
            found |= {(_within(f"{module}.{alias.name}"), alias.name) for alias in node.names}
    return found


def _within(module: str) -> str:
    pieces = module.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "retell_flask" else pieces[0]


class Types(ast.NodeTransformer):
    """What is imported for type checkers."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_types else self.generic_visit(node)


class Functions(Types):
    """What a function imports when it runs, too."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None


def floor(name: str) -> int:
    return next(n for n, names in enumerate(FLOORS) if name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_its_floor_and_below(path: Path) -> None:
    for module, _ in imports(path):
        if module.startswith("retell_flask."):
            other = module.removeprefix("retell_flask.")
            if other != "testing":
                assert floor(other) <= floor(part(path)), f"{path.name} imports {other}"


def importing_testing(without: type[ast.NodeTransformer]) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if "retell_flask.testing" in dict(imports(path, without=without))
    }


def test_nothing_imports_testing_but_two_commands_when_they_run() -> None:
    assert importing_testing(without=Functions) == set()
    assert importing_testing(without=Types) <= {"cli/send.py", "cli/rehearse.py"}
    assert "cli/send.py" in importing_testing(without=Types)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_blueprint_and_routes_touch_the_request_side_of_flask(path: Path) -> None:
    flask_names = {name for module, name in imports(path) if module in ("flask", "werkzeug")}
    if part(path) not in ("blueprint", "routes"):
        assert not flask_names & REQUEST_SIDE
    if floor(part(path)) < floor("delivery"):
        assert not flask_names


@pytest.mark.parametrize(
    "line", ["from retell_flask import blueprint", "import retell_flask.delivery as d"]
)
def test_a_way_around_the_floors_is_seen(line: str, tmp_path: Path) -> None:
    module = tmp_path / "settings.py"
    module.write_text(line)
    (imported,) = {name for name, _ in imports(module, tmp_path)}
    assert floor(imported.removeprefix("retell_flask.")) > floor("settings")


def test_no_module_is_without_a_floor() -> None:
    assert {part(path) for path in MODULES} == set().union(*FLOORS)
