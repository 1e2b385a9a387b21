"""``python -m shiftwatch``: the command line."""

import sys

from shiftwatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
