"""Options that several verbs share, and what they mean."""

from pathlib import Path

import click

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML with settings that differ from the defaults.",
)
store_option = click.option(
    "--store",
    metavar="embedded|redis://...",
    default="embedded",
    show_default=True,
    help="The store's kind, and where its server is.",
)
password_option = click.option(
    "--feature-store-password-file",
    "password_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Holds the password of the store's server.",
)


def microseconds(text: str, option: str) -> int:
    """A time of the command line as UTC microseconds since the Unix epoch; one without a zone is UTC.

    Raises:
        ConfigurationError: it is none; the message names the option.
    """
    from datetime import UTC, datetime, timedelta

    from schemas.errors import ConfigurationError

    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text!r} is not ISO 8601; write such as 2026-03-01T12:00:00Z") from None
    since_epoch = (time_ if time_.tzinfo else time_.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since_epoch // timedelta(microseconds=1)
