"""A process that feeds payments of one card to a store and says after each that it was acknowledged.

python -m tests.serving.features.writer STORE NAME COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from schemas.features import DAY, HOUR, MONTH, Feature, FeatureSpec, specify
from schemas.transaction import COLUMN, SECOND_US
from serving.features import TableFeatureStore

# Of several keys, so that a payment that was half written would show.
COUNTED: FeatureSpec = specify(
    COLUMN,
    (
        Feature("card", "count", HOUR),
        Feature("card", "sum", DAY, "amount_base_minor"),
        Feature("card", "distinct", DAY, "ip", cap=1_000_000),
        Feature("card", "first_seen", column="ip"),
        Feature("merchant", "count", DAY),
        Feature("device", "count", DAY),
        Feature("card_merchant", "count", MONTH),
    ),
    (),
)


def payment(writer: str, number: int) -> dict[str, Any]:
    """The same keys each time, and an amount of 1; half a second is all that payments are apart at most."""
    return {
        "transaction_id": f"{writer}-{number}",
        "event_time": SECOND_US // 2 * (number % 2),
        "card_id": "c",
        "merchant_id": "m",
        "device_id": "d",
        "amount_base_minor": 1,
        "ip": f"{writer}-{number}",
    }


def main(path: str, writer: str, count: str) -> None:
    """Feeds payments until there are enough, or somebody ends the process."""
    store = TableFeatureStore.embedded(Path(path), COUNTED)
    for number in range(int(count)):
        store.observe(payment(writer, number))
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
