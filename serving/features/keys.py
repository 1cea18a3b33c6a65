"""How the store's keys are written: bytes whose order is the order of what they stand for."""

from __future__ import annotations

import hashlib

# Times are signed, bytes are not.
_BIAS = 1 << 63
_TIME_BYTES = 8
AFTER = b"\xff"

# What keys of rows begin with: the header, an entity's, an answer's, when an answer runs out, and up to where labels of
# logs have come.
HEADER, ENTITY, ANSWER, EXPIRY, LABELLED = b"h", b"e", b"a", b"x", b"l"
_DIGEST_BYTES = 16
ENTITY_BYTES = len(ENTITY) + _DIGEST_BYTES
# What follows in the keys of the rows that hold what most transactions see of an entity.
STATE = b"d"


def entity(kind: str, values: list[str]) -> bytes:
    """What all rows of one key begin with: a digest, so that rows are short however long ids are."""
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in (kind, *values)))
    return ENTITY + hashlib.blake2b(parts, digest_size=_DIGEST_BYTES).digest()


def time_key(time_us: int) -> bytes:
    """Microseconds since the Unix epoch as eight bytes in order of time."""
    return (time_us + _BIAS).to_bytes(_TIME_BYTES, "big")


def time_at(key: bytes, position: int) -> int:
    """The time that `time_key` wrote at a position of a key."""
    return int.from_bytes(key[position : position + _TIME_BYTES], "big") - _BIAS


def floor(time_us: int, hop_us: int) -> int:
    """The hop's last boundary at or before a time; before 1970 as well."""
    return time_us - time_us % hop_us
