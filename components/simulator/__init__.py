"""The simulator: a world of cards and merchants, its genuine payments, six kinds of fraud among them, as one log."""

from components.simulator.log import check_target, simulate, write
from components.simulator.payments import FRAUD_KINDS

__all__ = ["FRAUD_KINDS", "check_target", "simulate", "write"]
