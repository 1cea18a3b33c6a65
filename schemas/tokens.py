"""Card tokens: the one function that turns a card number into the `card_id` that everything else sees."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import ConfigurationError
from schemas.keys import MIN_KEY_BYTES, fingerprint, read_secret

# Text that can be a card number: 8 to 19 digits (ISO/IEC 7812-1), grouped by spaces and hyphens or not.  Written for
# Python's engine with re.ASCII and for RE2 alike.
CARD_NUMBER = r"^(?:[ -]*\d){8,19}[ -]*$"

_GROUPING = str.maketrans("", "", " -")


@dataclass(frozen=True)
class CardKey:
    """The secret under which card numbers become tokens.

    Attributes:
        version: counts from 1; part of every token, so that a token says which key made it.
        secret: at least 32 random bytes; kept out of `repr`.
    """

    version: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.version < 1:
            raise ConfigurationError(f"card key version {self.version} is below 1")
        if len(self.secret) < MIN_KEY_BYTES:
            raise ConfigurationError(
                f"card key version {self.version} has {len(self.secret)} bytes; it needs {MIN_KEY_BYTES} random ones"
            )

    @property
    def fingerprint(self) -> str:
        """Names the key without revealing it: what caches and metadata may hold."""
        return fingerprint(self.secret, "card key")


def card_token(card_number: str, key: CardKey) -> str:
    """The token of a card number: `k<version>_` and the URL-safe base64 of its HMAC-SHA-256, without padding.

    Spaces and hyphens, with which people group the digits, make no difference.
    """
    mac = hmac.new(key.secret, card_number.translate(_GROUPING).encode(), hashlib.sha256).digest()
    return f"k{key.version}_{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def read_card_key(path: Path, version: int) -> CardKey:
    """Reads a key from a file that only its owner can read.

    Raises:
        ConfigurationError: the file is absent, open to others, or too short.
    """
    return CardKey(version, read_secret(path, "card key"))
