"""The definition of a scheduled pipeline: what it may say, and what is refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

from pipelines.definition import Definition, Limits, days, load, read_span
from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError

LEAST = {"name": "nightly", "source": "simulated", "log": "logs/{SPAN}.parquet", "workspace": "workspace"}


def loaded(folder: Path, **more: object) -> Definition:
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(LEAST | more), encoding="utf-8")
    return load(file)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        source="mapping.yaml",
        metadata="postgresql://mlmd@db/meta",
        metadata_password_file="secret",
        config={"rules": "rules.yaml", "infra": {"model_server": "tensorflow_model_server"}},
    )
    assert found.source == str(tmp_path / "mapping.yaml")
    assert found.log == str(tmp_path / "logs" / "{SPAN}.parquet")
    assert found.workspace == tmp_path / "workspace"
    assert found.metadata_password_file == tmp_path / "secret"
    assert found.config.rules == tmp_path / "rules.yaml"
    assert found.config.infra.model_server == tmp_path / "tensorflow_model_server"
    assert loaded(tmp_path, log="/data/log.csv").log == "/data/log.csv"
    assert loaded(tmp_path).source == "simulated"


def test_a_node_has_its_own_limits_or_those_of_all(tmp_path: Path) -> None:
    found = loaded(tmp_path, limits={"retries": 1}, nodes={"trainer": {"timeout_s": 60, "resources": {"gpus": 2}}})
    assert found.limits_of("ingest") == Limits(retries=1)
    assert found.limits_of("trainer").resources.gpus == 2
    assert found.limits_of("trainer").timeout_s == 60


def test_records_go_to_servers_that_are_named_and_into_the_workspace_otherwise(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "workspace")
    assert loaded(tmp_path).services(workspace).metadata.is_file
    found = loaded(tmp_path, metadata="mysql://mlmd@db/meta", tracking_uri="http://mlflow:5000").services(workspace)
    assert found.metadata.url == "mysql://mlmd@db/meta"
    assert (found.tracking_uri, found.artifact_root) == ("http://mlflow:5000", None)


@pytest.mark.parametrize(
    "more, message",
    [
        ({"name": "Nightly run"}, "name 'Nightly run' is none"),
        ({"rolling_days": 0}, "rolling_days is 0"),
        ({"rolling_days": 7, "log": "log.csv"}, "has no {SPAN}"),
        ({"retry": 1}, "unknown key 'retry'"),
        ({"limits": {"retry": 1}}, "unknown key 'retry' in limits"),
        ({"nodes": {"trainer": {"resources": {"gpu": 1}}}}, "unknown key 'gpu' in resources"),
        ({"config": {"training": {"epoch": 3}}}, "unknown key 'epoch' in training"),
        ({"limits": {"retries": -1}}, "retries is -1"),
        ({"limits": {"timeout_s": 0}}, "timeout_s is 0"),
        ({"schedule": {"start": "soon"}}, "schedule.start is 'soon'"),
        ({"metadata_password_file": "secret"}, "without metadata"),
        ({"metadata": "postgresql://mlmd:s3cret@db/meta"}, "holds a password"),
        ({"tracking_uri": "http://me:s3cret@mlflow"}, "holds a password"),
        ({"metadata": "nowhere"}, "metadata address 'nowhere' is none"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, **more)
    assert message in str(caught.value)
    assert "pipeline.yaml" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "name: [", "name: nightly"])
def test_a_file_that_is_no_definition_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pipeline.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"pipeline\.yaml"):
        load(tmp_path / "pipeline.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path / "absent.yaml")


def test_a_run_reads_the_days_up_to_its_span() -> None:
    assert days(date(2024, 3, 1), 3) == [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
    assert read_span("2024-02-29") == date(2024, 2, 29)
    for text in ("2024-02-30", "yesterday", ""):
        with pytest.raises(ConfigurationError, match="is no day"):
            read_span(text)
