"""PyTorch: ``watch(model)`` and what it is made of."""

from shiftwatch.optional import need

need("torch", extra="torch", feature="Watching a PyTorch model")

from shiftwatch.integrations.torch.attention import attention as attention  # noqa: E402
from shiftwatch.integrations.torch.census import Exact as Exact  # noqa: E402
from shiftwatch.integrations.torch.census import exact as exact  # noqa: E402
from shiftwatch.integrations.torch.check import check as check  # noqa: E402
from shiftwatch.integrations.torch.ics import ics as ics  # noqa: E402
from shiftwatch.integrations.torch.probe import Probe as Probe  # noqa: E402
from shiftwatch.integrations.torch.recurrence import over_time as over_time  # noqa: E402
from shiftwatch.integrations.torch.watch import watch as watch  # noqa: E402

__all__ = ["Exact", "Probe", "attention", "check", "exact", "ics", "over_time", "watch"]
