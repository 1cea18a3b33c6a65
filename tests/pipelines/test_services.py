"""Where records go: addresses that are understood, and those that are refused without telling a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.services import MetadataAddress, Services
from pipelines.workspace import Workspace
from schemas.errors import ConfigurationError


def test_a_workspace_holds_the_records_of_its_own(tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path / "with space")
    services = Services.embedded(workspace)
    assert services.metadata.is_file
    assert services.metadata.connection().sqlite.filename_uri == str(workspace.metadata)
    assert services.tracking_uri == workspace.tracking_uri
    assert services.artifact_root == workspace.artifact_root


def test_a_server_is_named_by_its_address_and_its_password_by_a_file(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("p\\ss wörd\n", encoding="utf-8")
    address = MetadataAddress("postgresql://m%40d@db.example:6000/meta", password)
    postgresql = address.connection().postgresql
    assert (postgresql.host, postgresql.port, postgresql.user) == ("db.example", "6000", "m@d")
    assert (postgresql.dbname, postgresql.password) == ("meta", "p\\ss wörd")
    mysql = MetadataAddress("mysql://mlmd@db.example/meta", password).connection().mysql
    assert (mysql.host, mysql.port, mysql.user, mysql.database) == ("db.example", 3306, "mlmd", "meta")
    assert mysql.password == "p\\ss wörd"
    assert not address.is_file
    assert "wörd" not in repr(address)


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    address = MetadataAddress("postgresql://mlmd@db/meta", tmp_path / "absent")
    with pytest.raises(ConfigurationError, match="absent cannot be read"):
        address.connection()


def test_a_password_in_an_address_is_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigurationError, match="put it into a file") as caught:
        MetadataAddress("postgresql://mlmd:s3cret@db/meta")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "metadata.sqlite", "sqlite://host/file", "postgresql://db/meta", "postgresql://mlmd@db", "redis://u@h/1"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="metadata address"):
        MetadataAddress(url)
