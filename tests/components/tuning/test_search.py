"""The search: what it tries, what it ends early, and that an interruption changes nothing of what it comes to."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from components.training.config import TrainingConfig
from components.tuning.config import Range, SearchSpace, TuningConfig
from components.tuning.search import TriedSettings, as_mapping, best, kept_study, search, tried
from schemas.errors import ConfigurationError

BASE = TrainingConfig(units=(16,), epochs=6)
CONFIG = TuningConfig(random_trials=3, pruning_epochs=2)


def course(settings: TrainingConfig) -> list[float]:
    """A made-up training: it learns the faster the nearer its rate is to 0.003, and forgets with dropout."""
    top = 0.9 - 0.3 * abs(math.log10(settings.learning_rate / 3e-3)) - 0.2 * settings.dropout
    return [top * (1 - 0.5**epoch) for epoch in range(1, settings.epochs + 1)]


def train(settings: TrainingConfig, after_epoch) -> float:
    values = course(settings)
    for epoch in range(1, len(values) + 1):
        after_epoch(values[:epoch])
    return max(values)


def never() -> bool:
    return False


# A database in memory spares waiting for the disk where no study has to be kept.
FORGOTTEN = "sqlite://"


def searched(trials: int, evaluate=train, config=CONFIG, base=BASE, url=FORGOTTEN, name="study", is_over=never):
    told: list[TriedSettings] = []
    with kept_study(url, name, config) as study:
        search(study, base, config, trials, evaluate, is_over, told.append)
        return tried(study, base), told


@pytest.fixture
def kept(tmp_path: Path) -> str:
    """Address of a database that is kept."""
    return f"sqlite:///{tmp_path / 'studies.sqlite'}"


def outcome(trials):
    """What must not depend on when, and in how many processes, trials were run."""
    return [replace(trial, seconds=0.0) for trial in trials]


def test_the_first_trial_is_of_the_configured_settings_and_the_best_is_no_worse():
    trials, told = searched(12)
    assert trials[0].settings == BASE
    assert trials[0].average_precision == max(course(BASE))
    assert [trial.number for trial in trials] == list(range(1, 13))
    assert told == trials
    assert best(trials).average_precision == max(trial.average_precision for trial in trials)
    assert best(trials).settings != BASE
    space = CONFIG.space
    assert space.dropout and space.learning_rate and space.units
    for trial in trials:
        assert space.dropout.low <= trial.settings.dropout <= space.dropout.high
        assert space.learning_rate.low <= trial.settings.learning_rate <= space.learning_rate.high
        assert trial.settings.units in (*space.units, BASE.units)
        assert trial.settings.epochs == BASE.epochs


def test_a_configured_value_outside_the_space_widens_it():
    base = TrainingConfig(learning_rate=0.5, epochs=2)
    config = TuningConfig(space=SearchSpace(learning_rate=Range(1e-3, 1e-2), block=("gated",)))
    trials, _ = searched(4, config=config, base=base)
    assert trials[0].settings == base
    assert {trial.settings.block for trial in trials} <= {"plain", "gated"}


def test_what_is_not_searched_stays_as_it_is_configured():
    only = {
        "units": None,
        "block": None,
        "bins": None,
        "feature_rate": None,
        "layer_norm": None,
        "schedule": None,
        "weight_decay": None,
        "batch_size": None,
    }
    config = TuningConfig(SearchSpace(**only, positive_weight=None, fraud_share=None, dropout=None))
    trials, _ = searched(5, config=config)
    unlike = {name for trial in trials for name, value in as_mapping(trial.settings).items()
              if value != as_mapping(BASE)[name]}  # fmt: skip
    assert unlike == {"learning_rate"}


def test_the_same_seed_gives_the_same_study_and_another_one_another():
    first, _ = searched(8)
    again, _ = searched(8)
    other, _ = searched(8, config=TuningConfig(random_trials=3, pruning_epochs=2, seed=8))
    assert outcome(first) == outcome(again)
    assert outcome(first)[0] == outcome(other)[0]
    assert outcome(first)[1] != outcome(other)[1]


def test_a_trial_behind_the_median_ends_early_but_never_before_it_had_its_epochs():
    trials, _ = searched(16)
    assert not any(trial.pruned for trial in trials[: CONFIG.random_trials])
    pruned = [trial for trial in trials if trial.pruned]
    assert pruned
    assert all(CONFIG.pruning_epochs <= len(trial.course) < BASE.epochs for trial in pruned)
    assert all(len(trial.course) == BASE.epochs for trial in trials if not trial.pruned)
    assert not best(trials).pruned


class Death(BaseException):
    """Stands for the end of a process: nothing gets to hear of it."""


def test_a_search_that_died_amid_trials_comes_to_what_it_would_have_come_to(kept):
    whole, _ = searched(8)

    def dying_in(trial_number: int, epoch: int):
        begun = []

        def evaluate(settings, after_epoch):
            begun.append(settings)

            def and_die(seen):
                if len(begun) == trial_number and len(seen) == epoch:
                    raise Death
                after_epoch(seen)

            return train(settings, and_die)

        return evaluate

    for trial_number, epoch in ((1, 1), (2, 3), (3, 2)):
        with pytest.raises(Death):
            searched(8, dying_in(trial_number, epoch), url=kept)
    trials, told = searched(8, url=kept)
    assert outcome(trials) == outcome(whole)
    assert len(told) == 5, "trials that had ended are not run again"


def test_a_study_that_has_its_trials_runs_none_and_more_may_be_asked_for(kept):
    whole, _ = searched(6)
    searched(3, url=kept)
    trials, told = searched(3, url=kept)
    assert len(trials) == 3 and told == []
    trials, told = searched(6, url=kept)
    assert outcome(trials) == outcome(whole) and len(told) == 3


def test_studies_of_one_file_know_nothing_of_each_other(kept):
    searched(2, url=kept, name="one")
    trials, told = searched(1, url=kept, name="two")
    assert len(trials) == len(told) == 1


def test_when_time_is_over_the_running_trial_ends_behind_its_epoch_and_is_tried_again(kept):
    whole, _ = searched(4)
    asked = iter(range(100))
    # Once before each trial, and once behind each of its six epochs: the tenth is amid the second trial.
    trials, told = searched(4, url=kept, is_over=lambda: next(asked) >= 9)
    assert outcome(trials) == outcome(whole)[:1] and len(told) == 1
    trials, _ = searched(4, url=kept)
    assert outcome(trials) == outcome(whole)


def test_settings_that_cannot_be_trained_are_told_with_the_reason_and_the_search_goes_on():
    def diverging(settings, after_epoch):
        if settings.learning_rate > 1e-3:
            raise ConfigurationError(f"the loss is nan at rate {settings.learning_rate}")
        return train(settings, after_epoch)

    trials, told = searched(8, diverging)
    assert len(trials) == len(told) == 8
    failed = [trial for trial in trials if trial.settings.learning_rate > 1e-3]
    assert failed and all(trial.pruned and "the loss is nan" in trial.reason for trial in failed)
    assert best(trials) not in failed


def test_where_nothing_can_be_trained_the_reason_is_told():
    def refusing(settings, after_epoch):
        raise ConfigurationError("batches cannot be filled")

    trials, _ = searched(2, refusing)
    with pytest.raises(ConfigurationError, match=r"no trial came to its end, 2 .*\(batches cannot be filled\)"):
        best(trials)
    with pytest.raises(ConfigurationError, match="no trial came to its end, 0"):
        best([])


class Cycle:
    """Refers to itself, as networks and their graphs do."""

    def __init__(self):
        self.own = self


@pytest.mark.parametrize("ended_early", [False, True])
def test_what_a_trial_leaves_in_memory_is_gone_before_the_next(ended_early):
    left: list[weakref.ref[Cycle]] = []

    def evaluate(settings, after_epoch):
        assert not any(reference() for reference in left)
        cycle = Cycle()
        left.append(weakref.ref(cycle))
        if ended_early:
            raise ConfigurationError("the loss is not finite")
        return train(settings, after_epoch)

    searched(3, evaluate)
    assert len(left) == 3
