"""The house rules that a machine can hold: who imports whom, what is packed, what is promised."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]

#: Imports point from later to earlier stages. A room that is named here never reaches a later
#: one, not even through a third; rooms that are not named are only held free of cycles.
STAGES = (
    {"records", "activations", "optional"},
    {"summaries"},
    {"statistics", "divergences"},
    {"catalogue", "references"},
    {"rules", "incidents", "judgement"},
    {"monitor"},
    {"demo"},
    {"cli"},
)

#: Rooms that know only these others of ours.
KNOWS = {
    "detectors": set[str](),
    "reporters": {"records", "optional"},
    "statistics": {"summaries", "activations"},
    "divergences": {"summaries", "activations", "statistics"},
}

#: Extras that serve the core: their packages are imported inside the function that needs them.
CORE_EXTRAS = ("export", "polars", "cli", "plots")


class Import(NamedTuple):
    name: str  # dotted, as far as the text tells: module, or module and the name taken from it
    inside: bool  # inside a function


def imports(source: str) -> Iterator[Import]:
    """All imports of a text that can happen when it runs: not those for type checkers."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from walk(child, inside)
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from (Import(f"{start}.{alias.name}", inside) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in {"need", "import_module", "__import__"}:
                yield Import(str(node.args[0].value), inside)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside or function)

    return walk(ast.parse(source), False)


def requirements(extra: str) -> set[str]:
    """Names of the packages that an extra asks for, ours left out."""
    names = {re.split(r"[\[<>=!~; ]", line)[0] for line in EXTRAS[extra]}
    return names - {"shiftwatch"}


def faults(sources: dict[str, str]) -> list[str]:
    """What breaks the rules of import in the core, given its modules: room and file to text."""
    rooms = {name.partition("/")[0] for name in sources}
    late = set[str]().union(*(requirements(extra) for extra in CORE_EXTRAS))
    known: dict[str, set[str]] = {room: set() for room in rooms}
    found = []
    for name, source in sources.items():
        room = name.partition("/")[0]
        for name_of_import, inside in imports(source):
            top, _, rest = name_of_import.partition(".")
            target = rest.partition(".")[0]
            if not top:
                found.append(f"{name}: {name_of_import} is relative; say shiftwatch.…")
            elif top != "shiftwatch":
                if top in late and not inside:
                    found.append(f"{name}: {top} must be imported inside a function")
                elif top not in late and top != "numpy" and top not in sys.stdlib_module_names:
                    found.append(f"{name}: {top} is neither NumPy nor the standard library")
            elif target == "integrations":
                found.append(f"{name}: the core knows no integration; look it up by entry point")
            elif target not in rooms:
                if room not in ("", "demo", "cli", "__main__"):
                    found.append(f"{name}: take {target or 'it'} from its own module")
            elif target != room:
                known[room].add(target)
                if room in KNOWS and target not in KNOWS[room]:
                    found.append(f"{name}: {room} may not know {target}")

    def reached(room: str) -> set[str]:
        seen: set[str] = set()
        ahead = set(known[room])
        while ahead:
            seen |= ahead
            ahead = set().union(*(known[r] for r in ahead)) - seen
        return seen

    stage = {room: i for i, rooms_of_it in enumerate(STAGES) for room in rooms_of_it}
    for room in sorted(rooms):
        others = reached(room)
        if room in others:
            found.append(f"{room}: is part of a cycle of imports")
        for other in sorted(others & stage.keys() if room in stage else ()):
            if stage[other] > stage[room]:
                found.append(f"{room}: reaches {other}, which comes later")
    return found


def core() -> dict[str, str]:
    """The modules of the core, ``room/file`` to source text; the front door has the room ``""``."""
    found = {}
    for path in sorted((ROOT / "shiftwatch").rglob("*.py")):
        parts = path.relative_to(ROOT / "shiftwatch").with_suffix("").parts
        if parts[0] != "integrations":
            name = "/".join(parts)
            found[name if name != "__init__" else ""] = path.read_text(encoding="utf-8")
    return found


def test_imports_point_one_way_and_the_core_needs_numpy_alone() -> None:
    assert faults(core()) == []


@pytest.mark.parametrize(
    ("name", "source", "word"),
    [
        ("summaries/x", "import torch", "neither NumPy"),
        ("summaries/x", "def f():\n    import torch", "neither NumPy"),
        ("store", "import pandas", "inside a function"),
        ("store", "if True:\n    from pandas import DataFrame", "inside a function"),
        ("store", "pandas = need('pandas', extra='export', feature='x')", "inside a function"),
        ("cli", "from shiftwatch.integrations.torch import demo", "no integration"),
        ("cli", "import_module('shiftwatch.integrations.torch')", "no integration"),
        ("summaries/x", "from . import moments", "relative"),
        ("summaries/x", "from shiftwatch.monitor import Monitor", "comes later"),
        ("summaries/x", "def f():\n    from shiftwatch import monitor", "comes later"),
        ("summaries/x", "from shiftwatch.frame import x", "comes later"),
        ("records", "from shiftwatch.summaries import Summary", "cycle"),
        ("detectors/x", "from shiftwatch.records import Alert", "may not know"),
        ("statistics/x", "from shiftwatch.divergences import kl", "may not know"),
        ("rules", "from shiftwatch import Alert", "its own module"),
    ],
)
def test_the_check_of_imports_can_fail(name: str, source: str, word: str) -> None:
    house = {
        "": "from shiftwatch.records import Alert",
        "records": "import numpy as np",
        "summaries/x": "from shiftwatch.records import Site",
        "statistics/x": "from shiftwatch.summaries.x import Summary",
        "divergences/x": "",
        "detectors/x": "import math",
        "frame": "from shiftwatch.rules import Rule",
        "rules": "from shiftwatch.statistics import x",
        "monitor": "from shiftwatch.rules import Rule",
        "store": "def f():\n    import pandas",
        "cli": "from shiftwatch.monitor import Monitor",
    }
    assert faults(house) == []
    assert any(word in fault for fault in faults({**house, name: source}))


def test_imports_for_type_checkers_alone_do_not_count() -> None:
    text = "if TYPE_CHECKING:\n    import torch\nelse:\n    import json"
    assert list(imports(text)) == [Import("json", False)]


def test_integrations_import_the_core_by_its_full_name() -> None:
    relative = {
        str(path.relative_to(ROOT)): found.name
        for path in (ROOT / "integrations").rglob("*.py")
        for found in imports(path.read_text(encoding="utf-8"))
        if found.name.startswith(".")
    }
    assert relative == {}


def loaded(statement: str) -> set[str]:
    """Top-level packages that a statement loads on top of NumPy, in a fresh interpreter."""
    code = (
        "import sys, numpy, numpy.random; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split()) - sys.stdlib_module_names


def test_importing_shiftwatch_loads_numpy_and_the_standard_library_alone() -> None:
    assert loaded("import shiftwatch") == {"shiftwatch"}


def test_no_module_of_the_core_loads_more_than_that() -> None:
    names = ["shiftwatch" + f".{name}".replace("/", ".") for name in core() if name]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    assert loaded(f"import {', '.join(names)}") == {"shiftwatch"}


def test_the_check_of_what_is_loaded_can_fail() -> None:
    assert loaded("import pytest") >= {"pytest"}


def test_every_package_is_listed_in_pyproject() -> None:
    """Setuptools packs what is listed and is silent about the rest."""
    listed = PROJECT["tool"]["setuptools"]["packages"]
    found = {
        ".".join((name, *path.parent.relative_to(ROOT / folder).parts))
        for folder, name in (
            ("shiftwatch", "shiftwatch"),
            ("integrations", "shiftwatch.integrations"),
        )
        for path in (ROOT / folder).rglob("*.py")
        if path.relative_to(ROOT / folder).parts[0] != "integrations"
    }
    assert listed == sorted(found)


def test_the_link_shows_integrations_under_their_own_name() -> None:
    link = ROOT / "shiftwatch" / "integrations"
    if not link.exists():
        pytest.skip("unpacked from a source archive, which holds no links")
    assert link.resolve() == ROOT / "integrations"


def test_an_integration_refuses_to_be_imported_from_its_folder() -> None:
    """On sys.path, integrations/torch would hide PyTorch itself."""
    spec = importlib.util.spec_from_file_location(
        "integrations", ROOT / "integrations" / "__init__.py"
    )
    assert spec is not None and spec.loader is not None
    with pytest.raises(ImportError, match="take its parent folder off"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_every_integration_has_an_extra_of_its_name() -> None:
    names = {path.stem for path in (ROOT / "integrations").iterdir() if path.stem[0] not in "_."}
    assert names <= EXTRAS.keys()


def test_all_brings_every_extra_that_a_user_needs() -> None:
    (everything,) = EXTRAS["all"]
    named = set(everything.removeprefix("shiftwatch[").removesuffix("]").split(","))
    assert named == EXTRAS.keys() - {"all", "demo", "docs", "test", "dev"}


def test_every_dependency_says_what_needs_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text[text.index("dependencies = [") : text.index("[project.scripts]")].splitlines()
    unexplained = [
        line
        for line in lines
        if line.startswith('    "') and "shiftwatch[" not in line and "#" not in line
    ]
    assert unexplained == []


def test_every_entry_point_leads_to_a_module() -> None:
    project = PROJECT["project"]
    targets = [*project["scripts"].values()]
    for group in project["entry-points"].values():
        targets += group.values()
    for target in targets:
        module, _, function = target.partition(":")
        path = ROOT / module.replace("shiftwatch.integrations", "integrations").replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = file.read_text(encoding="utf-8")
        assert f"def {function}(" in text, target


def test_the_names_that_users_rely_on_are_there() -> None:
    import shiftwatch

    for name in ("Alert", "Incident", "Monitor", "metrics", "open", "summarize", "__version__"):
        assert name in dir(shiftwatch)
        assert getattr(shiftwatch, name)
    first = {"mean_shift", "variance_shift", "kl", "saturation", "dead_fraction"}
    then = {"js", "psi", "wasserstein", "ks", "zero_fraction", "nonfinite", "kurtosis"}
    assert first | then <= set(shiftwatch.metrics)


def test_an_optional_package_that_is_missing_says_how_to_get_it() -> None:
    from shiftwatch.optional import MissingDependencyError, need

    with pytest.raises(MissingDependencyError, match=r"pip install 'shiftwatch\[export\]'"):
        need("no_such_package.table", extra="export", feature="Export to Parquet")


def test_an_optional_package_that_is_broken_shows_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shiftwatch.optional import need

    (tmp_path / "broken_package.py").write_text("import gone_with_the_update")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="gone_with_the_update") as caught:
        need("broken_package", extra="export", feature="Export to Parquet")
    assert type(caught.value) is ModuleNotFoundError


def test_every_extra_that_code_names_exists() -> None:
    """The advice of an error must work: `pip install 'shiftwatch[...]'`."""
    named = set()
    for folder in ("shiftwatch", "integrations"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for match in re.findall(r"shiftwatch\[([a-z,]+)\]|extra=\"([a-z]+)\"", text):
                named |= set("".join(match).split(","))
    assert named <= EXTRAS.keys()


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_every_link_of_our_pages_leads_somewhere() -> None:
    dead = []
    for page in pages():
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert dead == []


def test_the_changelog_knows_this_version() -> None:
    from shiftwatch._version import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in text
