"""Ranks of ``torch.distributed``: messages through the store that the process group came up by.

No collective is called and no group is made, so the order of the user's own stays what it is, and
nothing waits: a rank that does not watch, or is gone, is one that sends no messages.
"""

from __future__ import annotations

import hashlib
import itertools
import queue
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch.distributed as dist
from torch import nn
from torch.distributed import distributed_c10d

from shiftwatch.integrations.torch import modules
from shiftwatch.integrations.torch.weights import local
from shiftwatch.ranks import Lost, Post, Ranks

# The largest value that every store takes in one piece.
_PIECE = 4 << 20
_watched: Counter[str] = Counter()


class StorePost:
    """Messages in a ``torch.distributed.Store``: see :class:`shiftwatch.ranks.Post`.

    Cost: 0.1 ms per call where the store is a server on this machine.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self.rank, self.size = store, rank, size

    def put(self, key: str, data: bytes) -> None:
        """Leave a message; long ones in pieces, the first of which comes last."""
        pieces = [data[at : at + _PIECE] for at in range(0, max(len(data), 1), _PIECE)]
        for i, piece in reversed(list(enumerate(pieces))):
            more = b"+" if i + 1 < len(pieces) else b"."
            self._store.set(key if i == 0 else f"{key}+{i}", more + piece)

    def there(self, keys: Sequence[str]) -> bool:
        """Whether all are there; asked in one call."""
        return bool(self._store.check(list(keys)))

    def get(self, key: str) -> bytes:
        """A message that is there."""
        found = []
        for i in itertools.count():
            piece = self._store.get(key if i == 0 else f"{key}+{i}")
            found.append(piece[1:])
            if piece[:1] == b".":
                return b"".join(found)
        raise AssertionError

    def drop(self, key: str) -> None:
        """Make room."""
        for i in itertools.count(1):
            if not self._store.delete_key(f"{key}+{i}"):
                break
        self._store.delete_key(key)


class Courier:
    """A post that answers within a time, or is given up: whatever may block does so in a thread.

    Args:
        post: the post.
        patience: seconds.

    Cost: 0.05 ms more per call.
    """

    def __init__(self, post: Post, patience: float = 5.0) -> None:
        self._post, self._patience = post, patience
        self.rank, self.size = post.rank, post.size
        self._errands: queue.SimpleQueue[tuple[str, Any, queue.SimpleQueue[Any]]] | None = None
        self._given_up = False

    def put(self, key: str, data: bytes) -> None:
        """See :class:`shiftwatch.ranks.Post`, as for the others."""
        self._send("put", key, data)

    def there(self, keys: Sequence[str]) -> bool:
        """Whether there are messages."""
        return bool(self._send("there", keys))

    def get(self, key: str) -> bytes:
        """A message that is there."""
        found: bytes = self._send("get", key)
        return found

    def drop(self, key: str) -> None:
        """Make room."""
        self._send("drop", key)

    def _send(self, errand: str, *args: Any) -> Any:
        if self._given_up:
            raise Lost("the store does not answer")
        if self._errands is None:
            self._errands = queue.SimpleQueue()
            threading.Thread(
                target=_run, args=(self._post, self._errands), name="shiftwatch", daemon=True
            ).start()
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._errands.put((errand, args, answer))
        try:
            result, error = answer.get(timeout=self._patience)
        except queue.Empty:
            self._given_up = True
            raise Lost(f"the store has not answered for {self._patience:g} s") from None
        if error is not None:
            self._given_up = True
            raise error
        return result

    def __del__(self) -> None:
        if self._errands is not None:
            self._errands.put(("", (), queue.SimpleQueue()))  # the thread ends


def _run(post: Post, errands: queue.SimpleQueue[tuple[str, Any, queue.SimpleQueue[Any]]]) -> None:
    while (errand := errands.get())[0]:
        name, args, answer = errand
        try:
            answer.put((getattr(post, name)(*args), None))
        except Exception as error:
            answer.put((None, error))


def reachable() -> bool:
    """Whether there are other ranks, and a store to leave messages in."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        return False
    return distributed_c10d._get_default_store() is not None


def _sharded(model: nn.Module | None) -> bool:
    """Whether this process holds parts of parameters, under either of the two FSDPs."""
    return model is not None and (
        any(local(p) is not p for p in model.parameters())
        or any(type(m).__name__ == "FullyShardedDataParallel" for m in model.modules())
    )


def ranks(model: nn.Module, layers: Iterable[str], mode: Literal["auto", "alone"]) -> Ranks | None:
    """The other ranks that train this model; ``None`` where there is one process.

    Args:
        model: the model, wrapped or not.
        layers: names of what is watched; ranks that watch other layers are not merged.
        mode: ``"alone"`` to leave the others out.
    """
    if mode == "alone" or not reachable():
        return None
    store = distributed_c10d._get_default_store()
    kind = type(modules.unwrap(model)).__name__
    what = hashlib.sha256("\n".join([kind, *layers]).encode()).hexdigest()[:16]
    name = f"{what}/{_watched[what]}"  # the same model watched again is another training
    _watched[what] += 1
    post = Courier(StorePost(store, dist.get_rank(), dist.get_world_size()))
    held = weakref.ref(model)
    return Ranks(post, name, lambda: _sharded(held()))
