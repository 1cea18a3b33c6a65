"""A program that searches training settings and kills itself when it has looked at the clock so many times.

Arguments: the log, the workspace, the configuration to write, how many trials there are to be, and the number of
looks, or 0.  A search looks when it begins, before each trial and behind each epoch.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from components.backtest import BacktestConfig
from components.training.config import TrainingConfig
from components.tuning.config import SearchSpace, TuningConfig
from pipelines.config import RunConfig
from schemas.transaction import DAY_S

AT = datetime(2024, 2, 10, 12, tzinfo=UTC)
EPOCHS = 2
# Two small networks, so that a trial takes a second.
CONFIG = RunConfig(
    training=TrainingConfig(units=(16,), batch_size=512, epochs=EPOCHS),
    backtest=BacktestConfig(warm_up_s=10 * DAY_S),
    tuning=TuningConfig(SearchSpace(units=((8,),), batch_size=None), random_trials=2, pruning_epochs=1),
)


def main(log: Path, workspace: Path, out: Path, trials: int, last_look: int) -> None:
    from pipelines.tuning import tune
    from pipelines.workspace import Workspace
    from schemas import sources

    looks = itertools.count(1)

    def now_s() -> float:
        if next(looks) == last_look:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    mapping = sources.load("simulated")
    tune(mapping, log, AT, CONFIG, trials, 3_600, Workspace.at(workspace), {}, out, now_s, print)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
