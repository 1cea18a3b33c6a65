"""The baseline of drift: the profile of the data that a model was trained on, with the thresholds of their history."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.profiles.calibration import Calibration, Thresholds, calibrate, weeks
from components.profiles.counting import Profile, merge, profile
from components.profiles.layout import LayoutConfig, lay_out
from components.profiles.measures import Support
from schemas.errors import ArtifactError

# Rows over which quantiles and frequent values are taken: the error of a decile is a tenth of a percent.
_SAMPLED_ROWS = 100_000


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
    rows: pa.Table,
    config: LayoutConfig | None = None,
    calibration: Calibration | None = None,
    support: Support | None = None,
) -> Baseline:
    """The baseline of a table: laid out on a sample of its rows, calibrated on its whole weeks.

    Args:
        rows: as `profile` takes them, with `event_time` ascending; at least one.
        config: how finely it is laid out.
        calibration: how thresholds are taken from the weeks.
        support: how many rows a statistic needs.
    """
    spread = np.linspace(0, rows.num_rows - 1, min(rows.num_rows, _SAMPLED_ROWS)).astype(np.int64)
    layout = lay_out(rows.take(pa.array(spread)), config or LayoutConfig())
    history = []
    profiled = 0
    for week in weeks(rows):
        history.append(profile(week, layout))
        profiled += week.num_rows
    # What is left after the last whole week belongs to the data, but not to their history.
    whole = merge([*history, profile(rows.slice(profiled), layout)])
    return Baseline(whole, calibrate(history, calibration, support))
