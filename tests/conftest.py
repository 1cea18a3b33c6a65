"""Fixtures and settings that all tests share."""

import os
from pathlib import Path

import hypothesis
import pytest

# A machine under load may take any time for one example.
hypothesis.settings.register_profile("fraudops", deadline=None)
hypothesis.settings.load_profile("fraudops")


@pytest.fixture(scope="session")
def handbook_log() -> Path:
    """The Fraud Detection Handbook's log; skips the test where it is not at hand."""
    return _public_log("handbook")


@pytest.fixture(scope="session")
def sparkov_log() -> Path:
    """The Sparkov log; skips the test where it is not at hand."""
    return _public_log("sparkov")


def _public_log(source: str) -> Path:
    folder = os.environ.get("FRAUDOPS_DATA")
    if folder is None:
        pytest.skip("FRAUDOPS_DATA is unset: it names the folder that holds handbook/ and sparkov/")
    log = Path(folder) / source / "transactions.parquet"
    if not log.is_file():
        pytest.skip(f"{log} is not there")
    return log
