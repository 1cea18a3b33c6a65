"""What lies beside a report's page, because others made it: Great Expectations' Data Docs and TFDV's own view."""

from __future__ import annotations

import shutil
from pathlib import Path

from components.report import Link

_DATA_DOCS, _STATISTICS = "data_docs", "statistics.html"
_COMPARED = ("train", "test")
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Statistics: {compared}</title></head>
<body>
{view}
</body>
</html>
"""


def data_docs(folder: Path, beside: Path) -> tuple[Link, ...]:
    """Copies Data Docs to where the page's attachments lie; nothing where the suites were not asked.

    Args:
        folder: that Great Expectations wrote, with an `index.html`.
        beside: of the attachments, next to the page and named as it is.
    """
    if not (folder / "index.html").is_file():
        return ()
    shutil.copytree(folder, beside / _DATA_DOCS, dirs_exist_ok=True)
    return (Link("Data Docs of Great Expectations", f"{beside.name}/{_DATA_DOCS}/index.html"),)


def statistics_view(statistics: Path, beside: Path) -> Link:
    """Writes TFDV's own view of the statistics of two splits, one over the other.

    Args:
        statistics: as StatisticsGen wrote them.
        beside: of the attachments, next to the page and named as it is.
    """
    import tensorflow_data_validation as tfdv
    from tensorflow_data_validation.utils.display_util import get_statistics_html

    one, other = (tfdv.load_stats_binary(str(statistics / f"Split-{split}" / "FeatureStats.pb")) for split in _COMPARED)
    view = get_statistics_html(one, other, *_COMPARED)
    beside.mkdir(parents=True, exist_ok=True)
    page = _PAGE.format(compared=" and ".join(_COMPARED), view=view)
    (beside / _STATISTICS).write_text(page, encoding="utf-8")
    return Link(
        "Statistics of TFDV",
        f"{beside.name}/{_STATISTICS}",
        "this view draws itself with code that it loads from cdnjs.cloudflare.com and raw.githubusercontent.com",
    )
