"""Imports point downward only, floor by floor; no cycle hides in a string or a subprocess."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.runs import ROOT

from ntkhpc import studies

FLOORS = (
    {"ntkhpc", "ntkhpc.errors", "ntkhpc.files", "ntkhpc.seeds", "ntkhpc.references", "ntkhpc.version",
     "ntkhpc.words", "ntkhpc.refusals", "ntkhpc.gates", "ntkhpc.filesystem", "ntkhpc.start", "ntkhpc.surroundings",
     "ntkhpc.terminal", "ntkhpc.large_files"},
    {"ntkhpc.phase"},
    {"ntkhpc.networks", "ntkhpc.kernels", "ntkhpc.kernel_tile", "ntkhpc.close_pairs", "ntkhpc.expectations",
     "ntkhpc.tangents", "ntkhpc.blocks", "ntkhpc.dependence", "ntkhpc.threads", "ntkhpc.tiled", "ntkhpc.tile_panels",
     "ntkhpc.refinement", "ntkhpc.infinite_width", "ntkhpc.loss_law",
     "ntkhpc.triangular", "ntkhpc.tile_algebra", "ntkhpc.device_algebra", "ntkhpc.device_kernels",
     "ntkhpc.training", "ntkhpc.convergence", "ntkhpc.bayesian", "ntkhpc.linalg", "ntkhpc.programs",
     "ntkhpc.program_cache", "ntkhpc.first_layer", "ntkhpc.lanes", "ntkhpc.lane_training", "ntkhpc.rises",
     "ntkhpc.pinned", "ntkhpc.kernel_products", "ntkhpc.preconditioner", "ntkhpc.conjugate_gradients",
     "ntkhpc.probes", "ntkhpc.residuals", "ntkhpc.iterative", "ntkhpc.stax_text", "ntkhpc.stax_relu",
     "ntkhpc.stax_network", "ntkhpc.kernel_batches", "ntkhpc.traced", "ntkhpc.stax_cost",
     "ntkhpc.optimisers", "ntkhpc.output_scale", "ntkhpc.precisions", "ntkhpc.responses", "ntkhpc.minibatches",
     "ntkhpc.mixtures", "ntkhpc.symmetric", "ntkhpc.joint_loss",
     "ntkhpc.initial_weights", "ntkhpc.lanczos", "ntkhpc.tangent_products", "ntkhpc.leap_responses",
     "ntkhpc.leap_sizes", "ntkhpc.leaps", "ntkhpc.twins",
     "ntkhpc.dense_laws", "ntkhpc.exact_training", "ntkhpc.orthants", "ntkhpc.four_points",
     "ntkhpc.finite_width"},
    {"ntkhpc.data"},
    {"ntkhpc.studies"},
    {"ntkhpc.engine"},
    {"analysis"},
    {"ntkhpc.worker", "ntkhpc.library"},
    {"ntkhpc.launch", "ntkhpc.task"},
    {"ntkhpc.options", "ntkhpc.cli", "ntkhpc.__main__"},
)  # fmt: skip
"""From the ground up: folders, and modules that lie in none. `ntkhpc` itself is what stands in its __init__.py."""

SCIENCE = FLOORS[2]
MACHINERY = {"ntkhpc.phase", "ntkhpc.studies", "ntkhpc.engine"}

SOURCES = sorted(path for package in ("ntkhpc", "analysis") for path in (ROOT / package).rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path) for path in SOURCES}


def room(name: str) -> str:
    """The folder of a module, or the module itself where it lies in none; `analysis` is one room."""
    parts = name.split(".")
    return parts[0] if parts[0] == "analysis" else ".".join(parts[:2])


def floor(name: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room(name) in rooms]
    assert len(found) == 1, f"{name} has no place, or two, in FLOORS"
    return found[0]


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules of ours that a file imports or starts, anywhere in it, and whether at run time.

    A name in a string counts too where it is handed to importlib, or to Python as `-m`.
    """
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in whole]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.List | ast.Tuple):
            words = [one.value if isinstance(one, ast.Constant) else None for one in node.elts]
            names = [str(word) for option, word in pairwise(words) if option == "-m"]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if re.fullmatch(r"(ntkhpc|analysis)(\.\w+)+", node.value) else []
        yield from ((name, id(node) not in typing_only) for name in names if name in MODULES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: module(path))
def test_imports_point_downward_only(path: Path) -> None:
    own = module(path)
    for name, _ in imported(path):
        if own == "ntkhpc" and name in ("ntkhpc", "ntkhpc.library"):
            continue  # the library's one door, opened when it is asked for
        assert floor(name) <= floor(own), f"{own} imports {name}, which stands above it"
        assert floor(name) < floor(own) or room(name) == room(own) or floor(own) in (0, 2, 8, 9), (
            f"{own} imports {name}, a room beside its own"
        )


def test_no_module_imports_itself_in_the_end() -> None:
    """But for types: a phase names the class of the study that its own section is a part of."""
    needs = {module(path): {name for name, real in imported(path) if real} for path in SOURCES}
    for name in needs:  # a package's __init__ is imported with each of its modules, but waits for none of them
        needs[name].discard(name)
    order: list[str] = []
    open_: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in open_, f"a cycle: {' -> '.join((*way[way.index(name) :], name))}"
        if name in order:
            return
        open_.add(name)
        for needed in sorted(needs[name]):
            visit(needed, (*way, name))
        open_.discard(name)
        order.append(name)

    for name in sorted(needs):
        visit(name, ())


def test_science_and_data_know_no_machinery() -> None:
    for path in SOURCES:
        if room(module(path)) in SCIENCE:
            found = {room(name) for name, _ in imported(path)} & (MACHINERY | {"ntkhpc.data"})
            assert not found, f"{path} imports {found}"


def test_the_machinery_imports_no_jax_but_where_a_shard_runs() -> None:
    for path in SOURCES:
        if room(module(path)) in ("ntkhpc.engine", "ntkhpc.studies", "ntkhpc.phase", "ntkhpc.data"):
            top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {alias.name for node in top for alias in node.names} | {str(getattr(n, "module", "")) for n in top}
            assert not {name.split(".")[0] for name in names} & {"jax", "blackjax", "optax"}, path


def test_kinds_are_told_apart_in_one_place() -> None:
    """Nothing else asks of which class a study or a source is, and no table of the machinery is keyed by phases.

    A table is seen where it is a dict literal, all of whose keys, two or more, are names of phases.
    """
    classes = r"(\w*Study|Source|Calorimeter|Showers?\w*|TableFile|Images|Mnist|Cifar10)\b"
    for path in SOURCES:
        if module(path) == "ntkhpc.studies.kinds":
            continue
        text = path.read_text()
        assert not re.search(rf"isinstance\([^()]*, *\(?{classes}", text), path
        if room(module(path)) in ("ntkhpc.engine", "ntkhpc.launch", "ntkhpc.options", "ntkhpc.cli"):
            for node in ast.walk(ast.parse(text)):
                keys = [ast.unparse(key) for key in node.keys if key] if isinstance(node, ast.Dict) else []
                named = {repr(name) for name in studies.phase_names()} & set(keys)
                assert len(keys) < 2 or len(named) < len(keys), f"{path}, line {node.lineno}: a table keyed by phases"


def test_a_public_class_name_is_defined_once() -> None:
    """One name, one meaning: whoever reads `Section` or `Source` need not ask from which module it came."""
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module(path))
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert not twice, f"names with two meanings: {twice}"


def test_every_module_of_the_science_is_in_the_table_of_the_floors() -> None:
    (row,) = re.findall(r"^\| science \|(.*)\|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    lacking = {one.removeprefix("ntkhpc.") for one in SCIENCE} - set(re.findall(r"`(\w+)/?`", row))
    assert not lacking, f"docs/architecture.md lacks {sorted(lacking)}"


def test_every_room_of_the_floors_exists() -> None:
    assert {room(name) for name in MODULES} >= set().union(*FLOORS)
    assert len(FLOORS) <= 10
