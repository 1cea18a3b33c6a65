import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.cli import main
from pipelines.workspace import Workspace
from serving.features import Features
from tests.pipelines.decided import Logs, changed, run, simulated

MERCHANT_COUNT = "merchant_id_count_24h"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    return simulated(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def sound(logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a gateway without a fault."""
    workspace = tmp_path_factory.mktemp("sound")
    run(logs, Workspace.at(workspace).decisions)
    return workspace


@pytest.fixture(scope="module")
def faulty(logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of one whose store counts wrongly at one merchant."""
    workspace = tmp_path_factory.mktemp("faulty")
    merchant = logs.live[7]["merchant_id"]

    def answer(transaction: Mapping[str, Any], features: Features) -> Features:
        return changed(features, MERCHANT_COUNT, 1e6) if transaction["merchant_id"] == merchant else features

    run(logs, Workspace.at(workspace).decisions, answer)
    return workspace


def consistency(
    capsys: pytest.CaptureFixture[str], workspace: Path, *more: object, source: str = "simulated"
) -> tuple[int, dict[str, Any]]:
    arguments = ["features", "consistency", "--source", source, "--workspace", workspace, *more, "--json"]
    code = main(list(map(str, arguments)))
    return code, json.loads(capsys.readouterr().out)


def test_a_sound_store_passes_and_the_rates_are_written_for_prometheus(
    capsys: pytest.CaptureFixture[str], logs: Logs, sound: Path, tmp_path: Path
) -> None:
    metrics = tmp_path / "features.prom"
    code, fields = consistency(capsys, sound, "--log", logs.file, "--alarm", 0, "--metrics-file", metrics)
    assert (code, fields["above_alarm"]) == (0, [])
    assert (fields["decisions"], fields["compared"], fields["unanswered"]) == (len(logs.live), len(logs.live), 0)
    assert fields["features"][MERCHANT_COUNT] == {
        "rows": len(logs.live),
        "mismatched": 0,
        "missing": 0,
        "extra": 0,
        "rate": 0,
        "example": None,
        "apart": {},
    }
    families = {family.name for family in text_string_to_metric_families(metrics.read_text())}
    assert "fraudops_feature_mismatch_ratio" in families


def test_a_fault_exits_1_and_names_the_feature(capsys: pytest.CaptureFixture[str], logs: Logs, faulty: Path) -> None:
    code, fields = consistency(capsys, faulty, "--log", logs.file)
    assert (code, fields["above_alarm"]) == (1, [MERCHANT_COUNT])
    assert fields["features"][MERCHANT_COUNT]["example"]
    code, fields = consistency(capsys, faulty, "--log", logs.file, "--alarm", 1)
    assert (code, fields["above_alarm"]) == (0, [])


def test_the_store_says_which_labels_of_its_log_it_was_given(
    capsys: pytest.CaptureFixture[str], logs: Logs, tmp_path: Path
) -> None:
    run(logs, Workspace.at(tmp_path).decisions)
    where = ["--source", "simulated", "--log", logs.file, "--workspace", tmp_path]
    ahead = []
    for verb in ("load", "label"):
        assert main(["features", verb, *map(str, where), "--json"]) == 0
        given = json.loads(capsys.readouterr().out)
        _, fields = consistency(capsys, tmp_path, "--log", logs.file)
        ahead.append(fields["labels_ahead"])
    assert ahead == [given["added"], 0]
    assert given["added"] > 0


def test_people_see_which_feature_is_wrong_and_how_often(
    capsys: pytest.CaptureFixture[str], logs: Logs, faulty: Path
) -> None:
    where = ["--source", "simulated", "--log", str(logs.file), "--workspace", str(faulty)]
    assert main(["features", "consistency", *where]) == 1
    shown = capsys.readouterr()
    assert not shown.out
    # Lines break where the terminal ends.
    words = " ".join(shown.err.split())
    assert all(part in words for part in (f"{MERCHANT_COUNT}: ", "mismatched", "such as", "1 of", "above the alarm"))


def test_nothing_to_compare_exits_1(capsys: pytest.CaptureFixture[str], logs: Logs, sound: Path) -> None:
    code, fields = consistency(capsys, sound, "--log", logs.file, "--until", "1990-01-01")
    assert (code, fields["decisions"], fields["features"]) == (1, 0, {})


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none_is_bad_input(capsys: pytest.CaptureFixture[str], sound: Path, option: str) -> None:
    code, fields = consistency(capsys, sound, option, "yesterday")
    assert code == 2
    assert f"{option} 'yesterday'" in fields["error"]["message"]


def test_a_workspace_without_decisions_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, fields = consistency(capsys, tmp_path)
    assert code == 2
    assert "decisions.sqlite" in fields["error"]["message"]


def test_a_history_that_is_not_there_is_bad_input(
    capsys: pytest.CaptureFixture[str], sound: Path, tmp_path: Path
) -> None:
    code, fields = consistency(capsys, sound, "--log", tmp_path / "absent.parquet")
    assert code == 2
    assert "absent.parquet" in fields["error"]["message"]
