"""Evaluation by TFMA on columnar examples: what is measured, against which bounds, and how batches are read.

TFX's Evaluator imports this module by name and calls `custom_extractors`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors import features_extractor, predictions_extractor
from tensorflow_model_analysis.proto import config_pb2

from components.gate import Reason
from schemas.acceptance import EVALUATION
from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import FeatureSpec
from schemas.transaction import LABEL

SIGNATURE = "score"
_INFERENCE_BATCH = 8_192


@dataclass(frozen=True)
class EvaluationConfig:
    """Bounds that a candidate must keep on the test split.

    Attributes:
        min_average_precision: the floor, whatever the champion does.
        max_loss: how much average precision a candidate may lose against the champion.
        slices: columns by which TFMA measures each segment, too, where the source has them.  Each costs as much as the
            whole split, and gates nothing: slices with intervals are in the evidence.
    """

    min_average_precision: float = 0.3
    max_loss: float = 0.02
    slices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("min_average_precision", "max_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"evaluation {name} is {getattr(self, name)}; it must be 0 or more, at most 1")


def eval_config(config: EvaluationConfig, spec: FeatureSpec) -> tfma.EvalConfig:
    """TFMA's configuration: areas under the precision-recall and ROC curves, of which the first is gated."""
    overall = tfma.SlicingSpec()
    bounds = tfma.MetricThreshold(
        value_threshold=tfma.GenericValueThreshold(lower_bound={"value": config.min_average_precision}),
        change_threshold=tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -config.max_loss}
        ),
    )
    average_precision = tfma.MetricConfig(
        class_name="AUC",
        config='{"curve": "PR", "name": "average_precision", "num_thresholds": 10000}',
        # Plain thresholds would hold every segment to them, the smallest too, where one fraud more or less decides.
        per_slice_thresholds=[config_pb2.PerSliceMetricThreshold(slicing_specs=[overall], threshold=bounds)],
    )
    present = {i.name for i in spec.row_inputs}
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name=SIGNATURE, label_key=LABEL, inference_batch_size=_INFERENCE_BATCH)],
        slicing_specs=[overall, *(tfma.SlicingSpec(feature_keys=[c]) for c in config.slices if c in present)],
        metrics_specs=[
            tfma.MetricsSpec(
                metrics=[
                    average_precision,
                    tfma.MetricConfig(class_name="AUC", config='{"name": "roc_auc", "num_thresholds": 10000}'),
                    # MeanLabel, which the statistics know too, would take as long as both curves.
                    tfma.MetricConfig(class_name="ExampleCount"),
                ]
            )
        ],
    )


def refusal_reasons(evaluation: Path) -> tuple[Reason, ...]:
    """Why a model was not blessed, from what TFMA wrote; nothing when it was."""
    result = tfma.load_validation_result(str(evaluation))
    reasons = []
    for in_slice in result.metric_validations_per_slice:
        for failure in in_slice.failures:
            name, value = failure.metric_key.name, failure.metric_value.double_value.value
            threshold = failure.metric_threshold
            if threshold.HasField("change_threshold"):
                limit = threshold.change_threshold.absolute.value
                message = (
                    f"{name} on test changed by {value:+.4f} against the champion; {limit:+.4f} is the most it may lose"
                )
            else:
                limit = threshold.value_threshold.lower_bound.value
                message = f"{name} on test is {value:.4f}, below the floor of {limit:.4f}"
            reasons.append(_refusal(name, message, value, limit))
    for missing in result.missing_slices:
        reasons.append(_refusal("test", f"the test split has no rows to judge by: {missing}"))
    return tuple(reasons)


def _refusal(subject: str, message: str, value: float | None = None, limit: float | None = None) -> Reason:
    # Nobody accepts it: TFX's Evaluator has blessed no model, and behind it none is registered.
    return Reason(EVALUATION, "stop", subject, message, value, limit, acceptable=False)


def evaluation_digest(evaluation: Path) -> str:
    """SHA-256 of what an evaluation found, 64 lower-case hexadecimal digits.

    Of the names of its record files in their order, and of each one's records in the order of their bytes, as Beam
    writes them in any; of each the length, unsigned, 8 bytes, most significant first, and then itself.  How the
    evaluation was configured is in the code's version and in the bounds, and where the model lay is no finding.

    Raises:
        ArtifactError: the folder holds no evaluation.
    """
    files = sorted(evaluation.glob("*.tfrecord"))
    if not files:
        raise ArtifactError(f"{evaluation} holds no evaluation; evaluate the model again")
    digest = hashlib.sha256()
    for file in files:
        records = [file.name.encode(), *sorted(tf.compat.v1.io.tf_record_iterator(str(file)))]
        for record in records:
            digest.update(len(record).to_bytes(8, "big") + record)
    return digest.hexdigest()


def custom_extractors(eval_shared_model: Any, eval_config: tfma.EvalConfig, tensor_adapter_config: Any) -> list[Any]:
    """TFMA's own extractors, without those that cannot or need not run on columns.

    The model's transform runs inside its signature, so that there are no transformed features to extract (TFMA would
    ask for serialized examples, which Parquet has none of); only slice columns go on behind the predictions, because
    TFMA takes batches apart row by row there.
    """
    extractors = tfma.default_extractors(
        eval_shared_model=eval_shared_model,
        eval_config=eval_config,
        tensor_adapter_config=tensor_adapter_config,
        custom_predict_extractor=predictions_extractor.PredictionsExtractor(
            eval_config=eval_config, eval_shared_model=eval_shared_model
        ),
    )
    sliced = {key for spec in eval_config.slicing_specs for key in spec.feature_keys}
    keep = tfma.extractors.Extractor(stage_name="KeepSliceColumns", ptransform=beam.Map(_keep_features, sliced))
    last_batched = next(n for n, e in enumerate(extractors) if e.stage_name == "ExtractUnbatchedInputs")
    return [*extractors[:last_batched], keep, *extractors[last_batched:]]


def _keep_features(extracts: dict[str, Any], names: set[str]) -> dict[str, Any]:
    features = extracts[features_extractor.FEATURES_KEY]
    return {**extracts, features_extractor.FEATURES_KEY: {name: features[name] for name in features.keys() & names}}
