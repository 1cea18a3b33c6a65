"""Volumes and label maturity against a count row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.volumes import COLUMNS, MAX_DELAY_DAYS, Volumes, count
from schemas.errors import ArtifactError
from schemas.transaction import DAY_S

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
Row = tuple[datetime, bool | None, datetime | None]


def table(rows: list[Row]) -> pa.Table:
    event, fraud, label = zip(*rows, strict=True)
    return pa.table(
        dict(zip(COLUMNS, (pa.array(event, TIME), pa.array(fraud, pa.bool_()), pa.array(label, TIME)), strict=True))
    )


def counted(rows: list[Row], delay_days: float = 7, batch_rows: int = 1_000) -> Volumes:
    return count(table(rows).to_batches(batch_rows), int(delay_days * DAY_S))


def made(rows: int = 3_000, days: int = 40) -> list[Row]:
    """Labels that take up to nine days and are known as far as the log's last day; some have no time."""
    random = np.random.default_rng(5)
    end = FIRST + timedelta(days=days)
    found: list[Row] = []
    for at, delay, fraud, timed in zip(
        np.sort(random.random(rows)) * days,
        random.random(rows) * 9,
        random.random(rows) < 0.1,
        random.random(rows) < 0.98,
        strict=True,
    ):
        event = FIRST + timedelta(days=float(at))
        label = event + timedelta(days=float(delay))
        known = label < end
        found.append((event, bool(fraud) if known else None, label if known and timed else None))
    return found


def by_hand(rows: list[Row], delay_days: float) -> tuple[list[float], list[float]]:
    """Both curves as their definition says, one transaction at a time."""
    last = max(time for event, _, label in rows for time in (event, label) if time is not None)
    timed = [row for row in rows if row[1] is None or row[2] is not None]

    def age(event: datetime) -> int:
        return (last.date() - event.date()).days - 1

    def share(of: list[Row], day: int) -> float:
        return sum(label is not None and label - event <= timedelta(days=day) for event, _, label in of) / len(of)

    oldest = max(age(event) for event, _, _ in timed)
    frauds = [row for row in timed if row[1] and age(row[0]) >= delay_days]
    days = range(oldest + 1)
    return [share([r for r in timed if age(r[0]) >= day], day) for day in days], [share(frauds, day) for day in days]


def test_days_are_counted_as_row_by_row() -> None:
    rows = made()
    volumes = counted(rows)
    for place, day in enumerate(volumes.days):
        of_day = [row for row in rows if f"{row[0]:%Y-%m-%d}" == day]
        assert volumes.rows[place] == len(of_day)
        assert volumes.labelled[place] == sum(fraud is not None for _, fraud, _ in of_day)
        assert volumes.frauds[place] == sum(fraud is True for _, fraud, _ in of_day)
    assert sum(volumes.rows) == len(rows)


def test_the_curves_are_those_of_their_definition() -> None:
    rows = made()
    maturity = counted(rows, 8.5).maturity
    assert maturity is not None and maturity.label_delay_days == 8.5
    transactions, frauds = by_hand(rows, 8.5)
    assert maturity.transactions == pytest.approx(transactions)
    assert maturity.frauds == pytest.approx(frauds)
    assert maturity.transactions[0] < 0.1 < 0.9 < maturity.transactions[9]


def test_neither_the_order_of_the_rows_nor_their_batches_matter() -> None:
    rows = made(500)
    mixed = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    assert counted(mixed, batch_rows=37) == counted(rows, batch_rows=10_000) == counted(rows, batch_rows=1)


def test_transactions_that_are_too_young_do_not_count_as_unlabelled() -> None:
    old = [(FIRST, False, FIRST + timedelta(days=3))] * 10
    young: list[Row] = [(FIRST + timedelta(days=9), None, None)] * 90
    maturity = counted([*old, *young]).maturity
    assert maturity is not None
    assert maturity.transactions == (0, 0, 0, 1, 1, 1, 1, 1, 1)


def test_labels_without_times_have_no_curve_but_are_counted() -> None:
    volumes = counted([(FIRST, True, None), (FIRST, False, None), (FIRST, None, None)])
    assert (volumes.days, volumes.rows, volumes.labelled, volumes.frauds) == (("2024-01-01",), (3,), (2,), (1,))
    assert volumes.maturity is None


def test_a_label_of_another_century_takes_no_memory_and_no_share() -> None:
    odd: list[Row] = [(FIRST, True, FIRST + timedelta(days=40_000)), (FIRST, False, FIRST - timedelta(days=1))]
    maturity = counted(odd).maturity
    assert maturity is not None
    assert len(maturity.transactions) == MAX_DELAY_DAYS + 1
    assert maturity.transactions[0] == 0.5


def test_an_empty_log_has_no_days() -> None:
    assert count([], DAY_S) == Volumes((), (), (), (), None)


def test_volumes_survive_their_text() -> None:
    volumes = counted(made(200))
    assert Volumes.from_json(volumes.to_json()) == volumes
    for text in ("", "[]", "{}", '{"days": []}'):
        with pytest.raises(ArtifactError, match="not the volumes of a log"):
            Volumes.from_json(text)
