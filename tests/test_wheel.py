"""What users install: the wheel, in a clean environment, seen from another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

INTEGRATIONS = sorted(
    path.stem for path in (ROOT / "integrations").iterdir() if path.stem[0] not in "_."
)

#: What a checkout holds that is no source.
DEBRIS = shutil.ignore_patterns(
    ".*_cache", ".git", ".hypothesis", ".venv*", "*.egg-info", "__pycache__", "build", "dist",
    "lightning_logs", "runs", "shiftwatch-runs",
)  # fmt: skip


def attempt(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command away from the checkout, its environment and the user's settings."""
    hidden = ("PYTHON", "PIP_", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True
    )


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed."""
    ran = attempt(*command, cwd=cwd)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


class Environment:
    """A fresh virtual environment that holds some packages of this one, and no network."""

    def __init__(self, path: Path, *packages: str) -> None:
        venv.create(path, with_pip=True)
        self.bin = path / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        there = self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(run(*there, cwd=path).strip())
        for package in packages:
            for file in distribution(package).files or ():
                if ".." not in file.parts and "tests" not in file.parts:
                    (site / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(str(file.locate()), site / file)

    def install(self, *what: str | Path) -> None:
        """With its requirements, from what is here: it fails where one is missing."""
        pip = self.python, "-m", "pip", "--isolated", "--disable-pip-version-check", "install"
        run(*pip, "--no-index", "--no-build-isolation", *what, cwd=self.bin)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building leaves things behind."""
    copy = tmp_path_factory.mktemp("source") / "shiftwatch"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=DEBRIS)
    return copy


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel straight from the checkout, the source archive, and the wheel from that."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("built")
    build = sys.executable, "-m", "build", "--no-isolation"
    run(*build, "--wheel", "--outdir", out / "straight", source, cwd=out)
    run(*build, "--outdir", out / "archive", source, cwd=out)
    (straight,) = (out / "straight").glob("*.whl")
    (archive,) = (out / "archive").glob("*.tar.gz")
    (around,) = (out / "archive").glob("*.whl")
    return {"straight": straight, "archive": archive, "around": around}


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with NumPy and the wheel: nothing else was asked for."""
    environment = Environment(tmp_path_factory.mktemp("clean") / "venv", "numpy")
    environment.install(built["straight"])
    return environment


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if ".dist-info/" not in name and not name.endswith("/")
        }


def test_the_wheel_holds_every_file_of_the_two_folders(built: dict[str, Path]) -> None:
    expected = set()
    for folder, name in (("shiftwatch", "shiftwatch"), ("integrations", "shiftwatch/integrations")):
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT / folder)
            if path.is_file() and "__pycache__" not in path.parts:
                if not (folder == "shiftwatch" and inside.parts[0] == "integrations"):
                    expected.add(f"{name}/{inside.as_posix()}")
    assert contents(built["straight"]).keys() == expected


def test_the_wheel_from_the_source_archive_is_the_same(built: dict[str, Path]) -> None:
    assert contents(built["around"]) == contents(built["straight"])


def test_the_source_archive_brings_its_tests_and_its_tools(built: dict[str, Path]) -> None:
    with tarfile.open(built["archive"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert names >= tests | {"conftest.py", "LICENSE", "Makefile", "constraints.txt", ".ci/run"}


def test_the_wheel_needs_numpy_alone(installed: Environment, tmp_path: Path) -> None:
    code = (
        "import shiftwatch as s, sys; assert 'site-packages' in s.__file__, s.__file__;"
        "print(float(s.summarize([1.0, 3.0]).mean), 'torch' in sys.modules)"
    )
    assert run(installed.python, "-c", code, cwd=tmp_path) == "2.0 False\n"


def test_the_installed_command_knows_its_version(installed: Environment, tmp_path: Path) -> None:
    from shiftwatch._version import __version__

    assert run(installed.bin / "shiftwatch", "--version", cwd=tmp_path).split()[-1] == __version__


def test_the_demo_runs_with_numpy_alone(installed: Environment, tmp_path: Path) -> None:
    assert "3 of 3 verdicts are right" in run(installed.bin / "shiftwatch", "demo", cwd=tmp_path)


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_integration_without_its_package_says_how_to_get_it(
    installed: Environment, tmp_path: Path, name: str
) -> None:
    ran = attempt(installed.python, "-c", f"import shiftwatch.integrations.{name}", cwd=tmp_path)
    assert ran.returncode == 1
    assert f"pip install 'shiftwatch[{name}]'" in ran.stderr.splitlines()[-1]


def test_an_editable_install_sees_both_folders(source: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", "numpy", "setuptools")
    environment.install("--editable", source)
    code = (
        "import shiftwatch, shiftwatch.integrations as i; print(shiftwatch.__file__, *i.__path__)"
    )
    package, integrations = run(environment.python, "-c", code, cwd=tmp_path).split()
    assert Path(package).parent == source / "shiftwatch"
    assert Path(integrations).resolve() == source / "integrations"


def test_a_users_type_checker_sees_our_types(installed: Environment, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(
        "import shiftwatch\n"
        "reveal_type(shiftwatch.summarize([1.0]))\n"
        "shiftwatch.summarize([1.0], units_axis='last')\n"
    )
    mypy = sys.executable, "-m", "mypy", "--python-executable", installed.python
    said = attempt(*mypy, "user.py", cwd=tmp_path).stdout
    assert "shiftwatch.summaries.summary.Summary" in said
    assert 'user.py:3: error: Argument "units_axis"' in said
    assert "Found 1 error" in said
