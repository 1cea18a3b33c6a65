"""The bundle: what travels with a model in its SavedModel, and changes only together with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ArtifactError
from schemas.features import FeatureSpec
from schemas.thresholds import Thresholds

# A folder of a SavedModel that TensorFlow keeps and does not read.
ASSETS_EXTRA = "assets.extra"
FEATURE_SPEC_FILE = "feature_spec.json"
THRESHOLDS_FILE = "thresholds.json"
DECISION_FILE = "decision.json"
WARM_UP_FILE = "tf_serving_warmup_requests"
# Scores that training gave the first rows of validation, a JSON list.
RECORDED_FILE = "recorded_scores.json"


@dataclass(frozen=True)
class Bundle:
    """What turns a transaction into a model's input, and the model's score into a decision.

    Attributes:
        spec: the inputs, in the order of `score_packed`.
        thresholds: from which score on a transaction is reviewed or blocked.
        rules_digest: of the rule set beside which the model was meant to decide.
        reason_vocabulary: version of `schemas.reasons` in which it explains itself.
    """

    spec: FeatureSpec
    thresholds: Thresholds
    rules_digest: str
    reason_vocabulary: int

    def to_json(self) -> str:
        """One JSON object, for who has no SavedModel at hand."""
        return json.dumps(
            {
                "spec": json.loads(self.spec.to_json()),
                "thresholds": json.loads(self.thresholds.to_json()),
                **json.loads(self._decision()),
            },
            separators=(",", ":"),
        )

    @staticmethod
    def from_json(text: str) -> Bundle:
        """Reads back `to_json`.

        Raises:
            ArtifactError: the text is not a bundle that this version can decide with.
        """
        try:
            raw = json.loads(text)
            return _bundle(json.dumps(raw["spec"]), json.dumps(raw["thresholds"]), raw)
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not the bundle of a model ({error!r}); retrain it with this version") from error

    def write(self, saved_model: Path) -> None:
        """Puts the bundle into a SavedModel that has none yet."""
        extra = saved_model / ASSETS_EXTRA
        extra.mkdir()
        (extra / THRESHOLDS_FILE).write_text(self.thresholds.to_json(), encoding="utf-8")
        (extra / FEATURE_SPEC_FILE).write_text(self.spec.to_json(), encoding="utf-8")
        (extra / DECISION_FILE).write_text(self._decision(), encoding="utf-8")

    @staticmethod
    def read(saved_model: Path) -> Bundle:
        """The bundle of a SavedModel.

        Raises:
            ArtifactError: a file of it is absent, or is not what it should be.
        """
        extra = saved_model / ASSETS_EXTRA
        try:
            names = (FEATURE_SPEC_FILE, THRESHOLDS_FILE, DECISION_FILE)
            spec, thresholds, decision = ((extra / name).read_text(encoding="utf-8") for name in names)
            return _bundle(spec, thresholds, json.loads(decision))
        except (OSError, ValueError, KeyError, TypeError, ArtifactError) as error:
            raise ArtifactError(
                f"{extra} is not the bundle of a model of this version ({error}); retrain the model with it"
            ) from error

    def _decision(self) -> str:
        return json.dumps({"rules_digest": self.rules_digest, "reason_vocabulary": self.reason_vocabulary}, indent=2)


def _bundle(spec: str, thresholds: str, decision: dict[str, object]) -> Bundle:
    rules_digest, vocabulary = decision["rules_digest"], decision["reason_vocabulary"]
    if not isinstance(rules_digest, str) or not isinstance(vocabulary, int):
        raise TypeError(f"rules_digest {rules_digest!r} is no text, or reason_vocabulary {vocabulary!r} no number")
    return Bundle(FeatureSpec.from_json(spec), Thresholds.from_json(thresholds), rules_digest, vocabulary)
