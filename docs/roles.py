"""Docstrings as the site reads them: :func:`name` is a link, "Example:" a section with code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|attr|data|mod):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """A link where the thing has an entry on the site, its name as code where it has none."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called by griffe with each module, class, function and attribute it has read."""
        if obj.docstring is None:
            return
        text = ROLE.sub(lambda role: _link(obj, role), obj.docstring.value)
        text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r"^Cost: ", "**Cost:** ", text, flags=re.MULTILINE)


def _link(obj: Any, role: re.Match[str]) -> str:
    name = role[2]
    shown = name.rpartition(".")[2] if role[1] else name
    try:
        full = obj.resolve(name)
    except (griffe.NameResolutionError, griffe.BuiltinModuleError):
        full = name
    return f'<autoref optional identifier="{full}"><code>{shown}</code></autoref>'
