"""Imports point downward only."""

import ast
from pathlib import Path

from support.runs import ROOT

# From the ground up: a module imports only from rooms that stand before its own.
ROOMS = (
    "errors", "failpoints", "stop", "files", "section", "sources", "any_study", "ensemble_study", "bayes_study",
    "study", "schema", "cost", "bayes_cost", "plan", "store", "run",
    "claims", "partial", "receipts", "fingerprint", "networks", "tangents", "kernels", "loss_law", "convergence",
    "infinite_width", "seeds", "bayesian", "training", "data",
    "phases", "probe", "failures", "status", "verify", "submissions", "worker", "task", "nodecheck",
    "launch", "cli", "__main__",
)  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(ROOT / "ntkhpc").parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Modules, and names from modules, that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= set(names)
    return found


def imported_rooms(path: Path) -> set[str]:
    """Rooms of ntkhpc that a file imports."""
    parts = [name.split(".") for name in imported_modules(path)]
    return {part[1] for part in parts if part[0] == "ntkhpc" and len(part) > 1} - {"__version__"}


def test_imports_point_downward_only() -> None:
    checked = 0
    for path in sorted((ROOT / "ntkhpc").rglob("*.py")):
        own = room(path)
        if own == "__init__":
            continue
        assert own in ROOMS, f"{own} has no place in ROOMS"
        below = set(ROOMS[: ROOMS.index(own)]) | {own}
        assert imported_rooms(path) <= below, f"{path} imports {imported_rooms(path) - below}, which stand above it"
        checked += 1
    assert checked > 30


def test_the_analysis_stands_above_and_computes_no_networks() -> None:
    """It reads runs: study, schema, store, receipts; nothing that trains or solves, and nobody below imports it."""
    allowed = {"errors", "files", "sources", "any_study", "ensemble_study", "bayes_study", "study", "schema", "plan"}
    allowed |= {"convergence", "run", "receipts", "store", "partial"}
    for path in sorted((ROOT / "analysis").rglob("*.py")):
        if path.name == "showers.py":  # it reads no run: it draws what the generator makes
            ours = {name for name in imported_modules(path) if name.split(".")[0] == "ntkhpc"}
            assert all(name.startswith("ntkhpc.data.shower.") for name in ours), ours
            continue
        assert imported_rooms(path) <= allowed, f"{path} imports {imported_rooms(path) - allowed}"
    for path in sorted((ROOT / "ntkhpc").rglob("*.py")):
        assert "analysis" not in {name.split(".")[0] for name in imported_modules(path)}, path


def test_every_room_exists() -> None:
    assert {room(path) for path in (ROOT / "ntkhpc").rglob("*.py")} - {"__init__"} == set(ROOMS)
