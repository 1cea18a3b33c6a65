"""The baseline of drift: the profile of the data that a model was trained on, with the thresholds of their history."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from components.profiles.calibration import WEEK_US, Calibration, Thresholds, calibrate, weeks
from components.profiles.counting import Profile, merge, profile
from components.profiles.layout import Layout
from components.profiles.measures import Support
from schemas.errors import ArtifactError


@dataclass(frozen=True)
class Baseline:
    """What later rows are compared with.

    Attributes:
        profile: of all rows.
        thresholds: from the pairs of whole weeks among them.
    """

    profile: Profile
    thresholds: Thresholds

    def to_json(self) -> str:
        """One JSON object; baselines of the same rows give the same text."""
        body = {"profile": self.profile.to_dict(), "thresholds": self.thresholds.to_dict()}
        return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Baseline:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is no baseline of this version.
        """
        try:
            raw = json.loads(text)
            profiled, thresholds = raw["profile"], raw["thresholds"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not a baseline of drift ({error!r}); profile the training data again") from error
        return Baseline(Profile.from_dict(profiled), Thresholds.from_dict(thresholds))


def learn(
    batches: Iterable[pa.Table],
    layout: Layout,
    calibration: Calibration | None = None,
    support: Support | None = None,
) -> Baseline:
    """The baseline of rows that come in batches, calibrated on their whole weeks.

    Args:
        batches: as `profile` takes them, with `event_time` ascending; at least one row.
        layout: of a sample of them.
        calibration: how thresholds are taken from the weeks.
        support: how many rows a statistic needs.

    Raises:
        ArtifactError: there is no row.
    """
    of_week: dict[int, Profile] = {}
    for week, rows in weeks(batches):
        counted = profile(rows, layout)
        of_week[week] = merge([of_week[week], counted]) if week in of_week else counted
    whole = merge(of_week.values())
    first_us, last_us = whole.span_us or (0, 0)
    nothing = profile(rows.slice(0, 0), layout)
    # What is left after the last whole week belongs to the data, but not to their history; a week without rows does.
    history = [of_week.get(week, nothing) for week in range((last_us - first_us + 1) // WEEK_US)]
    return Baseline(whole, calibrate(history, calibration, support))


def read_baseline(path: Path) -> Baseline:
    """Reads a file written from `Baseline.to_json`.

    Raises:
        ArtifactError: it is absent, damaged, or no baseline of this version.
    """
    try:
        return Baseline.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ArtifactError) as error:
        raise ArtifactError(f"baseline {path} cannot be read: {error}") from error
