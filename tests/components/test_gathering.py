"""What is gathered about a tiny model: all of it, from the SavedModel itself, and back from its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.comparison import CHAMPION
from components.footprint import latencies_ms
from components.gathering import SPLITS, TEST, EvidenceConfig, Gathered, cut_split, gather
from components.measures import Bootstrap
from components.slices import SliceConfig
from schemas.errors import ArtifactError
from tests.components.tiny import Model

CONFIG = EvidenceConfig(Bootstrap(resamples=20), SliceConfig(min_rows=100, min_frauds=5))


@pytest.fixture(scope="module")
def found(tiny_model: Model) -> tuple[Gathered, dict[str, bytes]]:
    """The tiny model beside itself, and beside one that knows the day's labels by heart."""
    from components.scoring import score_split

    labels = {split: score_split(tiny_model.saved_model, tiny_model.examples.root, split)[1] for split in SPLITS}
    return gather(tiny_model.saved_model, tiny_model.examples.root, tiny_model.saved_model, {"oracle": labels}, CONFIG)


def test_a_model_beside_itself_differs_in_nothing(found: tuple[Gathered, dict[str, bytes]]) -> None:
    champion, oracle = found[0].rivals
    assert (champion.name, oracle.name) == (CHAMPION, "oracle")
    assert {(one.value, one.low, one.high) for one in champion.differences.values()} <= {(0, 0, 0), (0, None, None)}
    assert champion.measures["average_precision"].value == found[0].test.average_precision
    assert oracle.measures["average_precision"].value == 1
    assert all(one.ratios["average_precision"].value == 1 for one in found[0].slices if one.supported)


def test_the_evidence_is_of_all_rows_with_intervals_and_pictures(
    found: tuple[Gathered, dict[str, bytes]], tiny_model: Model
) -> None:
    gathered, pictures = found
    assert {split: one.rows for split, one in gathered.splits.items()} == {
        split: tiny_model.examples.rows[split] for split in ("validation", "test")
    }
    assert "average_precision" in gathered.test.intervals
    assert {"test_attributions", "test_cost", "test_rivals", "test_slices", "validation_roc"} <= set(pictures)
    assert gathered.footprint.size_bytes > 100_000
    assert 0 < gathered.footprint.latency_p50_ms <= gathered.footprint.latency_p99_ms


def test_what_is_written_is_read_back(found: tuple[Gathered, dict[str, bytes]], tmp_path: Path) -> None:
    found[0].write(tmp_path)
    assert Gathered.read(tmp_path) == found[0]
    (tmp_path / "slices.json").unlink()
    with pytest.raises(ArtifactError, match=r"slices\.json"):
        Gathered.read(tmp_path)


def test_slices_part_the_rows_of_a_split(tiny_model: Model) -> None:
    examples = tiny_model.examples
    slices = cut_split(examples.root, TEST, examples.spec, SliceConfig())
    kinds = {one.name.split(" ")[0] for one in slices}
    assert kinds == {"channel", "country", "merchant_category", "amount", "time", "card"}
    for kind in ("amount", "time", "card"):
        covered = np.sum([one.rows for one in slices if one.name.startswith(kind)], axis=0)
        assert (covered == 1).all(), kind


def test_the_quietest_round_counts() -> None:
    seconds = iter(range(10_000_000))
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        # The first rounds are disturbed: each call takes longer by the clock.
        if len(calls) < 800:
            for _ in range(5):
                next(seconds)

    assert latencies_ms(call, lambda: float(next(seconds))) == (1_000, 1_000)
