"""Keeps card numbers out of what people read: dead letters and messages."""

from __future__ import annotations

import re

# Card numbers have 8 to 19 digits (ISO/IEC 7812-1), payment cards 12 or more; from 11 on, so that a date followed by an
# hour (10 digits) stays legible.
_CARD_NUMBER = re.compile(r"\d(?:[ -]?\d){10,}")
_DIGIT = re.compile(r"\d")


def mask(text: str) -> str:
    """The text with every run of digits that may be a card number blotted out, spaces and hyphens in it included."""
    return _CARD_NUMBER.sub(lambda run: mask_digits(run[0]), text)


def mask_digits(text: str) -> str:
    """The text with every digit blotted out: for what cannot be taken apart."""
    return _DIGIT.sub("#", text)
