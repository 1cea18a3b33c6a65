"""Expectations: the suites of `schemas/expectations`, judged by Great Expectations on what all rows add up to."""

from components.expectations.checking import SAMPLE_ROWS, check, reasons
from components.expectations.results import ExpectationReport, ExpectationResult

__all__ = ["SAMPLE_ROWS", "ExpectationReport", "ExpectationResult", "check", "reasons"]
