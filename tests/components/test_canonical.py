"""Two exports of one model are the same bytes, wherever and after whatever they were made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.digests import directory_digest

PROJECT = Path(__file__).parents[2]
# Exports a small network behind a vocabulary that lies in a folder, in a process that has made other functions before.
EXPORT = """
import sys
from pathlib import Path
import keras
import tensorflow as tf
from components.canonical import canonicalise

folder, others = Path(sys.argv[1]), int(sys.argv[2])
for number in range(others):
    tf.function(lambda x: x * number)(tf.constant(1.0))
folder.mkdir()
words = folder / "vocabulary_words"
words.write_text("a\\nb\\n")
archive = keras.export.ExportArchive()
inputs = keras.Input((2,), name="numbers")
keras.utils.set_random_seed(1)
model = keras.Model(inputs, keras.layers.Dense(1, name="dense")(inputs))
line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
initializer = tf.lookup.TextFileInitializer(tf.constant(str(words)), tf.string, line, tf.int64, number)
table = tf.lookup.StaticHashTable(initializer, -1)
archive.track(model)

def score(numbers, words):
    return {"score": model(numbers)[:, 0] + tf.cast(table.lookup(words), tf.float32)}

archive._tf_trackable.table = table
taken = [tf.TensorSpec([None, 2], name="numbers"), tf.TensorSpec([None], tf.string, name="words")]
archive.add_endpoint("score", score, taken)
archive.write_out(str(folder / "model"), verbose=False)
if len(sys.argv) == 3:
    canonicalise(folder / "model")
"""


def export(folder: Path, others: int, *raw: str) -> Path:
    subprocess.run(
        [sys.executable, "-c", EXPORT, str(folder), str(others), *raw], cwd=PROJECT, check=True, capture_output=True
    )
    return folder / "model"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("exported") / "here", 0)


def test_the_digest_depends_neither_on_the_process_nor_on_the_folder(exported: Path, tmp_path: Path) -> None:
    assert directory_digest(export(tmp_path / "elsewhere", 7)) == directory_digest(exported)


def test_both_loaders_take_it_and_it_scores_as_before(exported: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    before = tf.saved_model.load(str(export(tmp_path / "raw", 3, "as TensorFlow wrote it")))
    given = {"numbers": tf.constant([[1.0, 2.0], [3.0, -1.0]]), "words": tf.constant(["b", "unknown"])}
    expected = before.signatures["score"](**given)["score"].numpy()
    after = tf.saved_model.load(str(exported)).signatures["score"](**given)["score"].numpy()
    np.testing.assert_array_equal(after, expected)
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        definition = tf.compat.v1.saved_model.load(session, ["serve"], str(exported)).signature_def["score"]
        feed = {definition.inputs[name].name: value.numpy() for name, value in given.items()}
        np.testing.assert_array_equal(session.run(definition.outputs["score"].name, feed), expected)


def test_doing_it_again_changes_nothing(exported: Path) -> None:
    from components.canonical import canonicalise

    before = directory_digest(exported)
    canonicalise(exported)
    assert directory_digest(exported) == before
