"""Optional packages: imported where they are needed, and how to get them where they are not."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MissingDependencyError(ImportError):
    """An optional package is not installed; the message holds the command that installs it.

    A class of its own, so that the command line can say this in one line without a traceback.
    """


def need(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import a module of an optional package, inside the function that needs it.

    Args:
        module: dotted name, as in ``import``.
        extra: the extra of shiftwatch that brings it.
        feature: what asks for it, in the user's words; begins the message.

    Returns:
        The module.

    Raises:
        MissingDependencyError: where the package is not installed.
        Exception: whatever a package that is installed, but broken, raises on import.
            Its own error tells more than ours could.

    Cost: that of the import; once it is loaded, a look into ``sys.modules``.

    Example:
        >>> need("json", extra="export", feature="Export to JSON").dumps([1])
        '[1]'
        >>> need("nowhere.table", extra="export", feature="Export to Parquet")
        Traceback (most recent call last):
            ...
        shiftwatch.optional.MissingDependencyError: Export to Parquet needs the package 'nowhere', \
which is not installed. Install it with: pip install 'shiftwatch[export]'
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        raise MissingDependencyError(
            f"{feature} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'shiftwatch[{extra}]'",
            name=error.name,
        ) from None
