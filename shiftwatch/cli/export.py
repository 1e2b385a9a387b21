"""Write a table of a run to a file, for pandas, Polars, R, DuckDB or a spreadsheet.

  shiftwatch export runs/first first.parquet
  shiftwatch export runs/first alerts.csv --table alerts

The file's ending says how: .parquet, .csv or .json. The tables:

  metrics    step, layer, tensor, metric, value: a row per number
  windows    first and last step of each window, its mean loss, the learning rate at its end
  losses     step, loss, learning_rate: step by step, where the run was not thinned
  alerts, incidents, events, layers
             a row each, with what shiftwatch knows of it

Parquet needs pyarrow: pip install 'shiftwatch[export]'. Prints the path of the file.
"""

from __future__ import annotations

import argparse

from shiftwatch.cli.files import read, run_argument, target
from shiftwatch.cli.terminal import say, waiting

#: As in shiftwatch.tables, which takes NumPy to load; a test holds them alike.
TABLES = ("metrics", "windows", "losses", "alerts", "incidents", "events", "layers")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    run_argument(parser)
    parser.add_argument("file", metavar="FILE", help="ends in .parquet, .csv or .json")
    parser.add_argument(
        "--table",
        choices=TABLES,
        default="metrics",
        metavar="TABLE",
        help=f"which one: {', '.join(TABLES)} (default: metrics)",
    )
    parser.add_argument(
        "--mode",
        choices=("train", "eval"),
        default="train",
        help="metrics seen in training or in evaluation (default: train)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the table, print its path."""
    from shiftwatch.export import export

    recorded = read(args.folder, args.attempt)
    path = target(args.file)
    with waiting("Writing the table"):
        export(recorded, path, args.table, mode=args.mode)
    say(str(path))
    return 0
