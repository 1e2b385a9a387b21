"""What MkDocs cannot do by itself: links that leave docs/, and formulas without a script.

Links of our pages are those of the repository, so that they work where the code is hosted. What
they lead to outside of docs/ becomes a page of the site: Markdown as it is, code as a listing.
Formulas become MathML, which browsers draw themselves; no script is loaded for them.
"""

from __future__ import annotations

import ast
import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs/"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\s*\\(?:\(|\[)(.*?)\\(?:\)|\])\s*</\1>', re.DOTALL
)

#: Pages of the site that lie at the top of the repository.
TOP = ("CHANGELOG.md", "CONTRIBUTING.md")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each target outside of docs/."""
    pages = {DOCS + f.src_uri: f.content_string for f in files.documentation_pages()}
    pages |= {name: (ROOT / name).read_text(encoding="utf-8") for name in TOP}
    waiting, done = list(pages), set(pages)
    while waiting:
        for target in _targets(waiting.pop(), pages):
            if target not in done and _outside(target):
                done.add(target)
                if target.endswith(".md"):
                    pages[target] = (ROOT / target).read_text(encoding="utf-8")
                    waiting.append(target)
    for target in sorted(done):
        if _outside(target) or target in TOP:
            content = pages.get(target) or _listing(target)
            files.append(File.generated(config, _uri(target), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links within the repository as links within the site."""
    here = page.file.src_uri
    origin = _origin(here)

    def relinked(found: re.Match[str]) -> str:
        target = _resolved(origin, found[1])
        if not (ROOT / target).exists():
            return found[0]  # MkDocs complains of it by name
        return posixpath.relpath(_uri(target), posixpath.dirname(here)) + (found[2] or "")

    return _outside_of_code(LINK, relinked, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML."""

    def drawn(found: re.Match[str]) -> str:
        source = html.unescape(found[2]).strip()
        if found[1] == "span":
            return convert(source)
        return f'<div class="formula">{convert(source, display="block")}</div>'

    return FORMULA.sub(drawn, content)


def _outside_of_code(pattern: re.Pattern[str], change: Any, text: str) -> str:
    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [pattern.sub(change, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, pattern.sub(change, text[at:])])


def _targets(page: str, pages: dict[str, str]) -> Iterator[str]:
    for found in LINK.finditer(FENCE.sub("", pages[page])):
        target = _resolved(page, found[1])
        if (ROOT / target).exists():
            yield target


def _resolved(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _outside(target: str) -> bool:
    return not target.startswith(DOCS) and target not in TOP


def _uri(target: str) -> str:
    """Where a path of the repository lies in the site."""
    if target.startswith(DOCS):
        return target.removeprefix(DOCS)
    if target in TOP:
        return target
    path = ROOT / target
    name = target.removesuffix(".md") if path.is_file() else f"{target}/files"
    return f"source/{name}.md"


def _origin(uri: str) -> str:
    """Inverse of :func:`_uri`."""
    if not uri.startswith("source/"):
        return uri if uri in TOP else DOCS + uri
    name = uri.removeprefix("source/").removesuffix(".md")
    if (ROOT / f"{name}.md").exists():
        return f"{name}.md"
    return name


def _listing(target: str) -> str:
    path = ROOT / target
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {target}\n\n"
    if path.is_dir():
        lines = [
            f"- `{file.name}`{_about(file)}" for file in sorted(path.iterdir()) if _shown(file)
        ]
        return head + "\n".join(lines) + "\n"
    text = path.read_text(encoding="utf-8")
    language = {".py": "python", ".toml": "toml", ".yml": "yaml"}.get(path.suffix, "text")
    return f"{head}````{language}\n{text}````\n"


def _shown(file: Path) -> bool:
    return not file.name.startswith((".", "__"))


def _about(file: Path) -> str:
    if file.suffix != ".py":
        return ""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return f": {docstring.partition(chr(10))[0]}" if docstring else ""
