"""Everything that is known about an exported model before somebody judges it, gathered from its examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from components import attributions, comparison_plots, plots
from components.comparison import CHAMPION, Rival, compare
from components.evidence import SplitEvidence, replicated, told
from components.examples import read_features, read_rows
from components.footprint import Footprint, measure_footprint
from components.measures import Bootstrap, Scored, estimates, scored
from components.slices import Slice, SliceConfig, SliceEvidence, cut, measure_slices
from components.thresholds import ThresholdConfig, choose_thresholds
from schemas.bundle import ASSETS_EXTRA, THRESHOLDS_FILE
from schemas.errors import ArtifactError
from schemas.features import MONTH, Feature, FeatureSpec
from schemas.thresholds import Costs, Thresholds
from schemas.transaction import DAY_S, SECOND_US, second_of_day

VALIDATION, TEST = "validation", "test"
SPLITS = (VALIDATION, TEST)
_RIVALS, _SLICES, _FOOTPRINT = "rivals.json", "slices.json", "footprint.json"
_EARLIER_ON_CARD = Feature("card", "count", MONTH).name


@dataclass(frozen=True)
class EvidenceConfig:
    """How a model is measured: with what intervals, and in which slices of the test split."""

    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    slices: SliceConfig = field(default_factory=SliceConfig)


@dataclass(frozen=True)
class Gathered:
    """What was found about a model, as the gate and people read it.

    Attributes:
        splits: the evidence of each of `SPLITS`, by name.
        thresholds: that the model travels with.
        rivals: other models on the test split.
        slices: of the test split.
        footprint: what it takes to serve.
    """

    splits: Mapping[str, SplitEvidence]
    thresholds: Thresholds
    rivals: tuple[Rival, ...]
    slices: tuple[SliceEvidence, ...]
    footprint: Footprint

    @property
    def test(self) -> SplitEvidence:
        """That of the split which models are judged by."""
        return self.splits[TEST]

    @staticmethod
    def read(folder: Path) -> Gathered:
        """What `write` has left in a folder.

        Raises:
            ArtifactError: something of it is absent or something else.
        """
        try:
            text = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.json")}
            return Gathered(
                {split: SplitEvidence.from_json(text[f"{split}.json"]) for split in SPLITS},
                Thresholds.from_json(text[THRESHOLDS_FILE]),
                tuple(Rival.read(raw) for raw in json.loads(text[_RIVALS])),
                tuple(SliceEvidence.read(raw) for raw in json.loads(text[_SLICES])),
                Footprint.from_json(text[_FOOTPRINT]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{folder} holds no evidence ({error!r}); evaluate the model again") from error

    def write(self, folder: Path) -> None:
        """A file for each part."""
        for split, evidence in self.splits.items():
            (folder / f"{split}.json").write_text(evidence.to_json(), encoding="utf-8")
        (folder / THRESHOLDS_FILE).write_text(self.thresholds.to_json(), encoding="utf-8")
        for name, parts in ((_RIVALS, self.rivals), (_SLICES, self.slices)):
            (folder / name).write_text(json.dumps([part.fields() for part in parts], indent=1), encoding="utf-8")
        (folder / _FOOTPRINT).write_text(self.footprint.to_json(), encoding="utf-8")


def gather(
    saved_model: Path,
    examples_root: Path,
    champion: Path | None,
    baselines: Mapping[str, Mapping[str, np.ndarray]],
    config: EvidenceConfig,
) -> tuple[Gathered, dict[str, bytes]]:
    """Measures a model by the SavedModel itself, so that what is judged is what will serve.

    Args:
        saved_model: as it was exported.
        examples_root: folder of the examples.
        champion: the SavedModel that serves now, None where there is none.
        baselines: scores `[rows]` of each of `SPLITS` by other models, by the name of the model.
        config: how.

    Returns:
        What was found, and pictures as PNG by name.
    """
    from components.scoring import read_spec, score_split

    thresholds, bootstrap = read_thresholds(saved_model), config.bootstrap
    splits, measured = {}, {}
    pictures: dict[str, bytes] = {}
    for split in SPLITS:
        scores, labels = score_split(saved_model, examples_root, split)
        transactions = splits[split] = _scored(examples_root, split, labels, scores)
        measured[split] = replicated(transactions, thresholds, bootstrap)
        drawn = plots.of_split(split, labels, scores, transactions.amount, thresholds)
        pictures |= {f"{split}_{name}": picture for name, picture in drawn.items()}

    test, champions = splits[TEST], None
    if champion is not None:
        scores, _ = score_split(champion, examples_root, TEST)
        # The champion decides at its own thresholds, but decisions cost what they cost today.
        champions = test.rescored(scores), replace(read_thresholds(champion), costs=thresholds.costs)
    rivals = {CHAMPION: champions} if champions else {}
    for name, by_split in baselines.items():
        chosen = _chosen_alike(splits[VALIDATION].rescored(by_split[VALIDATION]), thresholds)
        rivals[name] = test.rescored(by_split[TEST]), chosen
    spec = read_spec(saved_model)
    slices = cut_split(examples_root, TEST, spec, config.slices)
    gathered = Gathered(
        {split: told(split, splits[split], measured[split], thresholds, bootstrap.confidence) for split in SPLITS},
        thresholds,
        tuple(
            compare(name, measured[TEST], replicated(*other, bootstrap), bootstrap.confidence)
            for name, other in rivals.items()
        ),
        measure_slices(slices, (test, thresholds), champions, config.slices, bootstrap),
        measure_footprint(saved_model, examples_root, TEST),
    )
    pictures[f"{TEST}_rivals"] = comparison_plots.rivals(
        estimates(measured[TEST], bootstrap.confidence), gathered.rivals
    )
    top = attributions.highest(test.score)
    explained = attributions.attribute(saved_model, examples_root, TEST, top)
    contributions = attributions.by_input(explained, spec)
    pictures[f"{TEST}_attributions"] = attributions.picture(contributions, len(explained))
    pictures[f"{TEST}_slices"] = comparison_plots.slices(gathered.slices)
    return gathered, pictures


def cut_split(examples_root: Path, split: str, spec: FeatureSpec, config: SliceConfig) -> tuple[Slice, ...]:
    """The slices of a split, by what its source has."""
    rows = read_rows(examples_root, split)
    texts = tuple(i for i in spec.row_inputs if i.name in config.columns)
    counts = tuple(i for i in spec.features if i.name == _EARLIER_ON_CARD)
    features = read_features(examples_root, split, FeatureSpec(texts, counts, ()))
    return cut(
        {i.name: np.asarray(features[i.name].to_pylist(), dtype=np.str_) for i in texts},
        rows["amount_base_minor"].to_numpy(),
        second_of_day(_microseconds(rows)),
        features[_EARLIER_ON_CARD].to_numpy() if counts else None,
        config,
    )


def read_thresholds(saved_model: Path) -> Thresholds:
    """The thresholds that a SavedModel carries."""
    return Thresholds.from_json((saved_model / ASSETS_EXTRA / THRESHOLDS_FILE).read_text(encoding="utf-8"))


def _chosen_alike(validation: Scored, thresholds: Thresholds) -> Thresholds:
    """Thresholds for other scores, by the budget, precision and costs of these."""
    config = ThresholdConfig(thresholds.alert_budget, thresholds.block_precision, costs=thresholds.costs or Costs())
    return choose_thresholds(validation.fraud, validation.score, validation.amount, config)


def _scored(examples_root: Path, split: str, labels: np.ndarray, scores: np.ndarray) -> Scored:
    rows = read_rows(examples_root, split)
    cards = rows["card_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    return scored(
        labels, scores, rows["amount_base_minor"].to_numpy(), cards, _microseconds(rows) // (SECOND_US * DAY_S)
    )


def _microseconds(rows: pa.Table) -> np.ndarray:
    return rows["event_time"].cast(pa.int64()).to_numpy()
