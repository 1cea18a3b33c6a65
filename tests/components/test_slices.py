"""Slices: which rows are in which, what support they need, and how they stand beside the champion's."""

from __future__ import annotations

import numpy as np
import pytest

from components.measures import Bootstrap, Scored, scored
from components.slices import SliceConfig, SliceEvidence, cut, measure_slices
from schemas.errors import ConfigurationError
from schemas.thresholds import Thresholds

AT = Thresholds(review=0.5, block=None, alert_budget=0.1, block_precision=0.8)
CONFIG = SliceConfig(min_rows=100, min_frauds=10)
BOOTSTRAP = Bootstrap(resamples=60)


def names_of(**given: object) -> dict[str, list[int]]:
    about = {
        "texts": {"channel": np.array(["chip", "online", "", "chip"]), "city": np.array(["a", "b", "c", "d"])},
        "amounts_base_minor": np.array([100, 200, 300, 400]),
        "second_of_day": np.array([0, 21_599, 21_600, 80_000]),
        "earlier_on_card": np.array([0, 3, 0, 1]),
        "config": SliceConfig(amount_bands=2),
    }
    return {one.name: np.flatnonzero(one.rows).tolist() for one in cut(**(about | given))}  # type: ignore[arg-type]


def test_a_split_is_cut_by_channel_amount_time_and_whether_the_card_is_new() -> None:
    assert names_of() == {
        "channel chip": [0, 3],
        "channel online": [1],
        "amount up to 200": [0, 1],
        "amount above 200": [2, 3],
        "time night": [0, 1],
        "time day": [2, 3],
        "card new": [0, 2],
        "card known": [1, 3],
    }


def test_what_a_source_does_not_tell_is_no_slice() -> None:
    assert set(names_of(texts={}, earlier_on_card=None, second_of_day=np.full(4, 50_000))) == {
        "amount up to 200",
        "amount above 200",
        "time day",
    }


def test_of_many_values_the_most_frequent_are_slices() -> None:
    many = np.array(["a", "b", "b", "c"])
    found = names_of(texts={"country": many}, config=SliceConfig(values_per_column=1, amount_bands=1))
    assert [name for name in found if name.startswith("country")] == ["country b"]
    assert found["amount any"] == [0, 1, 2, 3]


def test_bands_of_amounts_meet_and_do_not_overlap() -> None:
    found = names_of(config=SliceConfig(amount_bands=3))
    assert [(name, rows) for name, rows in found.items() if name.startswith("amount")] == [
        ("amount up to 200", [0, 1]),
        ("amount 201 to 300", [2]),
        ("amount above 300", [3]),
    ]


def test_amounts_that_are_all_one_make_one_band() -> None:
    bands = [name for name in names_of(amounts_base_minor=np.full(4, 7)) if name.startswith("amount")]
    assert bands == ["amount up to 7"]


def split(seed: int = 1, rows: int = 2_000) -> tuple[Scored, np.ndarray]:
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < 0.1
    score = np.clip(rng.normal(0.2, 0.1, rows) + 0.4 * fraud, 0, 1)
    channel = rng.choice(["chip", "online", "rare"], rows, p=[0.6, 0.395, 0.005])
    columns = (rng.integers(1, 9_000, rows), rng.integers(0, 300, rows), rng.integers(0, 5, rows))
    return scored(fraud, score, *columns), channel


def channels(channel: np.ndarray) -> tuple:
    ones = np.ones(len(channel), np.int64)
    found = cut({"channel": channel}, ones, ones, None, SliceConfig())
    return tuple(one for one in found if one.name.startswith("channel"))


def test_a_slice_with_few_frauds_is_counted_and_not_measured() -> None:
    transactions, channel = split()
    chip, online, rare = measure_slices(channels(channel), (transactions, AT), None, CONFIG, BOOTSTRAP)
    assert (chip.name, chip.supported, rare.name, rare.supported) == ("channel chip", True, "channel rare", False)
    assert not rare.measures
    assert rare.rows == (channel == "rare").sum()
    assert online.rows + chip.rows + rare.rows == transactions.rows
    assert 0 < online.measures["review_recall"].value < 1
    assert not chip.ratios


def test_a_slice_in_which_a_model_has_lost_its_sight_stands_out_beside_the_champions() -> None:
    champion, channel = split()
    blind = np.where(channel == "online", np.random.default_rng(2).random(champion.rows) * 0.3, champion.score)
    found = measure_slices(channels(channel), (champion.rescored(blind), AT), (champion, AT), CONFIG, BOOTSTRAP)
    ratios = {one.name: one.ratios for one in found if one.supported}
    assert ratios["channel chip"]["average_precision"].value == 1
    online = ratios["channel online"]["average_precision"]
    assert online.high is not None and online.high < 0.5
    assert SliceEvidence.read(found[0].fields()) == found[0]


def test_settings_that_cut_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="min_frauds is 0"):
        SliceConfig(min_frauds=0)
