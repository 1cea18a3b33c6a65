"""What an epoch leaves: it is found again, or not taken for what it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from components.training.checkpoint import EpochState, digest, read, remove, write
from tests.components.training.rows import SHAPE, SMALL, rows

STATE = EpochState(
    {"loss": [0.5, 0.25], "val_average_precision": [0.1, 0.2]},
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2], np.uint32)],
    [np.array(7), np.array(1e-3, np.float32)],
    [],
)


def test_a_state_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "epoch.npz"
    write(path, "digest", STATE)
    found = read(path, "digest")
    assert found is not None
    assert found.history == STATE.history
    for name in ("network", "optimizer", "best"):
        for one, other in zip(getattr(found, name), getattr(STATE, name), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    assert [one.name for one in path.parent.iterdir()] == ["epoch.npz"], "nothing half-written stays"


def test_what_was_made_of_something_else_is_no_state(tmp_path):
    write(tmp_path / "epoch.npz", "digest", STATE)
    assert read(tmp_path / "epoch.npz", "another") is None
    assert read(tmp_path / "absent.npz", "digest") is None


@pytest.mark.parametrize("kept", [0, 1, 100, 700])
def test_a_file_that_is_cut_off_is_no_state(tmp_path, kept):
    path = tmp_path / "epoch.npz"
    write(path, "digest", STATE)
    path.write_bytes(path.read_bytes()[:kept])
    assert read(path, "digest") is None


def test_removing_takes_the_folder_where_it_is_empty(tmp_path):
    for name in ("alone", "beside"):
        write(tmp_path / name / "epoch.npz", "digest", STATE)
    (tmp_path / "beside" / "other").touch()
    for name in ("alone", "beside", "absent"):
        remove(tmp_path / name / "epoch.npz")
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*")) == ["beside", "beside/other"]


def test_the_digest_knows_rows_settings_and_replicas():
    train, validation = rows(50, 1), rows(20, 2)
    inputs, labels = train
    found = digest(train, validation, SHAPE, SMALL, 1)
    assert digest(rows(50, 1), rows(20, 2), SHAPE, SMALL, 1) == found
    changed = {name: values.copy() for name, values in inputs.items()}
    changed["numeric"][49, 2] += 1
    others = [
        digest((changed, labels), validation, SHAPE, SMALL, 1),
        digest((inputs, 1 - labels), validation, SHAPE, SMALL, 1),
        digest(train, rows(20, 3), SHAPE, SMALL, 1),
        digest(train, validation, SHAPE, replace(SMALL, weight_decay=0.1), 1),
        digest(train, validation, SHAPE, SMALL, 2),
    ]
    assert len({found, *others}) == 6
