"""The simulator: a world of cards and merchants, its genuine payments and six kinds of fraud, as one log."""

from components.simulator.log import START, frauds_by_kind, simulate
from components.simulator.payments import FRAUD_KINDS
from components.simulator.writers import check_target, write

__all__ = ["FRAUD_KINDS", "START", "check_target", "frauds_by_kind", "simulate", "write"]
