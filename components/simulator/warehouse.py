"""The copy of a simulated log that a data warehouse keeps: small payments leave it once nobody can dispute them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

# In minor units of the base currency: 8 euros.
SMALL_BASE_MINOR = 800


def archived(log: pa.Table, transactions: pa.Table) -> pa.Table:
    """The rows of a log that are still there when its labels are: large payments, and small ones that were frauds.

    A model that learns from them has hardly seen a small payment that was none.

    Args:
        log: as `simulate` gives it.
        transactions: the same log after ingest, for its amounts in the base currency.
    """
    settled = pc.and_(pc.less(transactions["amount_base_minor"], SMALL_BASE_MINOR), pc.invert(transactions["is_fraud"]))
    gone = transactions["transaction_id"].filter(settled)
    return log.filter(pc.invert(pc.is_in(log["transaction_id"], gone.combine_chunks())))
