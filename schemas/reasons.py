"""The fixed vocabulary of reason codes: the only words in which a decision explains itself.

Rules give codes for what they have seen.  The model's own, `MODEL_...`, name what weighed most in its score, summed
over the inputs that `reason_of` puts under each, and leave open in which direction: a model may find fault with few
payments as well as with many.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.features import AMOUNT, NIGHT, OVER_LABELS, WEEKEND, Feature, FeatureSpec, RowInput

# Counts up whenever a code is added or its text changes.  A code is never removed and never means something else:
# decisions of years ago are read with it.
VERSION = 2

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
    # What weighed most in the model's score.
    "MODEL_AMOUNT": "The amount weighs in the model's score.",
    "MODEL_UNUSUAL_AMOUNT": "How the amount compares with the usual weighs in the score.",
    "MODEL_TIME": "The time of the day or week weighs in the score.",
    "MODEL_CATEGORY": "The merchant's line of business weighs in the score.",
    "MODEL_CHANNEL": "The way in which the card was used weighs in the score.",
    "MODEL_GEOGRAPHY": "Where the payment takes place, and how far from earlier ones, weighs in the score.",
    "MODEL_CARD_VELOCITY": "How often and how widely the card was used lately weighs in the score.",
    "MODEL_CARD_HISTORY": "The card's last payments, their amounts and kinds, weigh in the score.",
    "MODEL_CARD_FRAUD": "Reports of fraud, or their absence, on this card weigh in the score.",
    "MODEL_NEW_MERCHANT": "What the card has had to do with this merchant or line of business weighs in the score.",
    "MODEL_MERCHANT_ACTIVITY": "How much comes to this merchant, and from how many cards, weighs in the score.",
    "MODEL_MERCHANT_FRAUD": "Reports of fraud, or their absence, at this merchant weigh in the score.",
    "MODEL_DEVICE": "The device, and what it was used for, weighs in the score.",
    "MODEL_DEVICE_FRAUD": "Reports of fraud, or their absence, from this device weigh in the score.",
}

# A reason of the model's multiplies the odds of fraud by 1.65 at least, and there are at most so many.
LEAST_LOG_ODDS = 0.5
MOST_REASONS = 3

_OF_ROW = {
    "amount_minor": "MODEL_AMOUNT",
    "amount_base_minor": "MODEL_AMOUNT",
    "second_of_day": "MODEL_TIME",
    "second_of_week": "MODEL_TIME",
    "merchant_category": "MODEL_CATEGORY",
    "channel": "MODEL_CHANNEL",
    "currency": "MODEL_GEOGRAPHY",
    "latitude": "MODEL_GEOGRAPHY",
    "longitude": "MODEL_GEOGRAPHY",
    "city": "MODEL_GEOGRAPHY",
    "country": "MODEL_GEOGRAPHY",
    "device_id": "MODEL_DEVICE",
    "ip": "MODEL_DEVICE",
    "card_id": "MODEL_CARD_HISTORY",
    "merchant_id": "MODEL_MERCHANT_ACTIVITY",
}
_OF_LABELS = {"card": "MODEL_CARD_FRAUD", "merchant": "MODEL_MERCHANT_FRAUD", "device": "MODEL_DEVICE_FRAUD"}
_HABITS = ("mean", "std", "min", "max", "last")
_WAYS = ("distance_km_since_last", "speed_km_per_h_since_last", "recent_distance_km_between")
_PAST = ("last", "recent", "recent_seconds_between")


def reason_of(declared: RowInput | Feature) -> str:
    """The model's code for an input; every one that can be declared has one."""
    if isinstance(declared, RowInput):
        return _OF_ROW[declared.name]
    if declared.aggregate in OVER_LABELS:
        # What is known of a card at a merchant is known of the card.
        return _OF_LABELS.get(declared.key, "MODEL_CARD_FRAUD")
    if declared.key == "device" or declared.column == "device_id":
        return "MODEL_DEVICE"
    if declared.column in ("city", "country") or declared.aggregate in _WAYS:
        return "MODEL_GEOGRAPHY"
    if declared.where in (NIGHT, WEEKEND):
        return "MODEL_TIME"
    if declared.column == AMOUNT and declared.aggregate in _HABITS:
        return "MODEL_UNUSUAL_AMOUNT"
    if declared.key == "merchant":
        return "MODEL_MERCHANT_ACTIVITY"
    if declared.key == "card_merchant" or declared.aggregate == "first_seen":
        return "MODEL_NEW_MERCHANT"
    return "MODEL_CARD_HISTORY" if declared.aggregate in _PAST else "MODEL_CARD_VELOCITY"


def packed_reasons(spec: FeatureSpec) -> tuple[str, ...]:
    """The code of each column of `attributions` `[batch, F + C]`, as the signature `explain` gives them."""
    return tuple(reason_of(i) for i in (*spec.numeric, *spec.categorical) for _ in range(i.width))


def strongest(attributions: Sequence[float], codes: Sequence[str]) -> tuple[str, ...]:
    """The codes that speak most for fraud in one row, the weightiest first; of equal ones the first in the order.

    Args:
        attributions: of the log-odds, `[F + C]`.
        codes: see `packed_reasons`.
    """
    weights: dict[str, float] = {}
    for code, weight in zip(codes, attributions, strict=True):
        weights[code] = weights.get(code, 0.0) + weight
    speaking = [code for code, weight in weights.items() if weight >= LEAST_LOG_ODDS]
    return tuple(sorted(speaking, key=lambda code: weights[code], reverse=True)[:MOST_REASONS])
