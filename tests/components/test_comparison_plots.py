"""Pictures beside other models and by slice: a line for each, and words where there is none."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.image import imread

from components import comparison_plots
from components.comparison import Rival
from components.measures import Estimate
from components.slices import SliceEvidence

OURS = {"average_precision": Estimate(0.7, 0.6, 0.8), "recall_at_fpr_0.01": Estimate(0.8, 0.75, 0.9)}
TREES = Rival("trees", {"average_precision": Estimate(0.65, 0.5, 0.75), "saved_share": Estimate(0.4)}, {})


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(imread(io.BytesIO(png), format="png"))


def slice_of(name: str, supported: bool = True) -> SliceEvidence:
    return SliceEvidence(name, 900, 40, supported, {"review_recall": Estimate(0.5, 0.3, 0.6)} if supported else {})


def test_every_model_has_a_line() -> None:
    alone, beside = (comparison_plots.rivals(OURS, others) for others in ((), (TREES,)))
    assert alone != beside
    assert beside == comparison_plots.rivals(OURS, (TREES,))


def test_a_picture_grows_with_the_slices_that_have_support() -> None:
    few = comparison_plots.slices([slice_of("channel chip"), slice_of("channel rare", supported=False)])
    many = comparison_plots.slices([slice_of(f"country {n}") for n in range(30)])
    assert pixels(many).shape[0] > 2 * pixels(few).shape[0]
    assert few == comparison_plots.slices([slice_of("channel chip")])


def test_without_a_slice_the_picture_says_so() -> None:
    assert (pixels(comparison_plots.slices([]))[..., :3] < 0.9).any()
