"""Great Expectations' pages, made fit to be kept: they open without a network, and equal results make equal pages.

As they are built they fetch scripts, styles and a picture from seven hosts at each opening, the list of results is
drawn by such a script, and each build has ids and times of its own.
"""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path

from components.expectations.results import ExpectationReport

_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
_FETCHED = re.compile(r"<link\b[^>]*>|<img\b[^>]*>|url\([^)]*\)")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOADED = re.compile(r">\d{8}T\d{6}\.\d{6}Z<")
_CONTENT = '<div class="container-fluid'
_STYLE = """<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; color: #222; }
  table { border-collapse: collapse; margin: 0.5rem 0; }
  th, td { border: 1px solid #ccc; padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; }
  .fa-check-circle::before { content: "\\2713"; color: #187a32; font-weight: bold; }
  .fa-times::before, .fa-exclamation-triangle::before { content: "\\2717"; color: #b3261e; font-weight: bold; }
  .btn-group, form, button, .cooltip .top { display: none; }
</style>
"""


def settle(folder: Path, report: ExpectationReport) -> None:
    """Rewrites the pages below a folder, and lists on the first what came of each validation.

    Args:
        folder: what Great Expectations wrote; `index.html` is the first page.
        report: the results that the pages are about.
    """
    # Pictures of a tutorial, and fonts that the remote styles ask for.
    shutil.rmtree(folder / "static")
    for path in folder.rglob("*.html"):
        text = _plain(path.read_text(encoding="utf-8"))
        if path == folder / "index.html":
            text = text.replace(_CONTENT, _list(folder, report) + _CONTENT, 1)
        path.write_text(text, encoding="utf-8")


def _plain(text: str) -> str:
    text = _LOADED.sub("><", _FETCHED.sub("", _SCRIPT.sub("", text)))
    numbers: dict[str, str] = {}
    text = _ID.sub(lambda found: numbers.setdefault(found[0], f"part-{len(numbers)}"), text)
    return text.replace("</head>", f"{_STYLE}</head>", 1)


def _list(folder: Path, report: ExpectationReport) -> str:
    rows = []
    for page in folder.glob("validations/**/*.html"):
        name = page.stem.split("-", 1)[1]
        results = [result for result in report.results if result.suite == name]
        failed = "".join(f"<br>{result.severity}: {escape(result.message)}" for result in results if not result.success)
        held = f"{sum(result.success for result in results)} of {len(results)} hold"
        link = f'<a href="{page.relative_to(folder).as_posix()}">{escape(name)}</a>'
        rows.append((report.results.index(results[0]), f"<tr><td>{link}</td><td>{held}{failed}</td></tr>\n"))
    listed = "".join(row for _, row in sorted(rows))
    return f"<table>\n<tr><th>validation</th><th>result</th></tr>\n{listed}</table>\n"
