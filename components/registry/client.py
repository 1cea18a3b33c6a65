"""The connection to MLflow, and its errors as ours."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connect(tracking_uri: str) -> MlflowClient:
    """A client of the tracking server or database at `tracking_uri`; a database that is not there yet is created.

    Raises:
        RegistryError: nothing answers there, or it is a database and what MLflow needs for one is not installed.
    """
    # Read once, when MLflow is imported: a bank's pipeline reports to nobody, and draws no bars of its own.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for chatter in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    with registry_errors(f"connecting to {tracking_uri}"):
        try:
            return MlflowClient(tracking_uri, registry_uri=tracking_uri)
        except ModuleNotFoundError as error:
            raise RegistryError(
                f"connecting to {tracking_uri}: a database needs {error.name}, which is not installed where nothing "
                "trains; name the address of an MLflow server instead"
            ) from error


@contextmanager
def registry_errors(doing: str) -> Iterator[None]:
    """Turns what MLflow raises into a RegistryError that says what was being done."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"{doing}: MLflow says: {error}") from error
