"""PyTorch: ``watch(model)`` and what it is made of."""

from shiftwatch.optional import need

need("torch", extra="torch", feature="Watching a PyTorch model")

from shiftwatch.integrations.torch.watch import watch as watch  # noqa: E402

__all__ = ["watch"]
