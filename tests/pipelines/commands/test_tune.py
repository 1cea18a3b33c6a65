"""`fraudops tune`: what it asks for, and what it tells people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from components import simulator
from pipelines import config
from pipelines.cli import main

NEEDED = {"--source": "simulated", "--at": "2024-02-10T12:00:00", "--trials": "2", "--out": "training.yaml"}


def arguments(**changed: str) -> list[str]:
    options = {"--log": "log.parquet", **NEEDED, **{f"--{name}": value for name, value in changed.items()}}
    return ["tune", *(text for option in options.items() for text in option)]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"trials": "0"}, "0 is not in the range x>=1"),
        ({"at": "yesterday"}, "'yesterday' does not match"),
        ({"timeout": "2 hours"}, "duration '2 hours' is not a whole number and a unit"),
    ],
)
def test_what_it_cannot_go_by_is_bad_usage(changed, message, capsys):
    assert main(arguments(**changed)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_what_it_writes_is_a_configuration_and_the_best_trials_are_shown(tmp_path: Path, capsys) -> None:
    simulator.write(simulator.simulate(cards=300, days=50, seed=2), tmp_path / "log.parquet")
    settings = {
        "backtest": {"warm_up_s": 10 * 86_400},
        "training": {"epochs": 2, "units": [16], "batch_size": 512},
        "tuning": {"space": {"units": [[8]], "batch_size": None}},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    places = {"log": "log.parquet", "out": "training.yaml", "config": "base.yaml", "workspace": "workspace"}
    asked = arguments(**{name: str(tmp_path / place) for name, place in places.items()}, timeout="2h")
    assert main(asked) == 0
    shown = capsys.readouterr().err
    assert "trial 2 of 2" in shown
    for line in ("trial", "average precision", "epochs", "learning_rate", "units"):
        assert any(text.startswith(line) for text in shown.splitlines())
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    written = config.load(tmp_path / "training.yaml")
    assert list(written.training.units) == told["training"]["units"]
    assert written.backtest.warm_up_s == 10 * 86_400
    assert len(told["trials"]) == 2 and told["average_precision"] > 0
