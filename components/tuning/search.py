"""The search for settings to train with: a study of trials that is kept, and goes on behind a kill."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from components.training.config import TrainingConfig
from components.tuning.config import Range, TuningConfig
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import TPESampler
    from optuna.trial import FrozenTrial

AfterEpoch = Callable[[Sequence[float]], None]
Evaluate = Callable[[TrainingConfig, AfterEpoch], float]


@dataclass(frozen=True)
class TriedSettings:
    """One trial of a study.

    Attributes:
        number: from 1 on, in the order of trial.
        average_precision: the best on validation; None where no epoch came to its end.
        pruned: it was ended early, since it did not look good or could not be trained.
        reason: why it could not be trained; empty where it could.
        course: validation average precision of each epoch.
        settings: that it trained with.
        seconds: that it took.
    """

    number: int
    average_precision: float | None
    pruned: bool
    reason: str
    course: tuple[float, ...]
    settings: TrainingConfig
    seconds: float


class _OutOfTime(Exception):
    """Ends a trial amid its training; it will be tried again."""


@contextmanager
def kept_study(url: str, name: str, config: TuningConfig) -> Iterator[Study]:
    """A study in a database, new or as it was left; nobody else may have it open.

    What was on trial when an earlier process died is given up, so that it will be tried again.

    Args:
        url: of the database, as SQLAlchemy takes it; a file of SQLite is made where it is missing.
        name: of the study in it.
        config: how it is searched.
    """
    import optuna
    from optuna.trial import TrialState

    # It tells of each trial itself otherwise.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url)
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(config.random_trials, config.pruning_epochs),
            load_if_exists=True,
        )
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def search(
    study: Study,
    base: TrainingConfig,
    config: TuningConfig,
    trials: int,
    evaluate: Evaluate,
    is_over: Callable[[], bool],
    on_trial: Callable[[TriedSettings], None],
) -> None:
    """Tries settings until a study has so many trials, or time is over.

    The first trial is of the settings as they are configured.  Each is a function of the seed and the trials before it
    alone, so that a study which was interrupted, however often, comes to what it would have come to.

    Args:
        study: see `kept_study`; trials that it has count.
        base: the settings as they are configured.
        config: what is searched.
        trials: in all.
        evaluate: from settings to the best validation average precision; it has to call what it is given behind each
            epoch, with the average precision of the epochs so far, and to let through what that raises.
        is_over: whether time is over; asked behind each epoch.  A trial that is cut short so does not count.
        on_trial: told of each trial that counts.
    """
    from optuna import TrialPruned
    from optuna.trial import TrialState

    while (done := len(_finished(study))) < trials and not is_over():
        study.sampler = _sampler(config, done)
        if done == 0 and not study.get_trials(states=(TrialState.WAITING,)):
            study.enqueue_trial(_parameters(base, config))
        trial = study.ask()
        _suggest(trial, base, config)
        try:
            value = evaluate(_settings(trial.params, base), _watch(trial, is_over))
        except TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except _OutOfTime:
            study.tell(trial, state=TrialState.FAIL)
            return
        except ConfigurationError as error:
            # A rate at which the loss is not finite, say; to try it again would end in the same.
            trial.set_user_attr(_REASON, str(error))
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
        # Networks and their graphs refer to each other in circles, which would keep each trial's copy of the rows.
        gc.collect()
        on_trial(tried(study, base)[-1])


def tried(study: Study, base: TrainingConfig) -> list[TriedSettings]:
    """The trials that count, in the order in which they were tried.

    Args:
        study: see `kept_study`.
        base: the settings as they were configured.
    """
    return [_tried(number, trial, base) for number, trial in enumerate(_finished(study), 1)]


def best(trials: Sequence[TriedSettings]) -> TriedSettings:
    """The trial with the highest average precision among those that came to their end, the first of several.

    Raises:
        ConfigurationError: there is none.
    """
    whole = [trial for trial in trials if not trial.pruned]
    if not whole:
        reason = next((f" ({trial.reason})" for trial in trials if trial.reason), "")
        raise ConfigurationError(
            f"no trial came to its end, {len(trials)} were cut short{reason}; give more time, or other settings"
        )
    return max(whole, key=lambda trial: trial.average_precision or 0.0)


def as_mapping(settings: TrainingConfig) -> dict[str, Any]:
    """Settings as YAML and JSON hold them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


_LOGARITHMIC = ("learning_rate",)
_REASON = "reason"


def _finished(study: Study) -> list[FrozenTrial]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _sampler(config: TuningConfig, done: int) -> TPESampler:
    """Tree-structured Parzen estimators (Bergstra et al., 2011) over all settings together, for the next trial."""
    from optuna.samplers import TPESampler

    # One sampler for all would begin its draws again in a process that goes on with a study.
    [seed] = np.random.SeedSequence([config.seed, done]).generate_state(1)
    return TPESampler(n_startup_trials=config.random_trials, seed=int(seed))


def _suggest(trial: Trial, base: TrainingConfig, config: TuningConfig) -> None:
    for name, own in _parameters(base, config).items():
        values = config.space.searched()[name]
        if isinstance(values, Range):
            low, high = min(values.low, own), max(values.high, own)
            trial.suggest_float(name, low, high, log=name in _LOGARITHMIC)
        else:
            trial.suggest_categorical(name, list(dict.fromkeys(_encoded(value) for value in (own, *values))))


def _parameters(base: TrainingConfig, config: TuningConfig) -> dict[str, Any]:
    """The study's parameters for settings."""
    return {name: _encoded(getattr(base, name)) for name in config.space.searched()}


def _settings(parameters: Mapping[str, Any], base: TrainingConfig) -> TrainingConfig:
    """The settings of a study's parameters."""
    changed: dict[str, Any] = {
        name: _decoded(value) if name == "units" else value for name, value in parameters.items()
    }
    return replace(base, **changed)


def _encoded(value: Any) -> Any:
    """A choice must be text, a number or None: widths become `128-64-32`."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else value


def _decoded(units: str) -> tuple[int, ...]:
    return tuple(int(width) for width in units.split("-"))


def _watch(trial: Trial, is_over: Callable[[], bool]) -> AfterEpoch:
    from optuna import TrialPruned

    def after_epoch(course: Sequence[float]) -> None:
        trial.report(course[-1], step=len(course))
        if trial.should_prune():
            raise TrialPruned
        if is_over():
            raise _OutOfTime

    return after_epoch


def _tried(number: int, trial: FrozenTrial, base: TrainingConfig) -> TriedSettings:
    from optuna.trial import TrialState

    course = tuple(value for _, value in sorted(trial.intermediate_values.items()))
    assert trial.duration is not None, "a trial that counts has ended"
    return TriedSettings(
        number,
        max(course, default=None),
        trial.state == TrialState.PRUNED,
        trial.user_attrs.get(_REASON, ""),
        course,
        _settings(trial.params, base),
        trial.duration.total_seconds(),
    )
