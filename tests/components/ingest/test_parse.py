from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest import parse

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def read(values: parse.Times) -> list[datetime | str | None]:
    """Times as Python has them, and the name of the fault where there is one."""
    return [
        "wrong"
        if wrong
        else "impossible"
        if impossible
        else None
        if missing
        else EPOCH + timedelta(microseconds=int(at))
        for at, missing, wrong, impossible in zip(
            values.values, values.missing, values.wrong, values.impossible, strict=True
        )
    ]


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_every_iso_8601_time_with_an_offset_is_read_exactly(local: datetime, offset_min: int) -> None:
    sign, minutes = "-" if offset_min < 0 else "+", abs(offset_min)
    offset = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    true = local.replace(tzinfo=UTC) - timedelta(minutes=offset_min)
    texts = [local.isoformat() + offset, local.isoformat(" ") + offset.replace(":", "")]
    assert read(parse.times(pa.array(texts), "Asia/Tokyo")) == [true, true]


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2037, 12, 31)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_local_times_are_read_as_pep_495_reads_them(local: datetime, zone: str) -> None:
    true = local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    assert read(parse.times(pa.array([local.isoformat()]), zone)) == [true]
    assert read(parse.times(pa.array([local], pa.timestamp("us")), zone)) == [true]


def test_local_times_that_clocks_repeat_or_skip_are_the_first_and_keep_their_distances() -> None:
    texts = [
        "2024-10-27 02:30:00",
        "2024-03-31 01:59:59",
        "2024-03-31 02:30:00",
        "2024-03-31 02:31:00",
        "2024-03-31 03:00:00",
    ]
    assert read(parse.times(pa.array(texts), "Europe/Berlin")) == [
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
        datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 31, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 0, tzinfo=UTC),
    ]


def test_texts_with_and_without_zone_may_be_mixed() -> None:
    texts = ["2024-01-01T00:00", "2024-01-01T00:00Z", "2024-01-01", None, "", "2024-01-01 00:00:00.123456789-05"]
    assert read(parse.times(pa.array(texts), "Asia/Tokyo")) == [
        datetime(2023, 12, 31, 15, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2023, 12, 31, 15, tzinfo=UTC),
        None,
        None,
        datetime(2024, 1, 1, 5, 0, 0, 123456, tzinfo=UTC),
    ]


@given(st.integers(1960, 2110), st.integers(0, 13), st.integers(0, 32))
def test_a_text_is_a_date_exactly_when_the_calendar_has_it(year: int, month: int, day: int) -> None:
    try:
        exists = 1970 <= date(year, month, day).year <= 2100
    except ValueError:
        exists = False
    times = parse.times(pa.array([f"{year}-{month:02}-{day:02}T12:00:00Z"]), "UTC")
    assert times.impossible.tolist() == [not exists]


@pytest.mark.parametrize(
    "text",
    ["2024-01-01T24:00", "2024-01-01T12:60", "2024-01-01 12:00:60", "01/02/2024", "2024-1-1", "20240101", "1709294400",
     "yesterday", "2024-01-01T12:00 ", "2024-01-01T12:00+24:00", "2024-01-01-05", "99999-01-01", "2024-01-01T12:00Z\n"],
)  # fmt: skip
def test_other_texts_are_no_times(text: str) -> None:
    assert read(parse.times(pa.array([text, "2024-01-01"]), "UTC")) == ["impossible", datetime(2024, 1, 1, tzinfo=UTC)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_of_all_units_and_zones_are_converted(unit: str, zone: str | None) -> None:
    time = datetime(2024, 7, 1, 12, 30, 15, tzinfo=UTC)
    raw = pa.array([micros(time), None], pa.timestamp("us", "UTC"))
    if zone is None:
        raw = raw.cast(pa.timestamp("us"))
    raw = raw.cast(pa.timestamp(unit, zone))
    local = time if zone else time.replace(tzinfo=ZoneInfo("Asia/Tokyo")).astimezone(UTC)
    assert read(parse.times(raw, "Asia/Tokyo")) == [local, None]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_out_of_range_never_come_back_into_it_by_overflow(unit: str) -> None:
    raw = pa.array([-1, -(2**63) + 1, 2**63 - 1, 2**62, 1], pa.int64()).cast(pa.timestamp(unit))
    found = read(parse.times(raw, "UTC"))
    assert found[:4] == ["impossible"] * 4
    assert found[4] != "impossible"


def test_days_are_local_midnights() -> None:
    days = [date(2024, 7, 1), None, date(1960, 1, 1)]
    expected = [datetime(2024, 6, 30, 15, tzinfo=UTC), None, "impossible"]
    assert read(parse.times(pa.array(days, pa.date32()), "Asia/Tokyo")) == expected
    assert read(parse.times(pa.array(days, pa.date64()), "Asia/Tokyo")) == expected


@pytest.mark.parametrize("values", [pa.array([1_709_294_400, None]), pa.array([1.5, None]), pa.array([True, None])])
def test_integers_and_other_numbers_are_no_times(values: pa.Array) -> None:
    assert read(parse.times(values, "UTC")) == ["wrong", None]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (pa.array(["a", "", None]), ["a", None, None]),
        (pa.array(["a", "", None], pa.large_string()), ["a", None, None]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), ["a", "b", "a", None]),
        (pa.array([7, 8, None]).dictionary_encode(), ["7", "8", None]),
        (pa.array([7, None], pa.int16()), ["7", None]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([4445181172371695.0, float("nan"), None, 1.5, 1e300, float("inf")]),
         ["4445181172371695", None, None, "wrong", "wrong", "wrong"]),
        (pa.array([Decimal(12), None], pa.decimal128(38, 0)), ["12", None]),
        (pa.array([Decimal("1.5")], pa.decimal128(9, 1)), ["wrong"]),
        (pa.array([True, None]), ["wrong", None]),
        (pa.array([b"a", None]), ["wrong", None]),
        (pa.array([["a"], None]), ["wrong", None]),
        (pa.nulls(2), [None, None]),
        (["a", 7, 7.0, 7.5, True, None, {"a": 1}, ""], ["a", "7", "7", "wrong", "wrong", None, "wrong", None]),
    ],
)  # fmt: skip
def test_identifiers_are_text_or_whole_numbers(raw: Any, expected: list[str | None]) -> None:
    found = parse.text(raw)
    assert [
        "wrong" if bad else value for value, bad in zip(found.values.to_pylist(), found.wrong, strict=True)
    ] == expected
    assert found.missing.tolist() == [value is None for value in expected]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (pa.array(["1", "-2.5", "+.5", "5.", "1e3", "", None]), [1, -2.5, 0.5, 5, 1000, None, None]),
        (pa.array(["1,5", "1 000", "abc", "0x10", "nan", "inf", "1_0", "--1", ".", "e5", "1e999"]), ["wrong"] * 11),
        (pa.array([1, None], pa.uint8()), [1, None]),
        (pa.array([2**60, None]), [2.0**60, None]),
        (pa.array([1.5, None], pa.float32()), [1.5, None]),
        (pa.array([Decimal("1.25"), None]), [1.25, None]),
        (pa.array([True, None]), ["wrong", None]),
        (pa.array([[1], None]), ["wrong", None]),
        ([1e300, 5e-324, "1e-300"], [1e300, 5e-324, 1e-300]),
        ([1, 2.5, "3", None, True, {}, "x", 2**70], [1, 2.5, 3, None, "wrong", "wrong", "wrong", 2.0**70]),
    ],
)
def test_numbers_are_numbers_or_decimal_text(raw: Any, expected: list[float | str | None]) -> None:
    found = parse.numbers(raw)
    read = [
        "wrong" if wrong else None if missing else value
        for value, missing, wrong in zip(found.values, found.missing, found.wrong, strict=True)
    ]
    assert read == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (pa.array([True, False, None]), [True, False, None]),
        (pa.array([1, 0, None, 2, -1]), [True, False, None, "wrong", "wrong"]),
        (pa.array([1.0, 0.0, float("nan"), 0.5, None]), [True, False, None, "wrong", None]),
        (pa.array(["1", "0", "True", "FALSE", "null", "", None, "1.0", "yes", "2"]),
         [True, False, True, False, None, None, None, True, "wrong", "wrong"]),
        (pa.array([datetime(2024, 1, 1), None]), ["wrong", None]),
        (pa.nulls(1), [None]),
        ([True, 0, "true", None, "maybe", [1]], [True, False, True, None, "wrong", "wrong"]),
    ],
)  # fmt: skip
def test_labels_are_booleans_however_written(raw: Any, expected: list[bool | str | None]) -> None:
    found = parse.labels(raw)
    read = [
        "wrong" if wrong else bool(value) if known else None
        for value, known, wrong in zip(found.values, found.known, found.wrong, strict=True)
    ]
    assert read == expected


@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates())))
def test_nothing_raises_on_a_value(values: list[Any]) -> None:
    mixed = [value for value in values if not isinstance(value, (bytes, date))]
    raws: list[Any] = [mixed]
    for kind in (str, bytes, float, date, bool):
        raws.append(pa.array([value for value in values if isinstance(value, kind)] + [None]))
    for raw in raws:
        text, number, time, label = (
            parse.text(raw),
            parse.numbers(raw),
            parse.times(raw, "Europe/Berlin"),
            parse.labels(raw),
        )
        for parsed in (text, number, time):
            assert not np.any(parsed.missing & parsed.wrong)
        assert not np.any(label.known & label.wrong)
        assert np.isfinite(number.values[number.missing | number.wrong]).all()


def test_a_whole_number_too_large_for_a_float_is_no_identifier_whatever_stands_beside_it() -> None:
    large = float(2**53 + 2)
    assert parse.text(pa.array([large])).wrong.tolist() == [True]
    assert parse.text([large, "t1", float(2**53)]).wrong.tolist() == [True, False, False]
