"""Several processes with a gloo group, for tests of what ranks do together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds after which a test has hung.
LIMIT = 120.0


def together(work: Callable[..., Any], folder: Path, *args: Any, size: int = 2) -> list[Any]:
    """Run ``work(rank, folder, *args)`` in so many processes; what each returned.

    Each process has a default group over gloo, one thread, and its own result. ``None`` for a
    process that did not live to return one.

    Raises:
        AssertionError: where a process raises or hangs.
    """
    # Forked from a process that has imported torch and done nothing else.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed.fsdp", "shiftwatch.integrations.torch"])
    processes = [
        context.Process(target=_main, args=(rank, size, folder, work, args)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + LIMIT
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    hung = [rank for rank, process in enumerate(processes) if process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    assert not hung, f"ranks {hung} hang"
    results: list[Any] = []
    for rank in range(size):
        file = folder / f"result{rank}"
        raised, result = pickle.loads(file.read_bytes()) if file.exists() else ("", None)
        assert not raised, f"rank {rank}:\n{raised}"
        results.append(result)
    return results


class Said(logging.Handler):
    """What the logger ``shiftwatch`` said in this process."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        logging.getLogger("shiftwatch").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _main(
    rank: int, size: int, folder: Path, work: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # Rank 0 chooses a free port and keeps it: its store is the one that the others are told of.
    port = folder / "port"
    if rank == 0:
        store = dist.TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
        (folder / "port.new").write_text(str(store.port))
        (folder / "port.new").rename(port)
    else:
        while not port.exists():
            time.sleep(0.01)
        store = dist.TCPStore("127.0.0.1", int(port.read_text()), size, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    try:
        outcome = "", work(rank, folder, *args)
    except BaseException:
        outcome = traceback.format_exc(), None
    (folder / f"result{rank}.new").write_bytes(pickle.dumps(outcome))
    (folder / f"result{rank}.new").rename(folder / f"result{rank}")
    os._exit(0)  # as a process ends that has nothing to tell the others any more
