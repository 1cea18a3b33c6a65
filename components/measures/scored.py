"""Transactions with their labels and scores, as measures take them: columns of one length, and nothing of NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """Labelled transactions with the scores of one model, `[rows]` each.

    Attributes:
        fraud: the label.
        score: probability of fraud.
        amount: minor units of the base currency.
        card: number of the card, 0 to `cards` - 1.
        day: number of the day, 0 to `days` - 1; days without a transaction do not count.
        cards, days: how many there are.
    """

    fraud: Bools
    score: Floats
    amount: Integers
    card: Integers
    day: Integers
    cards: int
    days: int

    @property
    def rows(self) -> int:
        """How many transactions."""
        return int(self.fraud.size)

    @property
    def frauds(self) -> int:
        """How many of them are frauds."""
        return int(self.fraud.sum())

    @property
    def fraud_value(self) -> int:
        """Amount of all frauds, in minor units of the base currency."""
        # In Python's integers: a long log in a small currency passes 2**63 minor units.
        return sum(self.amount[self.fraud].tolist())

    @property
    def is_finite(self) -> bool:
        """Whether every score is a finite number, and there is one."""
        return self.rows > 0 and bool(np.isfinite(self.score).all())

    @property
    def is_probable(self) -> bool:
        """Whether every score is a probability."""
        return self.is_finite and bool(((self.score >= 0) & (self.score <= 1)).all())

    def rescored(self, scores: ArrayLike) -> Scored:
        """The same transactions with the scores of another model.

        Raises:
            ValueError: they are not as many.
        """
        return scored(self.fraud, scores, self.amount, self.card, self.day)

    def only(self, rows: Bools) -> Scored:
        """Those of the transactions for which `rows` is true."""
        return scored(self.fraud[rows], self.score[rows], self.amount[rows], self.card[rows], self.day[rows])


def scored(
    labels: ArrayLike,
    scores: ArrayLike,
    amounts_base_minor: ArrayLike,
    card_ids: ArrayLike,
    days: ArrayLike,
) -> Scored:
    """Takes columns `[rows]` of any fitting kind; cards and days are anything that sorts.

    Raises:
        ValueError: the columns differ in length, or a label is neither 0 nor 1.
    """
    fraud = as_labels(labels)
    score, amount = np.asarray(scores, dtype=np.float64), np.asarray(amounts_base_minor, dtype=np.int64)
    card_id, on_day = np.asarray(card_ids), np.asarray(days)
    named: tuple[tuple[str, NDArray[Any]], ...] = (
        ("scores", score),
        ("amounts_base_minor", amount),
        ("card_ids", card_id),
        ("days", on_day),
    )
    for name, column in named:
        if column.shape != fraud.shape:
            raise ValueError(f"{name} have shape {column.shape}, the labels {fraud.shape}")
    cards, card = np.unique(card_id, return_inverse=True)
    all_days, day = np.unique(on_day, return_inverse=True)
    return Scored(fraud, score, amount, card.astype(np.int64), day.astype(np.int64), cards.size, all_days.size)


def as_labels(labels: ArrayLike) -> Bools:
    """Labels `[rows]` as truth values.

    Raises:
        ValueError: one is neither 0 nor 1, or they have another shape.
    """
    given = np.asarray(labels)
    fraud = given == 1
    if given.ndim != 1 or not (fraud | (given == 0)).all():
        strange = given if given.ndim != 1 else given[~(fraud | (given == 0))]
        raise ValueError(
            f"labels are 0 and 1 in one dimension, but here are {strange.ravel()[:3].tolist()} of shape {given.shape}"
        )
    return fraud
