"""The command line: `shiftwatch demo`, `show`, `alerts`, `report`, `serve`, `compare`, `export`.

A command is a module of this package: its docstring is its help, `arguments` its options and
`run` what it does. NumPy is loaded when a command needs it, so that help answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from shiftwatch._version import __version__
from shiftwatch.cli import alerts, compare, demo, export, report, serve, show
from shiftwatch.cli.terminal import escape

#: The commands, in the order in which a newcomer meets them.
COMMANDS = (demo, show, alerts, report, serve, compare, export)

_ABOUT = """\
Read what shiftwatch recorded: a run is the folder that a training script wrote,
with watch(model, run="runs/first") or Monitor(run="runs/first")."""

_MORE = """\
exit codes:
  0    fine
  1    `alerts`, or `compare --fail-on`, found some; `demo` got a verdict wrong
  2    wrong usage, or an input that cannot be read or an output that cannot be written
  130  stopped with Ctrl-C

`shiftwatch COMMAND --help` says more, with an example each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: what follows the program's name; by default that of the process.

    Returns:
        The exit code, as listed in ``shiftwatch --help``; 141 where the reader of a pipe
        has left.

    Raises:
        SystemExit: for ``--help``, ``--version`` and wrong usage.

    Example:
        >>> main(["alerts", "no/such/run"])  # says why on stderr
        2
    """
    _never_fail_on_a_character()
    args = _parser().parse_args(argv)
    try:
        code = int(args.run_command(args))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()
        return 141
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        else:
            print(f"shiftwatch: {_in_words(error)}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    """Wrong usage in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"shiftwatch: {escape(message)}. See: {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="shiftwatch",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=style,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"shiftwatch {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        text = (command.__doc__ or name).strip()
        summary = text.partition("\n")[0].rstrip(".")
        sub = commands.add_parser(
            name,
            help=summary[0].lower() + summary[1:],
            description=text,
            formatter_class=style,
            allow_abbrev=False,
        )
        # Suppressed, or its default would undo `shiftwatch --debug COMMAND`.
        sub.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        command.arguments(sub)
        sub.set_defaults(run_command=command.run)
    return parser


def _in_words(error: Exception) -> str:
    """An error in one line. Ours say the cure themselves; the system's get a hint."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror}. Check the path and that you may read and write there."
    elif isinstance(error, (ValueError, OSError, ImportError)):
        text = str(error) or type(error).__name__
    else:
        text = (
            f"unexpected {type(error).__name__}: {error}. This is a fault of shiftwatch; "
            "please report it with what `shiftwatch --debug …` prints."
        )
    return escape(" ".join(text.split()))


def _never_fail_on_a_character() -> None:
    """A terminal that cannot show "·" or a layer's name gets a "?" instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard_output() -> None:
    """Python flushes stdout once more at its end, which must not complain again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, io.UnsupportedOperation):  # not a real file: nothing will be flushed
        pass
