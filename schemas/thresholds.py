"""The operating points of a model: from which score on a transaction is reviewed, and from which it is blocked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from schemas.errors import ArtifactError, ConfigurationError


@dataclass(frozen=True)
class Costs:
    """What decisions cost, in minor units of the base currency; a fraud that passes costs its amount.

    Attributes:
        review_minor: an investigator's look at one transaction.
        false_decline_minor: a genuine transaction that is blocked: the margin lost, a call, now and then a customer.
    """

    review_minor: int = 500
    false_decline_minor: int = 2_000

    def __post_init__(self) -> None:
        for name, cost in asdict(self).items():
            if cost < 0:
                raise ConfigurationError(f"cost {name} is {cost}; it must be 0 or more minor units")


@dataclass(frozen=True)
class Thresholds:
    """The scores from which a transaction is reviewed and from which it is blocked; never `block < review`.

    Attributes:
        review: a score of this or more is at least REVIEW; None where none is within the budget or worth its cost.
        block: a score of this or more is BLOCK; None where none reaches the precision or is cheaper than a review.
        alert_budget: the share of transactions that REVIEW and BLOCK together may take.
        block_precision: the share of frauds that was asked for among what is blocked.
        statements: why a threshold is None, in sentences.
        costs: by which they were chosen; None in bundles from before costs counted.
    """

    review: float | None
    block: float | None
    alert_budget: float
    block_precision: float
    statements: tuple[str, ...] = ()
    costs: Costs | None = None

    def __post_init__(self) -> None:
        if self.block is not None and (self.review is None or self.block < self.review):
            raise ValueError(f"BLOCK from {self.block!r} is below REVIEW from {self.review!r}; it is the stricter one")

    def to_json(self) -> str:
        """One JSON object with the fields as keys."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Thresholds:
        """Reads back `to_json`, and what earlier versions wrote.

        Raises:
            ArtifactError: the text is not a set of thresholds.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            raw["statements"] = tuple(raw["statements"])
            raw["costs"] = Costs(**raw["costs"]) if raw.get("costs") else None
            return Thresholds(**raw)
        except (ValueError, KeyError, TypeError, ConfigurationError) as error:
            raise ArtifactError(f"not a set of thresholds: {error!r}; evaluate the model again") from error
