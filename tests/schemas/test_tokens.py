import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.tokens import CardKey, card_token, read_card_key

SECRET = bytes(range(32))
NUMBER = "4556737586899855"


def test_a_token_is_the_versioned_hmac_of_the_number() -> None:
    mac = hmac.new(SECRET, NUMBER.encode(), hashlib.sha256).digest()
    assert card_token(NUMBER, CardKey(3, SECRET)) == "k3_" + base64.urlsafe_b64encode(mac).decode().rstrip("=")


def test_one_number_has_one_token_however_it_is_grouped() -> None:
    key = CardKey(1, SECRET)
    assert len({card_token(form, key) for form in (NUMBER, "4556 7375 8689 9855", "4556-7375-8689-9855")}) == 1


def test_tokens_differ_by_number_secret_and_version() -> None:
    tokens = {
        card_token(NUMBER, CardKey(1, SECRET)),
        card_token(NUMBER, CardKey(2, SECRET)),
        card_token(NUMBER, CardKey(1, SECRET[::-1])),
        card_token(NUMBER[::-1], CardKey(1, SECRET)),
    }
    assert len(tokens) == 4


def test_neither_repr_nor_fingerprint_shows_the_secret() -> None:
    key = CardKey(1, SECRET)
    assert repr(SECRET) not in repr(key) and SECRET.hex() not in repr(key)
    assert key.fingerprint not in SECRET.hex()
    assert key.fingerprint == CardKey(2, SECRET).fingerprint != CardKey(1, SECRET[::-1]).fingerprint


@pytest.mark.parametrize(("version", "secret"), [(0, SECRET), (1, SECRET[:31])])
def test_a_weak_key_is_refused(version: int, secret: bytes) -> None:
    with pytest.raises(ConfigurationError, match="card key version"):
        CardKey(version, secret)


def test_a_key_file_is_read_when_only_its_owner_can(tmp_path: Path) -> None:
    file = tmp_path / "card.key"
    with pytest.raises(ConfigurationError, match="No such file"):
        read_card_key(file, 1)
    file.write_bytes(SECRET)
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"mode 640.*chmod 600"):
        read_card_key(file, 1)
    file.chmod(0o600)
    assert read_card_key(file, 2) == CardKey(2, SECRET)
