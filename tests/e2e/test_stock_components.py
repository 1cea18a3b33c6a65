"""Stock TFX components read the pipeline's Parquet examples: what each of them found is what the split holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.examples import read_batches
from components.splits import SPLITS
from components.transform import vocabulary_name
from schemas import sources
from schemas.features import specify
from schemas.transaction import LABEL
from tests.e2e.conftest import Answer, Site


def output(site: Site, step: str, name: str) -> Path:
    """What a step of the first run wrote."""
    folders = (site.workspace / "pipelines" / "fraud-simulated" / step / name).iterdir()
    return min(folders, key=lambda folder: int(folder.name))


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_of_every_split_is_profiled(first_run: Answer, site: Site, split: str) -> None:
    from components.statistics import load_statistics

    found = load_statistics(output(site, "statistics", "statistics") / f"Split-{split}" / "FeatureStats.pb")
    assert found.num_examples == first_run.fields["rows"][split]
    by_name = {feature.name or feature.path.step[0]: feature for feature in found.features}
    spec = specify(sources.load("simulated").provided)
    assert by_name.keys() == {*(i.name for i in spec.inputs), LABEL}
    labels = np.concatenate([one for _, one in read_batches(output(site, "examples", "examples"), split, spec)])
    assert by_name[LABEL].num_stats.mean == pytest.approx(labels.mean())


def test_transform_analyses_the_training_split(first_run: Answer, site: Site) -> None:
    import tensorflow_transform as tft

    spec = specify(sources.load("simulated").provided)
    examples = output(site, "examples", "examples")
    channels = {word for batch, _ in read_batches(examples, "train", spec) for word in batch["channel"]}
    graph = tft.TFTransformOutput(str(output(site, "transform", "transform_graph")))
    assert set(graph.vocabulary_by_name(vocabulary_name("channel"))) == channels


def test_evaluator_scores_columns_by_the_signature_of_named_tensors(first_run: Answer, site: Site) -> None:
    import tensorflow_model_analysis as tfma

    found = tfma.load_eval_result(str(output(site, "evaluator", "evaluation")))
    assert [model.signature_name for model in found.config.model_specs] == ["score"]
    metrics = found.get_metrics_for_slice()
    assert metrics["example_count"]["doubleValue"] == first_run.fields["rows"]["test"]
    # TFMA's curve has steps, and scikit-learn's has not.
    expected = first_run.fields["metrics"]["test"]["roc_auc"]
    assert metrics["roc_auc"]["doubleValue"] == pytest.approx(expected, abs=0.01)
