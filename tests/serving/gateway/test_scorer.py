"""What the gateway sends is what a SavedModel behind the embedded model server reads."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from schemas.scoring_pb2 import Degraded
from serving.features import Features
from serving.gateway.explainer import Explainer
from serving.gateway.scorer import ModelFailure, Question, Scorer, open_channel
from serving.inputs import Packer
from serving.model_server.config import Every, ModelSettings
from serving.model_server.server import ModelServer, Options
from tests.serving.gateway.gateways import BOUND_S, SPEC, asynchronous

F, C = SPEC.numeric_width, SPEC.categorical_width


class Reader(tf.Module):
    """Scores a thousandth of the first number where a row is as the test sends it, and else 1."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, F], tf.float32, name="numeric"),
            tf.TensorSpec([None, C], tf.string, name="categorical"),
        ]
    )
    def score_packed(self, numeric: tf.Tensor, categorical: tf.Tensor) -> dict[str, tf.Tensor]:
        first = numeric[:, :1]
        counting = tf.reduce_all(numeric[:, :-1] == first + tf.range(F - 1, dtype=tf.float32), axis=1)
        missing = tf.math.is_nan(numeric[:, -1])
        texts = tf.reduce_all(categorical == tf.constant([f"ä{place}" for place in range(C)]), axis=1)
        return {"score": tf.where(counting & missing & texts, first[:, 0] / 1000, 1.0)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, F], tf.float32, name="numeric"),
            tf.TensorSpec([None, C], tf.string, name="categorical"),
        ]
    )
    def explain(self, numeric: tf.Tensor, categorical: tf.Tensor) -> dict[str, tf.Tensor]:
        score = self.score_packed(numeric, categorical)["score"]
        return {"score": score, "attributions": 100 * score[:, tf.newaxis] * tf.one_hot([F], F + C)}


def row(first: float) -> Features:
    numbers = tuple(first + place for place in range(F - 1))
    return Features((*numbers, math.nan), tuple(f"ä{place}" for place in range(C)))


@asynchronous
async def test_a_saved_model_reads_what_was_packed(tmp_path: Path) -> None:
    module = Reader()
    signatures = {"score_packed": module.score_packed, "explain": module.explain}
    tf.saved_model.save(module, str(tmp_path / "3"), signatures)
    settings = ModelSettings("fraud", tmp_path, Every(), {"stable": 3})
    options = Options(port=0, metrics_port=0, allow_labels_for_unavailable=True)
    packer = Packer(SPEC, SPEC)
    with ModelServer([settings], options) as server:
        async with open_channel(server.address) as channel:
            sizes: list[int] = []
            scorer = Scorer(channel, "fraud", "stable", BOUND_S, 64, 1, sizes.append)
            answers = await asyncio.gather(*(scorer.ask(Question(row(100.0 + n), packer, 3)) for n in range(5)))
            assert [answer.version for answer in answers] == [3] * 5
            assert [answer.score for answer in answers] == pytest.approx([0.1, 0.101, 0.102, 0.103, 0.104])
            assert sizes == [5]
            explainer = Explainer(channel, "fraud", BOUND_S, 1)
            assert await explainer.ask(Question(row(100.0), packer, 3), BOUND_S) == (packer.reasons[F],)
            assert await explainer.ask(Question(row(1.0), packer, 3), BOUND_S) == ()
            with pytest.raises(ModelFailure, match="NOT_FOUND"):
                await explainer.ask(Question(row(100.0), packer, 4), BOUND_S)
            with pytest.raises(ModelFailure, match="no time"):
                await explainer.ask(Question(row(100.0), packer, 3), 0.0)
            # A label that the server does not know: the version is asked by its number, if there is one.
            absent = Scorer(channel, "fraud", "canary", BOUND_S, 64, 1)
            assert (await absent.ask(Question(row(100.0), packer, 3))).version == 3
            with pytest.raises(ModelFailure) as raised:
                await absent.ask(Question(row(100.0), packer, 4))
            assert raised.value.cause == Degraded.MODEL_UNAVAILABLE
    async with open_channel(server.address) as channel:
        gone = Scorer(channel, "fraud", "stable", BOUND_S, 64, 1)
        with pytest.raises(ModelFailure) as raised:
            await gone.ask(Question(row(100.0), packer, 3))
        assert raised.value.cause == Degraded.MODEL_UNAVAILABLE


def test_the_gateway_runs_without_tensorflow() -> None:
    code = "import sys, serving.gateway.server; sys.exit(any(m.split('.')[0] == 'tensorflow' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
