"""What the preprocessing function learns: moments and vocabularies as TFT's own analyzers have them."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions

from components.analysis import moments, vocabularies
from components.features.table import IN_MEMORY

KEPT = 6
# Ties, words that no vocabulary takes, and more words than are kept.
COUNTS = {"often": 9, "tie a": 4, "tie b": 4, "\N{SNOWMAN}": 3, "": 8, "two\nlines": 7, "rare": 2, "rarer": 1, "z": 1}
TEXT = [word for word, count in COUNTS.items() for _ in range(count)]
NUMBERS = np.random.default_rng(3).lognormal(5, 3, (len(TEXT), 3)).astype(np.float32)
NUMBERS[::4, 1] = np.nan
NUMBERS[:, 2] = np.nan
SPEC = {
    "numbers": tf.io.FixedLenFeature([3], tf.float32),
    "text": tf.io.FixedLenFeature([], tf.string),
    "pair": tf.io.FixedLenFeature([2], tf.string),
    "empty": tf.io.FixedLenFeature([], tf.string),
}


def rows() -> list[dict[str, Any]]:
    return [
        {"numbers": numbers, "text": word, "pair": [word, "often"], "empty": ""}
        for numbers, word in zip(NUMBERS, TEXT, strict=True)
    ]


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    mean, deviation = moments(inputs["numbers"])
    texts = {name: inputs[name] for name in ("text", "pair", "empty")}
    files = vocabularies({f"our_{name}": values for name, values in texts.items()}, KEPT)
    outputs = {name: tft.apply_vocabulary(texts[name], files[f"our_{name}"], num_oov_buckets=1) for name in texts}
    for name, values in texts.items():
        theirs = tft.compute_and_apply_vocabulary(values, top_k=KEPT, num_oov_buckets=1, vocab_filename=f"their_{name}")
        outputs[f"their_{name}"] = theirs
    like = tf.ones_like(inputs["numbers"])
    return {**outputs, "mean": like * tf.cast(mean, tf.float32), "deviation": like * tf.cast(deviation, tf.float32)}


@pytest.fixture(scope="module", params=[5, 1_000], ids=["small batches", "one batch"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tft.TFTransformOutput:
    folder = tmp_path_factory.mktemp("analysis")
    with (
        beam.Pipeline(options=PipelineOptions(list(IN_MEMORY))) as pipeline,
        tft_beam.Context(temp_dir=str(folder / "scratch"), desired_batch_size=request.param),
    ):
        data = pipeline | beam.Create([rows()]) | beam.FlatMap(list), tft.DatasetMetadata.from_feature_spec(SPEC)
        _ = data | tft_beam.AnalyzeDataset(preprocessing_fn) | tft_beam.WriteTransformFn(str(folder / "graph"))
    return tft.TFTransformOutput(str(folder / "graph"))


@pytest.fixture(scope="module")
def outputs(graph: tft.TFTransformOutput) -> dict[str, np.ndarray]:
    raw = {
        "numbers": tf.constant(NUMBERS),
        "text": tf.constant(TEXT),
        "pair": tf.constant([[word, "often"] for word in TEXT]),
        "empty": tf.constant([""] * len(TEXT)),
    }
    return {name: values.numpy() for name, values in graph.transform_features_layer()(raw).items()}


@pytest.mark.parametrize("text", ["text", "pair"])
def test_a_vocabulary_is_the_one_that_tft_makes(graph, outputs, text):
    ours, theirs = (graph.vocabulary_by_name(f"{whose}_{text}") for whose in ("our", "their"))
    assert ours == theirs
    assert len(ours) == KEPT
    np.testing.assert_array_equal(outputs[text], outputs[f"their_{text}"])


def test_a_text_without_words_gives_every_row_the_id_of_words_outside(graph, outputs):
    assert graph.vocabulary_size_by_name("our_empty") == 1
    assert outputs["empty"].tolist() == outputs["their_empty"].tolist() == [1] * len(TEXT)


def test_moments_are_those_of_the_values_that_are_there(outputs):
    present = NUMBERS.astype(np.float64)
    np.testing.assert_allclose(outputs["mean"][0, :2], np.nanmean(present[:, :2], axis=0), rtol=1e-6)
    np.testing.assert_allclose(outputs["deviation"][0, :2], np.nanstd(present[:, :2], axis=0), rtol=1e-6)


def test_a_number_that_no_row_has_is_zero_give_or_take_next_to_nothing(outputs):
    assert (outputs["mean"][0, 2], outputs["deviation"][0, 2]) == (0, pytest.approx(1e-6))
