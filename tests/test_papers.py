"""The figures of papers come out as docs/papers.md says, script by script."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "examples" / "papers"
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "papers.json").read_text(encoding="utf-8"))

#: Scripts, by what they need beside NumPy and matplotlib.
QUICK = {"bloom_spike": "", "lu_born_dead": "", "psi_null": "scipy"}
LONG = {
    "ioffe_szegedy": "torch sklearn",
    "santurkar": "torch sklearn",
    "noisy_batchnorm": "torch sklearn",
    "glorot_saturation": "sklearn",
    "glorot_profiles": "torch sklearn",
    "sokar_dormant": "torch sklearn",
    "wortsman_logits": "torch",
    "zhai_entropy": "torch",
    "arl_autocorrelation": "",
    "false_alarms": "torch sklearn",
    "root_cause": "torch sklearn",
}
ALL = {**QUICK, **LONG}


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=900)


def needs(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("name", LONG)
def test_a_long_script_finds_all_that_it_imports(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run with the slow tests: what they need of the benchmarks is looked for with every change."""
    needs("matplotlib", *ALL[name].split())
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.syspath_prepend(ROOT)
    runpy.run_path(str(SCRIPTS / f"{name}.py"))


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LONG)]
)
def test_the_figure_comes_out_as_the_page_says(name: str, tmp_path: Path) -> None:
    """Every claim holds, they are those of the page, and the figure is drawn."""
    needs("matplotlib", *ALL[name].split())
    file = tmp_path / "claims.json"
    ran = python(SCRIPTS / f"{name}.py", "--into", tmp_path, "--json", file)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    criteria = [claim["criterion"] for claim in json.loads(file.read_text(encoding="utf-8"))]
    assert criteria == [row["criterion"] for row in RESULTS if row["script"] == name]
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_claim_that_does_not_hold_fails_its_script(tmp_path: Path) -> None:
    """The exit code is that of the worst claim, and the worst seed is that of a claim."""
    needs("matplotlib")
    script = tmp_path / "wrong.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from paper import at_least, main, panels\n"
        "main(lambda seeds: (panels(1, '')[0], [at_least('a', [3, 1], 2), at_least('b', [2], 2)]))\n"
    )
    ran = python(script, "--into", tmp_path)
    assert ran.returncode == 1
    assert re.findall(r"^(\w+)  (\w)", ran.stdout, re.M) == [("FAILS", "a"), ("holds", "b")]


def test_the_page_shows_every_script_with_its_figure_and_every_claim_holds() -> None:
    """Scripts, figures, sections and results are the same."""
    scripts = {path.stem for path in SCRIPTS.glob("*.py")} - {"all", "paper", "transformer"}
    assert scripts == ALL.keys()
    assert scripts == set(re.findall(r"^## (\w+)$", PAGE, re.M))
    assert scripts == set(re.findall(r"\(papers/(\w+)\.png\)", PAGE))
    assert scripts == {path.stem for path in (ROOT / "docs" / "papers").glob("*.png")}
    assert scripts == {row["script"] for row in RESULTS}
    assert all(row["holds"] for row in RESULTS)


def test_the_page_has_what_was_measured() -> None:
    """Its tables are those of the results."""
    for row in RESULTS:
        assert f"| {row['criterion']} | {row['measured']} | holds |" in PAGE
