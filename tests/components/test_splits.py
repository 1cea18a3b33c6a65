"""Splits by time: every row in one part, no label before it was known, and a log that is too short is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.splits import PARTS, Cuts, SplitConfig, assign, counts, plan
from schemas.errors import ConfigurationError, LogError
from schemas.transaction import DAY_S, SECOND_US

DAY_US = DAY_S * SECOND_US
HOUR_US = 3_600 * SECOND_US

shares = st.floats(0.01, 0.49)
configs = st.builds(SplitConfig, st.integers(0, 60 * DAY_S), shares, shares)
delays_s = st.integers(0, 30 * DAY_S)


@st.composite
def long_enough(draw: st.DrawFn) -> tuple[int, int, int, SplitConfig]:
    """First and last instant of a log that can be split, its label delay in seconds, and how to split it."""
    config, delay_s = draw(configs), draw(delays_s)
    least = min(1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
    usable = round(HOUR_US / least) + draw(st.integers(1, 400 * DAY_US))
    first = draw(st.integers(-50 * 365 * DAY_US, 50 * 365 * DAY_US))
    return first, first + (config.warm_up_s + 2 * delay_s) * SECOND_US + usable, delay_s, config


def rows_around(cuts: Cuts, first_us: int, last_us: int, others: list[int]) -> np.ndarray:
    """Times of rows at and beside every cut, and anywhere else in the log."""
    edges = [cuts.train_start, cuts.train_end, cuts.validation_start, cuts.test_start, cuts.test_end]
    beside = [edge + by for edge in edges for by in (-1, 0, 1)]
    inside = [first_us + other % (last_us - first_us + 1) for other in others]
    times = np.array(sorted([first_us, last_us, *beside, *inside]), dtype=np.int64)
    return times[(times >= first_us) & (times <= last_us)]


@given(long_enough(), st.lists(st.integers(0, 400 * DAY_US)))
def test_every_row_is_in_one_part_and_no_split_sees_a_label_before_it_was_known(log, others):
    first, last, delay_s, config = log
    cuts, delay = plan(*log), delay_s * SECOND_US
    times = rows_around(cuts, first, last, others)
    part = assign(times, np.ones(len(times), bool), cuts)
    assert sum(counts(part).values()) == len(times)
    of = {name: times[part == number] for number, name in enumerate(PARTS)}

    assert (of["warm_up"] < first + config.warm_up_s * SECOND_US).all(), "the head of the log only fills windows"
    assert (of["train"] >= first + config.warm_up_s * SECOND_US).all()
    assert (of["train"] + delay <= cuts.validation_start).all(), "training labels are known when validation begins"
    assert (of["validation"] >= cuts.validation_start).all()
    assert (of["validation"] < cuts.test_start).all()
    assert (of["test"] >= cuts.test_start).all()
    assert (of["test"] + delay <= last).all(), "the last test label was known when the log ended"
    gap = (times >= cuts.train_end) & (times < cuts.validation_start)
    assert (part[gap] == PARTS.index("immature")).all(), "between training and validation lies one label delay"
    assert cuts.validation_start - cuts.train_end == delay
    assert (np.diff(part[part != PARTS.index("immature")]) >= 0).all(), "parts follow each other in time"


@given(long_enough())
def test_splits_have_their_shares_of_what_is_left_of_the_log(log):
    first, last, delay_s, config = log
    cuts = plan(*log)
    lengths = np.array(
        [
            cuts.train_end - cuts.train_start,
            cuts.test_start - cuts.validation_start,
            cuts.test_end - cuts.test_start,
        ]
    )
    usable = last + 1 - first - (config.warm_up_s + 2 * delay_s) * SECOND_US
    wanted = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
    assert lengths.sum() == usable
    assert np.abs(lengths - usable * np.array(wanted)).max() <= 1
    assert (lengths >= HOUR_US - 1).all()


def test_a_row_whose_label_is_not_known_counts_nowhere():
    cuts = plan(0, 100 * DAY_US, 7 * DAY_S, SplitConfig())
    times = np.array([0, cuts.train_start, cuts.validation_start, cuts.test_start, cuts.test_end])
    labelled, unlabelled = (assign(times, np.full(5, known), cuts) for known in (True, False))
    assert [PARTS[i] for i in labelled] == ["warm_up", "train", "validation", "test", "immature"]
    assert [PARTS[i] for i in unlabelled] == ["warm_up", "immature", "immature", "immature", "immature"]
    assert counts(unlabelled) == {"warm_up": 1, "train": 0, "immature": 4, "validation": 0, "test": 0}


def test_a_log_that_is_too_short_says_what_it_has_and_what_it_takes():
    first = 1_546_300_800 * SECOND_US  # 2019-01-01
    with pytest.raises(LogError) as caught:
        plan(first, first + 40 * DAY_US, 7 * DAY_S, SplitConfig())
    message = str(caught.value)
    assert "2019-01-01 to 2019-02-10" in message
    assert "44.3 days" in message, "30 of warm-up, twice 7 of delay, and as much as gives validation its hour"
    assert "30 are the warm-up and twice 7 the label delay" in message
    assert "shorter warm-up" in message


@given(delays_s, configs)
def test_the_length_that_the_message_asks_for_is_enough_and_a_tenth_of_a_day_less_is_not(delay_s, config):
    with pytest.raises(LogError) as caught:
        plan(0, 0, delay_s, config)
    need_days = float(str(caught.value).partition("that takes ")[2].partition(" days")[0])
    plan(0, round((need_days + 0.05) * DAY_US), delay_s, config)
    with pytest.raises(LogError):
        plan(0, round((need_days - 0.1) * DAY_US), delay_s, config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation_share": 0.0},
        {"test_share": -0.1},
        {"validation_share": 0.5, "test_share": 0.5},
        {"test_share": float("nan")},
        {"warm_up_s": -1},
    ],
)
def test_shares_that_leave_no_room_for_training_are_refused(wrong):
    with pytest.raises(ConfigurationError, match=f"splits .*{next(iter(wrong))}"):
        SplitConfig(**wrong)
