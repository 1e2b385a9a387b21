"""How many calls an action makes: a measure of its Python overhead that no busy machine disturbs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def every(_frame: FrameType, _event: str, _argument: Any) -> bool:
    return True


def calls(
    action: Callable[[], object], counts: Callable[[FrameType, str, Any], bool] = every
) -> int:
    """Calls, into Python and into C, that `action` makes, of those that `counts` holds for.

    The garbage collector rests meanwhile: hypothesis has it call functions of its own, which would
    be counted where a collection happens to fall.
    """
    number = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal number
        number += event in ("call", "c_call") and counts(frame, event, argument)

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
        gc.enable()
    return number
