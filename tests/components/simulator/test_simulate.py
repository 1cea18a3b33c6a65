from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from components.simulator import FRAUD_KINDS, frauds_by_kind, simulate
from components.simulator.frauds import KINDS
from components.simulator.places import CITIES, distances_km
from schemas import sources
from schemas.currency import minor_unit_decimals
from schemas.errors import ConfigurationError

CARDS, DAYS, SEED = 1_200, 40, 5
MAPPING = sources.load("simulated")
CITY = {city.name: position for position, city in enumerate(CITIES)}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return simulate(CARDS, DAYS, SEED)


@pytest.fixture(scope="module")
def log(table: pa.Table) -> pd.DataFrame:
    """The log with `euros`, `km` and `minutes` since the card's previous payment."""
    frame = table.to_pandas()
    since = np.array([rate.since_us for rate in MAPPING.rates])
    rates = pd.DataFrame(
        {
            "currency": [rate.currency for rate in MAPPING.rates],
            "event_time": pd.to_datetime(since, unit="us", utc=True).astype(frame.event_time.dtype),
            "rate": [rate.rate for rate in MAPPING.rates],
        }
    )
    frame = pd.merge_asof(frame, rates.sort_values("event_time"), on="event_time", by="currency")
    frame["euros"] = frame.amount_minor * frame.rate.fillna(1.0) / 10 ** frame.currency.map(minor_unit_decimals)
    city = frame.city.map(CITY)
    before = city.groupby(frame.card_id).shift()
    frame["km"] = np.where(before.notna(), distances_km()[city, before.fillna(0).astype(int)], 0.0)
    frame["minutes"] = frame.groupby("card_id").event_time.diff().dt.total_seconds() / 60
    return frame


def test_the_same_arguments_give_the_same_log_and_another_seed_another_one():
    assert simulate(60, 5, 9).equals(simulate(60, 5, 9))
    assert not simulate(60, 5, 9).equals(simulate(60, 5, 10))


def test_the_log_has_every_column_that_its_mapping_reads_and_no_other_than_the_answer(table):
    assert set(table.column_names) == {*MAPPING.columns.values(), *MAPPING.unused}


def test_event_times_are_utc_microseconds_and_ids_ascend_with_them(table, log):
    assert table.schema.field("event_time").type == pa.timestamp("us", tz="UTC")
    assert log.event_time.is_monotonic_increasing
    assert log.transaction_id.is_monotonic_increasing and log.transaction_id.is_unique
    assert log.event_time.min() >= datetime(2024, 1, 1, tzinfo=UTC)
    assert log.event_time.max() < datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=DAYS)


@pytest.mark.parametrize(("cards", "days"), [(CARDS, DAYS), (6_000, 2), (120, 120)])
def test_about_one_payment_in_two_hundred_is_fraud_whatever_the_size(table, cards, days):
    found = table if (cards, days) == (CARDS, DAYS) else simulate(cards, days, SEED)
    frauds = frauds_by_kind(found)
    assert found.num_rows > 20_000
    assert 0.004 < sum(frauds.values()) / found.num_rows < 0.006
    assert all(frauds[kind] > 0 for kind in FRAUD_KINDS)


@pytest.mark.parametrize(("cards", "days"), [(50, 5), (1, 30), (30, 1)])
def test_small_worlds_work_as_well(cards, days):
    assert simulate(cards, days, 1).num_rows > 0


def test_labels_of_genuine_payments_come_after_the_mappings_delay(log):
    genuine = log[~log.is_fraud]
    assert (genuine.label_time - genuine.event_time == pd.Timedelta(seconds=MAPPING.label_delay_s)).all()


def test_every_kind_of_fraud_becomes_known_within_its_own_delay(log):
    hours = (log.label_time - log.event_time).dt.total_seconds() / 3_600
    assert hours[log.is_fraud].max() <= MAPPING.label_delay_s / 3_600
    for kind in FRAUD_KINDS:
        shortest, _, longest = KINDS[kind].delay_h
        assert hours[log.fraud_kind == kind].between(shortest - 0.001, longest).all()


def test_only_frauds_have_a_kind(log):
    assert (log.fraud_kind.notna() == log.is_fraud).all()


def test_card_testing_is_three_probes_within_minutes_and_then_a_large_payment(log):
    rows = log[log.fraud_kind == "card_testing"]
    for _, card in rows.groupby("card_id"):
        for first in range(0, len(card), 4):
            campaign = card.iloc[first : first + 4]
            assert (campaign.euros.iloc[:3] < 5).all() and campaign.euros.iloc[3] > 5 * campaign.euros.iloc[:3].max()
            assert campaign.event_time.iloc[2] - campaign.event_time.iloc[0] < pd.Timedelta(minutes=15)
            assert campaign.event_time.iloc[3] - campaign.event_time.iloc[2] <= pd.Timedelta(hours=1)


def test_impossible_travel_is_faster_than_any_aeroplane(log):
    rows = log[log.fraud_kind == "impossible_travel"]
    jumps = rows[(rows.km > 0) & (rows.minutes < 30)]
    # Each campaign begins with a jump; later payments of it may follow in the same city.
    assert jumps.card_id.nunique() > 0.9 * rows.card_id.nunique()
    assert (jumps.km / (jumps.minutes / 60) > 1_000).mean() > 0.95


def test_slow_probing_is_small_and_frequent_over_days_across_devices(log):
    rows = log[log.fraud_kind == "slow_probing"]
    by_card = rows.groupby("card_id").agg(
        most=("euros", "max"), count=("euros", "size"), devices=("device_id", "nunique"), days=("event_time", np.ptp)
    )
    assert by_card.most.max() < 12.1
    assert by_card["count"].median() >= 6
    assert by_card.devices.median() >= 2
    assert by_card.days.median() > pd.Timedelta(days=1)


def test_account_takeover_mostly_brings_a_new_device_and_drains_within_hours(log):
    first_use = log.groupby(["card_id", "device_id"]).event_time.transform("min") == log.event_time
    rows = log[log.fraud_kind == "account_takeover"].assign(first_use=first_use)
    campaigns = rows.groupby("card_id").agg(
        new=("first_use", "any"), sum=("euros", "sum"), lasts=("event_time", np.ptp), count=("euros", "size")
    )
    assert campaigns.new.mean() > 0.6
    assert campaigns.lasts.median() < pd.Timedelta(hours=12)
    assert campaigns["sum"].median() > 5 * log[~log.is_fraud].euros.median()


def test_a_ring_shares_devices_and_merchants_among_cards(log):
    rows = log[log.fraud_kind == "ring"]
    assert rows.groupby("device_id").card_id.nunique().max() >= 3
    assert rows.merchant_id.nunique() < len(rows) / 3


def test_a_compromised_merchant_defrauds_many_cards_for_a_week_or_two(log):
    rows = log[log.fraud_kind == "compromised_merchant"]
    merchant = rows.merchant_id.value_counts().index[0]
    there = rows[rows.merchant_id == merchant]
    share = log[log.merchant_id == merchant].is_fraud.mean()
    assert there.card_id.nunique() > 5
    assert share > 10 * log.is_fraud.mean()


def test_genuine_payments_hold_look_alikes_of_every_kind(log):
    genuine = log[~log.is_fraud]
    small = genuine.euros < 5
    probes_before = sum(small.groupby(genuine.card_id).shift(back, fill_value=False).astype(int) for back in (1, 2, 3))
    minutes = genuine.event_time - genuine.groupby("card_id").event_time.shift(3)
    frauds = log.fraud_kind.value_counts()
    # Probes, then a large payment.
    probed = (probes_before == 3) & (minutes < pd.Timedelta(hours=1)) & (genuine.euros > 25)
    assert probed.sum() > frauds["card_testing"] / 4 / 2
    # Jumps that nobody can make, online and at terminals.
    jump = (genuine.km > 1_000) & (genuine.minutes < 30)
    assert jump.sum() > frauds["impossible_travel"] and (jump & (genuine.channel != "online")).any()
    # New devices, devices of several cards, crowded merchants.
    later = genuine[genuine.event_time > genuine.event_time.min() + pd.Timedelta(days=20)]
    new = ~later.duplicated(["card_id", "device_id"]) & later.device_id.notna()
    assert new.sum() > frauds["account_takeover"]
    online = genuine[genuine.channel == "online"]
    assert (online.groupby("device_id").card_id.nunique() > 2).sum() > 10
    hour = genuine.groupby(["merchant_id", genuine.event_time.dt.floor("h")]).size()
    assert hour.max() > 10 * hour.groupby("merchant_id").median().median()


def test_some_frauds_look_ordinary(log):
    frauds = log[log.is_fraud]
    genuine = log[~log.is_fraud]
    known_device = frauds.merge(
        genuine[["card_id", "device_id"]].dropna().drop_duplicates(), on=["card_id", "device_id"]
    )
    assert len(known_device) > 0.03 * len(frauds)
    assert (frauds.euros.between(*genuine.euros.quantile([0.05, 0.95]))).mean() > 0.4
    assert (frauds.km == 0).mean() > 0.4


def test_no_column_alone_tells_fraud(log):
    """What a column's values did in the first half says little about the second, and no threshold does either."""
    half = len(log) // 2
    early, late = log.iloc[:half], log.iloc[half:]
    for column in set(MAPPING.columns.values()) - {"is_fraud", "label_time", "transaction_id", "event_time"}:
        values = log[column].fillna("none") if log[column].dtype == object else log[column]
        rate = early.is_fraud.groupby(values.iloc[:half]).mean()
        scores = [values.iloc[half:].map(rate).fillna(early.is_fraud.mean())]
        if log[column].dtype != object:
            scores += [late[column], -late[column]]
        assert max(average_precision_score(late.is_fraud, score) for score in scores) < 0.5, column


def test_life_follows_the_clock_of_the_place(log):
    rows = log[(log.channel != "online") & ~log.is_fraud]
    offset = rows.city.map({city.name: city.utc_offset_h for city in CITIES})
    hour = (rows.event_time + pd.to_timedelta(offset, unit="h")).dt.hour
    assert (hour.between(1, 4)).mean() < 0.03
    for city in ("Berlin", "Beijing", "New York"):
        assert 11 <= hour[rows.city == city].median() <= 17


def test_yen_have_no_decimals_and_cash_comes_in_notes(log):
    cash = log[(log.channel == "atm") & (log.currency == "JPY")]
    assert len(cash) and (cash.amount_minor % 1_000 == 0).all()
    assert 10 < log.euros.median() < 100


def test_a_later_log_of_the_same_seed_goes_on_with_the_same_cards_and_merchants():
    first = simulate(80, 20, 3)
    later = simulate(80, 20, 3, start=datetime(2024, 1, 21, tzinfo=UTC))
    assert set(first["card_id"].to_pylist()) == set(later["card_id"].to_pylist())
    assert len(set(first["merchant_id"].to_pylist()) & set(later["merchant_id"].to_pylist())) > 100
    assert not set(first["transaction_id"].to_pylist()) & set(later["transaction_id"].to_pylist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cards": 0}, "cards is 0"),
        ({"days": 0}, "days is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"start": datetime(2024, 1, 1)}, "no time zone"),
        ({"start": datetime(2019, 1, 1, tzinfo=UTC)}, "before the first rates"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        simulate(**{"cards": 10, "days": 1, "seed": 1, **arguments})
