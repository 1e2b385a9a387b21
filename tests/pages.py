"""The pages of docs/ as programs: their code runs from top to bottom, and prints what they print.

    python -m tests.pages docs/tutorial.md …

writes what the pages' code prints into them; with ``--check`` it only compares. A page is one program, in a folder of its own: blocks
of ``python`` share their names; of ``console`` each ``$ …`` is run, and what follows is its output;
a block ``text title="Output"`` is what the block before it prints. Blocks of other languages are no
code. Commands that install something or start a server (:data:`NOT_RUN`) are left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # nets this small only lose by sharing their work

from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).resolve().parents[1]

#: First words of commands that are shown and not run.
NOT_RUN = {"git", "make", "pip", "tensorboard", "wandb"}

TRAINING = """\
import torch
from torch import nn
from shiftwatch.integrations.torch import watch
torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()
inputs, targets = torch.randn(256, 16), torch.randint(4, (256,))
x, y = inputs[:64], targets[:64]
loader = [(x, y)] * 20


def train(monitor):
    for step in range(160):
        if step == 120:
            with torch.no_grad():
                model[0].weight *= 5
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.step(loss=loss)
"""

RUNS = """\
import numpy as np
from shiftwatch import Monitor
for name, factor in (("good", 1), ("new", 5)):
    random = np.random.default_rng(factor)
    with Monitor(run=f"runs/{name}") as monitor:
        for step in range(240):
            for layer in ("fc1", "fc2", "fc3"):
                values = random.normal(size=(64, 16)) * (1 + step / 240)
                moved = layer == "fc2" and step >= 120
                monitor.observe(layer, values * (factor if moved else 1))
            monitor.step(loss=2 * 0.99**step)
"""

#: What the reader of a page has, where its code is not whole.
BEFORE = {
    **dict.fromkeys(("docs/index.md", "docs/alarms.md", "docs/ics.md"), TRAINING),
    "docs/comparison.md": RUNS,
}

OUTPUT = 'text title="Output"'


class Page:
    """A page that runs.

    Args:
        path: the Markdown file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.printed = ""  # of the last block of code
        self.found: list[tuple[Example, str]] = []  # block and what it should hold
        parsers = [
            CodeBlockParser("python", self._python),
            CodeBlockParser("console", self._console),
            CodeBlockParser(OUTPUT, self._output),
        ]
        self.document = Document.parse(str(path), *parsers)
        self.before = (
            BEFORE.get(path.relative_to(ROOT).as_posix(), "") if ROOT in path.parents else ""
        )

    def run(self) -> None:
        """All blocks, in order; raises what they raise."""
        exec(self.before, self.document.namespace)
        for example in self.document.examples():
            example.evaluate()

    def differences(self) -> Iterator[str]:
        """Where the page prints something else than its code, after :meth:`run`."""
        for example, wanted in self.found:
            if words(example.parsed) != words(wanted):
                yield f"{self.path}:{example.line}: the page prints\n{example.parsed}\nits code\n{wanted}"

    def written(self) -> str:
        """The page with what its code prints, after :meth:`run`."""
        text = self.document.text
        for example, wanted in reversed(self.found):
            head, _, rest = text[example.start : example.end].partition("\n")
            fence = rest.rpartition("\n")[2]
            text = f"{text[: example.start]}{head}\n{wanted}{fence}{text[example.end :]}"
        return text

    def _python(self, example: Example) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            PythonEvaluator()(example)
        self.printed = out.getvalue()

    def _console(self, example: Example) -> None:
        lines = []
        for command in re.findall(r"^\$ (.*)$", example.parsed, re.MULTILINE):
            lines.append(f"$ {command}\n")
            if shlex.split(command, comments=True)[0] not in NOT_RUN:
                lines.append(_shell(command))
        self.found.append((example, "".join(lines)))

    def _output(self, example: Example) -> None:
        self.found.append((example, _wrapped(self.printed)))


def _shell(command: str) -> str:
    """What a command prints. 1 is an answer (there are alerts), 2 a failure."""
    here = f'shiftwatch() {{ "{sys.executable}" -m shiftwatch "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-c", here + command],
        env={**os.environ, "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    if done.returncode > 1:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}")
    lines = [line.rstrip() for line in done.stdout.rstrip().splitlines()]
    return (
        "\n".join(line for line in lines if not line.endswith(" …")) + "\n"
    )  # said if it takes long


def _wrapped(text: str) -> str:
    """Lines as a terminal of 100 columns breaks them, at words."""
    wrap = partial(
        textwrap.wrap, width=100, subsequent_indent="    ",
        replace_whitespace=False, drop_whitespace=True, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    lines = [
        "\n".join(wrap(line)) if len(line) > 110 else line.rstrip()
        for line in text.rstrip().splitlines()
    ]
    return "\n".join(lines) + "\n" if lines else ""


def words(text: str) -> list[str]:
    """What must be the same on every machine: not numbers, nor what is drawn of them."""
    text = re.sub(r"[-−+×]?\d[\d,.]*(e[-+]?\d+)?\s*%?", " # ", text)
    text = re.sub(r"(-\w) ([A-Z]+), (--[\w-]+) \2", r"\1, \3 \2", text)  # argparse before 3.13
    text = re.sub(r"\b(nan|inf)\b|[▁▂▃▄▅▆▇█─…]", " ", text)
    return text.split()


def main(paths: list[str]) -> int:
    """Run pages and write what they print; 1 where something differed."""
    warnings.simplefilter("ignore")  # what others complain of is not the page's business
    warnings.filterwarnings("error", module="shiftwatch")
    changed = 0
    for path in (Path(path) for path in paths if path != "--check"):
        page = Page(path.resolve())
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                page.run()
            finally:
                os.chdir(before)
        differences = list(page.differences())
        print(*differences or [f"{path}: as printed"], sep="\n\n")
        changed |= bool(differences)
        if "--check" not in paths:
            path.write_text(page.written(), encoding="utf-8")
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
