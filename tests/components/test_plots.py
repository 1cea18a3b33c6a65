"""Pictures: they are PNGs, the same for the same numbers, leave no state behind, and cope with odd splits."""

from __future__ import annotations

import io
import math

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from components import plots
from schemas.thresholds import Thresholds

NAMES = {"precision_recall", "roc", "reliability", "score_distribution", "confusion", "cost"}
AT = Thresholds(review=0.4, block=0.8, alert_budget=0.5, block_precision=0.5)
NONE = Thresholds(review=None, block=None, alert_budget=0.5, block_precision=0.5)
LABELS = np.array([0, 0, 1, 0, 1, 0])
AMOUNTS = np.array([100, 200, 5_000, 400, 3_000, 50])
SCORES = np.array([1e-7, 0.2, 0.9, 0.5, 0.45, 0.0])


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(imread(io.BytesIO(png), format="png"))


def test_a_split_has_six_pictures_of_one_size() -> None:
    drawn = plots.of_split("test", LABELS, SCORES, AMOUNTS, AT)
    assert set(drawn) == NAMES
    assert len({pixels(png).shape for png in drawn.values()}) == 1


def test_equal_numbers_give_equal_bytes_and_others_do_not() -> None:
    once, twice = (plots.of_split("test", LABELS, SCORES, AMOUNTS, AT) for _ in range(2))
    assert once == twice
    other = plots.of_split("test", LABELS, SCORES[::-1], AMOUNTS, AT)
    assert all(other[name] != once[name] for name in NAMES)


def test_thresholds_show_wherever_a_decision_is_drawn() -> None:
    with_them, without = (plots.of_split("test", LABELS, SCORES, AMOUNTS, thresholds) for thresholds in (AT, NONE))
    changed = {name for name in NAMES if with_them[name] != without[name]}
    assert changed == NAMES - {"reliability"}


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([], []),
        ([0, 0], [0.1, 0.2]),
        ([0, 1], [0.5, 0.5]),
        ([0, 1], [0.5, math.nan]),
        ([0, 1], [0.0, 1.0]),
        ([1], [0.5]),
    ],
)
def test_an_odd_split_is_drawn_or_said_without_a_warning(labels: list[int], scores: list[float]) -> None:
    for png in plots.of_split("odd", labels, scores, [100] * len(labels), AT).values():
        assert (pixels(png)[..., :3] < 0.9).any()  # something is on the paper


def test_the_history_has_a_panel_for_each_metric() -> None:
    one = pixels(plots.history({"loss": [0.5, 0.4], "val_loss": [0.5, 0.45]}))
    four = pixels(
        plots.history({name: [0.5, 0.4] for name in ("loss", "val_average_precision", "auc", "learning_rate")})
    )
    assert four.shape[1] > one.shape[1]
    assert (pixels(plots.history({}))[..., :3] < 0.9).any()


def test_drawing_leaves_no_figure_and_no_setting_behind() -> None:
    before = dict(matplotlib.rcParams)
    plots.of_split("test", LABELS, SCORES, AMOUNTS, AT)
    plots.history({"loss": [0.5]})
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
    assert {key: matplotlib.rcParams[key] for key in before if key != "backend"} == {
        key: value for key, value in before.items() if key != "backend"
    }
