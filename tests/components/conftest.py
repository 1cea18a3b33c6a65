"""One tiny model for all tests that need one: its parts are made when they are first asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.components.tiny import ExampleSet, Model


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
