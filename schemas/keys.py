"""Secret keys in files: read only where nobody else can read them, and named without being shown."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from schemas.errors import ConfigurationError

MIN_KEY_BYTES = 32


def read_secret(path: Path, what: str) -> bytes:
    """The bytes of a key file that only its owner can read; `what` names the key in messages, such as `card key`.

    Raises:
        ConfigurationError: the file is absent, open to others, or too short.
    """
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{what} file {path} cannot be read ({error.strerror}); create it with {MIN_KEY_BYTES} random bytes"
        ) from error
    if mode & 0o077:
        raise ConfigurationError(f"{what} file {path} is open to others (mode {mode & 0o777:o}); run chmod 600 on it")
    if len(secret) < MIN_KEY_BYTES:
        raise ConfigurationError(f"{what} file {path} has {len(secret)} bytes; it needs {MIN_KEY_BYTES} random ones")
    return secret


def fingerprint(secret: bytes, what: str) -> str:
    """16 hexadecimal digits that name a key without revealing it; `what` keeps the names of two uses apart."""
    return hmac.new(secret, f"fraudops {what} fingerprint".encode(), hashlib.sha256).hexdigest()[:16]
