"""Show runs in a browser while trainings write them.

  shiftwatch serve runs
  shiftwatch serve runs/first --port 8000
  shiftwatch serve runs --host 0.0.0.0

A page lists the runs of a folder, newest first, and opens their reports, which grow by
themselves. It reads the folder in a process of its own; trainings do not notice.
Only this machine can reach it, unless --host says otherwise: then the address that is
printed holds a token, without which nothing is shown. On a machine that you reach by ssh:

  ssh -L 6180:localhost:6180 machine shiftwatch serve runs --port 6180

Ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from pathlib import Path
from typing import Any

from shiftwatch.cli.terminal import say

#: The usual port; another free one where it is taken and none was asked for.
PORT = 6180


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("folder", metavar="RUNS", help="a folder of runs, or a run")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, help=f"0 for any free one (default: {PORT}, or a free one)"
    )
    parser.add_argument(
        "--token", action="store_true", help="ask for a token on this machine, too: others use it"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from shiftwatch.live.server import Server

    if not Path(args.folder).is_dir():
        raise FileNotFoundError(
            f"{args.folder} is no folder. Give the folder in which trainings write their runs."
        )
    server = _server(Server, args)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        say(f"{args.folder} at {server.url}   (Ctrl-C ends)")
        sys.stdout.flush()
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        server.server_close()
    return 0


def _server(make: Any, args: argparse.Namespace) -> Any:
    ports = [PORT, 0] if args.port is None else [args.port]
    for port in ports:
        try:
            return make(args.folder, args.host, port, args.token)
        except OSError as error:
            taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
            if taken and port != ports[-1]:
                continue
            cure = (
                "Choose another --port, or 0 for any free one."
                if taken
                else "Give an address of this machine as --host."
            )
            raise OSError(
                f"{args.host} port {port} cannot be bound ({error.strerror or error}). {cure}"
            ) from None
    raise AssertionError("unreachable: the last port returns or raises")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535; got {text}")
    return int(text)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
