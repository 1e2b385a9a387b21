"""Write all metrics of a run as one table, for pandas, R, DuckDB or a spreadsheet.

  shiftwatch export runs/first first.parquet
  shiftwatch export runs/first first.csv

Columns: step, layer, tensor, metric, value; a row per number. The file's ending says how:
.parquet, .csv or .json. Needs pandas, and for Parquet pyarrow: pip install
'shiftwatch[export]'. Prints the path of the file.
"""

from __future__ import annotations

import argparse

from shiftwatch.cli.files import read, run_argument, target
from shiftwatch.cli.terminal import say, waiting


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    run_argument(parser)
    parser.add_argument("file", metavar="FILE", help="ends in .parquet, .csv or .json")
    parser.add_argument(
        "--mode",
        choices=("train", "eval"),
        default="train",
        help="what was seen in training or in evaluation (default: train)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the table, print its path."""
    from shiftwatch.export import export

    recorded = read(args.folder, args.attempt)
    path = target(args.file)
    with waiting("Writing the table"):
        export(recorded, path, mode=args.mode)
    say(str(path))
    return 0
