from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.schema import curated_schema
from tests.components.test_schema import ROWS, SIMULATED, genuine_features, with_value

RECENT = "card_id_amount_base_minor_recent_16"


@pytest.fixture
def faults_of(tmp_path: Path):
    # Ten seconds to import, and only here.
    from components import schema_validation

    def found(features: pa.Table) -> set[str]:
        file = tmp_path / "features.parquet"
        pq.write_table(features, file)
        schema = curated_schema(SIMULATED)
        statistics = schema_validation.feature_statistics(file, SIMULATED, schema)
        assert statistics.datasets[0].num_examples == features.num_rows
        return {fault.subject for fault in schema_validation.find_faults(statistics, schema)}

    return found


def test_features_of_rows_without_a_label_pass(faults_of):
    assert faults_of(genuine_features().drop_columns(["is_fraud"])) == set()


def test_what_no_schema_may_allow_is_a_fault_in_whichever_batch_it_is(faults_of, monkeypatch):
    monkeypatch.setattr("components.schema_validation.ROWS_PER_BATCH", ROWS // 4)
    features = with_value(genuine_features(), "amount_base_minor", float("nan"))
    features = with_value(features, "card_id_merchant_id_distinct_24h", 17.0)
    features = with_value(features, RECENT, [1.0, -1.0, *[1.0] * 14])
    assert faults_of(features) == {"amount_base_minor", "card_id_merchant_id_distinct_24h", RECENT}
