"""The bundle in a SavedModel's folder and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas import sources
from schemas.bundle import ASSETS_EXTRA, DECISION_FILE, FEATURE_SPEC_FILE, THRESHOLDS_FILE, Bundle
from schemas.errors import ArtifactError
from schemas.features import specify
from schemas.thresholds import Thresholds

BUNDLE = Bundle(specify(sources.load("simulated").provided), Thresholds(0.25, None, 0.01, 0.5, ("why",)), "ab" * 32, 1)


def test_a_bundle_is_read_as_it_was_written(tmp_path: Path):
    BUNDLE.write(tmp_path)
    assert Bundle.read(tmp_path) == BUNDLE
    assert Bundle.from_json(BUNDLE.to_json()) == BUNDLE


@pytest.mark.parametrize("name", [FEATURE_SPEC_FILE, THRESHOLDS_FILE, DECISION_FILE])
@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_a_bundle_with_a_file_missing_or_broken_is_refused(tmp_path: Path, name: str, content: str | None):
    BUNDLE.write(tmp_path)
    file = tmp_path / ASSETS_EXTRA / name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ArtifactError, match="retrain"):
        Bundle.read(tmp_path)


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match=ASSETS_EXTRA):
        Bundle.read(tmp_path)


@pytest.mark.parametrize(
    "change", [{"spec": {}}, {"thresholds": None}, {"rules_digest": 1}, {"reason_vocabulary": "1"}], ids=str
)
def test_json_that_is_no_bundle_is_refused(change: dict[str, object]):
    with pytest.raises(ArtifactError):
        Bundle.from_json(json.dumps({**json.loads(BUNDLE.to_json()), **change}))
    with pytest.raises(ArtifactError, match="not the bundle"):
        Bundle.from_json("nonsense")
