"""The fixed vocabulary of reason codes: the only words in which a decision explains itself."""

from __future__ import annotations

# Counts up whenever a code is added or its text changes.  A code is never removed and never means something else:
# decisions of years ago are read with it.
VERSION = 1

REASONS: dict[str, str] = {
    # The model and what stands in for it.
    "SCORE_REVIEW": "The model's score reaches the threshold for review.",
    "SCORE_BLOCK": "The model's score reaches the threshold for blocking.",
    "NO_MODEL": "No model answered, and the rules alone cannot let the transaction pass.",
    # The transaction itself.
    "LARGE_AMOUNT": "The amount is large.",
    "UNUSUAL_TIME": "The payment comes at an unusual time.",
    "LISTED": "The card, merchant, device or country is on a list.",
    # The card, against its own past.
    "UNUSUAL_AMOUNT": "The amount is far from what this card usually pays.",
    "MANY_PAYMENTS": "The card was used unusually often in a short time.",
    "MANY_MERCHANTS": "The card was used at unusually many merchants in a short time.",
    "PROBING": "The card made several very small payments shortly before.",
    "IMPOSSIBLE_TRAVEL": "The card was used farther away than its holder can have travelled since the last payment.",
    "MANY_PLACES": "The card was used in unusually many cities or countries in a short time.",
    "NEW_PLACE": "The card has not been used in this city or country lately.",
    "NEW_MERCHANT": "The card has not paid this merchant or in this line of business lately.",
    "NEW_DEVICE": "The card has not been used from this device lately.",
    "MANY_DEVICES": "The card was used from unusually many devices in a short time.",
    "CARD_FRAUD": "Fraud on this card was reported lately.",
    # The merchant and the device, over all cards.
    "MERCHANT_RUSH": "Unusually many payments or cards come to this merchant.",
    "MERCHANT_FRAUD": "Fraud at this merchant was reported lately.",
    "SHARED_DEVICE": "Unusually many cards are used from this device.",
    "DEVICE_FRAUD": "Fraud from this device was reported lately.",
}
