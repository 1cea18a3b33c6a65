"""The pictures of a log: there is one whatever is known, and the same numbers give the same bytes."""

from __future__ import annotations

import pytest

from components.volume_plots import maturity, volumes
from components.volumes import Maturity, Volumes

DAYS = Volumes(("2024-01-01", "2024-01-02", "2024-01-05"), (10, 20, 5), (10, 12, 0), (1, 0, 0), None)
KNOWN = Maturity((0.0, 0.4, 0.9, 1.0), (0.2, 1.0, 1.0, 1.0), 2.5)


@pytest.mark.parametrize("counted", [DAYS, Volumes((), (), (), (), None)])
def test_volumes_are_drawn_and_equal_ones_are_equal_bytes(counted: Volumes) -> None:
    drawn = volumes(counted)
    assert drawn.startswith(b"\x89PNG") and drawn == volumes(counted)


@pytest.mark.parametrize(
    "known",
    [
        KNOWN,
        Maturity(KNOWN.transactions, (), 2.5),
        Maturity(KNOWN.transactions, KNOWN.frauds, 300.0),  # a delay longer than the log
        Maturity(KNOWN.transactions, KNOWN.frauds, 0.0),
    ],
)
def test_each_curve_is_a_picture_of_its_own(known: Maturity) -> None:
    drawn = maturity(known)
    assert drawn.startswith(b"\x89PNG") and drawn == maturity(known)
    assert drawn != maturity(None)


def test_without_a_curve_it_is_said_why() -> None:
    assert maturity(None) != maturity(Maturity((), (), 7.0))
    assert maturity(Maturity((1.0,), (), 7.0)) == maturity(Maturity((), (), 7.0))
