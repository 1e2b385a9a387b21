"""PyTorch: ``watch(model)`` and what it is made of."""

from shiftwatch.optional import need

need("torch", extra="torch", feature="Watching a PyTorch model")

from shiftwatch.integrations.torch.census import Exact as Exact  # noqa: E402
from shiftwatch.integrations.torch.census import exact as exact  # noqa: E402
from shiftwatch.integrations.torch.ics import ics as ics  # noqa: E402
from shiftwatch.integrations.torch.probe import Probe as Probe  # noqa: E402
from shiftwatch.integrations.torch.watch import watch as watch  # noqa: E402

__all__ = ["Exact", "Probe", "exact", "ics", "watch"]
