"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.components.tiny import ExampleSet, Model

# A machine under load may take any time for one example.
hypothesis.settings.register_profile("fraudops", deadline=None)
hypothesis.settings.load_profile("fraudops")


@pytest.fixture(scope="session")
def handbook_log() -> Path:
    """The Fraud Detection Handbook's log; skips the test where it is not at hand."""
    return _public_log("handbook")


@pytest.fixture(scope="session")
def sparkov_log() -> Path:
    """The Sparkov log; skips the test where it is not at hand."""
    return _public_log("sparkov")


# One tiny model for all tests that need one: its parts are made when they are first asked for.


@pytest.fixture(scope="session")
def tiny_examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    from tests.components import tiny

    return tiny.make_examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="session")
def tiny_graph(tiny_examples: ExampleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the transform graph of the tiny examples."""
    from tests.components import tiny

    folder = tmp_path_factory.mktemp("transform") / "graph"
    tiny.analyze(tiny_examples, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_examples: ExampleSet, tiny_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    from tests.components import tiny

    return tiny.train(tiny_examples, tiny_graph, tmp_path_factory.mktemp("model"))


def _public_log(source: str) -> Path:
    folder = os.environ.get("FRAUDOPS_DATA")
    if folder is None:
        pytest.skip("FRAUDOPS_DATA is unset: it names the folder that holds handbook/ and sparkov/")
    log = Path(folder) / source / "transactions.parquet"
    if not log.is_file():
        pytest.skip(f"{log} is not there")
    return log
