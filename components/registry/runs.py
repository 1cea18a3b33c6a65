"""Runs in MLflow that are found again by a tag, so that what is tried twice leaves one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# What MLflow takes in one call.
_BATCH_PARAMS = 100


def find_or_create(
    client: MlflowClient,
    experiment: str,
    key_tag: str,
    tags: Mapping[str, str],
    run_name: str,
    artifact_root: str | None,
) -> Run:
    """The run of an experiment with a tag's value, which is made where there is none, and the experiment with it.

    Args:
        client: see `components.registry.client.connect`.
        experiment: its name.
        key_tag: the tag by which the run is found; among `tags`.
        tags: of a new run.
        run_name: of a new run.
        artifact_root: URI below which a new experiment keeps its files; None leaves that to the server.
    """
    found = client.get_experiment_by_name(experiment)
    if found is None:
        location = None if artifact_root is None else f"{artifact_root.rstrip('/')}/{experiment}"
        experiment_id = client.create_experiment(experiment, artifact_location=location)
    else:
        experiment_id = found.experiment_id
    runs = client.search_runs([experiment_id], f"tags.`{key_tag}` = '{tags[key_tag]}'", max_results=1)
    return runs[0] if runs else client.create_run(experiment_id, tags=dict(tags), run_name=run_name)


def log_params(client: MlflowClient, run: Run, params: Mapping[str, str]) -> None:
    """Keeps parameters with a run; the same ones again change nothing."""
    from mlflow.entities import Param

    listed = [Param(name, value) for name, value in params.items()]
    for start in range(0, len(listed), _BATCH_PARAMS):
        client.log_batch(run.info.run_id, params=listed[start : start + _BATCH_PARAMS])


def row_params(rows: Mapping[str, int]) -> dict[str, str]:
    """The numbers of rows by what became of them, as parameters of a run."""
    return {f"rows.{name}": str(count) for name, count in rows.items()}
