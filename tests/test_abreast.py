"""Work on several threads: in order, with its errors, and until the interpreter ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from shiftwatch.abreast import abreast


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item < 3 else 0.0)
        return item * item

    assert abreast(slow_at_first, range(64)) == [item * item for item in range(64)]


def test_a_few_items_begin_no_thread() -> None:
    assert set(abreast(lambda item: threading.get_ident(), range(8))) == {threading.get_ident()}
    assert abreast(str, []) == []


@pytest.mark.parametrize("error", [ValueError("broken"), RuntimeError("broken")])
def test_an_error_of_the_work_comes_out(error: Exception) -> None:
    def breaks(item: int) -> None:
        if item == 40:
            raise error

    with pytest.raises(type(error), match="broken"):
        abreast(breaks, range(64))


def test_it_works_while_the_interpreter_ends() -> None:
    """No thread begins then: a report that is written at exit is written all the same."""
    ends = (
        "import atexit; from shiftwatch.abreast import abreast; "
        "atexit.register(lambda: print(sum(abreast(abs, range(-64, 0)))))"
    )
    done = subprocess.run([sys.executable, "-c", ends], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2080\n", "")
