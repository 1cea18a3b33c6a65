import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from schemas import sources
from schemas.features import specify
from serving.features import RedisStore, TableFeatureStore
from tests.redis_server import redis_server

SPARKOV = """tx_id,cc_num,trans_date_trans_time,category,amt,is_fraud,merchant,merch_lat,merch_long
b,4111111111111111,2019-01-01 10:00:00,travel,20.00,0,m1,40.0,-74.0
a,4111111111111111,2019-01-01 09:30:00,food,30.00,0,m2,41.0,-74.0
c,5500000000000004,2019-01-01 10:30:00,food,1.00,1,m1,40.0,-75.0
"""


@pytest.fixture
def sparkov(tmp_path: Path) -> Path:
    log = tmp_path / "sparkov.csv"
    log.write_text(SPARKOV)
    return log


def fraudops(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, dict[str, Any]]:
    code = main(["features", *map(str, args), "--json"])
    return code, json.loads(capsys.readouterr().out)


def build(
    capsys: pytest.CaptureFixture[str], log: Path, out: Path, source: str = "sparkov"
) -> tuple[int, dict[str, Any]]:
    workspace = out.parent / "workspace"
    return fraudops(capsys, "build", "--source", source, "--log", log, "--out", out, "--workspace", workspace)


def test_features_of_a_log_are_written_in_event_time_order(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    code, fields = build(capsys, sparkov, tmp_path / "features.parquet")
    assert code == 0
    features = pq.read_table(tmp_path / "features.parquet")
    assert features["transaction_id"].to_pylist() == ["a", "b", "c"]
    assert features["card_id_count_1h"].to_pylist() == [0, 1, 0]
    assert features["card_id_amount_base_minor_last"].to_pylist()[1] == 3_000
    assert (fields["rows"], fields["seconds"] > 0, fields["peak_rss_mib"] > 0) == (3, True, True)
    assert 0 < fields["features"] < len(features.column_names)


def test_a_runner_that_beam_does_not_know_is_bad_usage(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    arguments = ["--source", "sparkov", "--log", sparkov, "--out", tmp_path / "features.parquet"]
    code, fields = fraudops(capsys, "build", *arguments, "--beam-arg=--runner=NoSuchRunner")
    assert code == 2
    assert "--runner=NoSuchRunner" in fields["error"]["message"]
    assert not list(tmp_path.glob("features*"))


def test_a_log_with_too_many_bad_rows_exits_1_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    sparkov.write_text(SPARKOV.replace("20.00", "-20.00"))
    code, fields = build(capsys, sparkov, tmp_path / "features.parquet")
    assert code == 1
    assert "negative_amount" in fields["reason"]
    assert not (tmp_path / "features.parquet").exists()


@pytest.mark.parametrize(("since", "rows"), [("2019-01-01T09:30:01Z", ["b", "c"]), ("2019-01-01", ["a", "b", "c"])])
def test_features_may_be_written_from_a_time_on(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path, since: str, rows: list[str]
) -> None:
    workspace, out = tmp_path / "workspace", tmp_path / "features.parquet"
    where = ("--source", "sparkov", "--log", sparkov, "--out", out, "--workspace", workspace)
    code, fields = fraudops(capsys, "build", *where, "--since", since)
    assert (code, fields["rows"]) == (0, len(rows))
    features = pq.read_table(out)
    assert features["transaction_id"].to_pylist() == rows
    assert features["card_id_count_1h"].to_pylist()[-2:] == [1, 0]
    # Thirty days, and a week that a label may take.
    assert fields["history_from"] == "2018-11-25T00:00:00Z"
    assert not fields["history_whole"]


def test_a_build_says_from_when_on_the_log_has_to_be_whole_and_whether_it_is(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    where = ("--source", "sparkov", "--log", sparkov, "--out", tmp_path / "out", "--workspace", tmp_path / "workspace")
    assert main(["features", "build", *map(str, where), "--since", "2019-01-01T10:00:00Z"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the log has to be whole from 2018-11-25T00:00:00Z on" in said
    assert "warning: it begins at 2019-01-01T09:30:00Z" in said


def test_an_unknown_source_is_bad_input(capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path) -> None:
    code, fields = build(capsys, sparkov, tmp_path / "features.parquet", source="sparkof")
    assert code == 2
    assert "sparkof" in fields["error"]["message"]


def test_equal_files_agree_and_a_changed_value_does_not(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    build(capsys, sparkov, first)
    code, fields = fraudops(capsys, "compare", first, first)
    assert (code, fields["rows"], max(fields["largest_difference"].values())) == (0, 3, 0)

    features = pq.read_table(first)
    at = features.column_names.index("card_id_count_1h")
    pq.write_table(features.set_column(at, "card_id_count_1h", pa.array([0.0, 2.0, 0.0])), second)
    code, fields = fraudops(capsys, "compare", first, second)
    assert code == 1
    assert fields["largest_difference"]["card_id_count_1h"] == 1
    assert fields["disagreements"] == {"card_id_count_1h": 1}


def test_people_see_which_feature_disagrees_and_where(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    pq.write_table(pa.table({"transaction_id": ["t1"], "mean": [1.5]}), first)
    pq.write_table(pa.table({"transaction_id": ["t1"], "mean": [2.5]}), second)
    assert main(["features", "compare", str(first), str(second)]) == 1
    shown = capsys.readouterr()
    assert not shown.out
    assert all(part in shown.err for part in ("1 rows in both", "mean", "t1", "they disagree"))


def test_files_without_a_row_in_common_do_not_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.table({"transaction_id": [name], "mean": [1.5]}), tmp_path / name)
    code, fields = fraudops(capsys, "compare", tmp_path / "a", tmp_path / "b")
    assert (code, fields["rows"], fields["only_in_first"]) == (1, 0, 1)


def test_what_is_no_feature_file_is_bad_input(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    code, fields = fraudops(capsys, "compare", sparkov, tmp_path / "absent")
    assert code == 2
    assert "sparkov.csv" in fields["error"]["message"]


def replay(capsys: pytest.CaptureFixture[str], log: Path, out: Path, *more: object) -> tuple[int, dict[str, Any]]:
    workspace = out.parent / "workspace"
    where = ("--log", log, "--out", out, "--workspace", workspace)
    return fraudops(capsys, "replay", "--source", "sparkov", *where, *more)


def test_a_replay_through_the_store_agrees_with_the_batch(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    build(capsys, sparkov, tmp_path / "built.parquet")
    code, fields = replay(capsys, sparkov, tmp_path / "replayed.parquet")
    assert (code, fields["rows"], fields["seconds"] > 0, fields["observe_ms"]["p99"] > 0) == (0, 3, True, True)
    code, compared = fraudops(capsys, "compare", tmp_path / "built.parquet", tmp_path / "replayed.parquet")
    assert (code, compared["rows"], compared["disagreements"]) == (0, 3, {})
    assert pq.read_schema(tmp_path / "built.parquet").names == pq.read_schema(tmp_path / "replayed.parquet").names


def test_a_replay_may_end_early(capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path) -> None:
    code, fields = replay(capsys, sparkov, tmp_path / "replayed.parquet", "--limit", 2)
    assert (code, fields["rows"]) == (0, 2)
    assert pq.read_table(tmp_path / "replayed.parquet")["transaction_id"].to_pylist() == ["a", "b"]
    assert {path.name for path in tmp_path.iterdir()} == {"replayed.parquet", "sparkov.csv", "workspace"}


def test_a_loaded_store_goes_on_where_the_log_ended(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    arguments = ("load", "--source", "sparkov", "--log", sparkov, "--workspace", workspace)
    code, fields = fraudops(capsys, *arguments)
    assert (code, fields["rows"], fields["bytes"] > 0) == (0, 3, True)

    spec = specify(sources.load("sparkov").provided)
    store = TableFeatureStore.embedded(Path(fields["store"]), spec)
    event_time = int(datetime(2019, 1, 1, 10, 31, tzinfo=UTC).timestamp()) * 1_000_000
    seen = store.observe({"transaction_id": "d", "event_time": event_time, "card_id": "other", "merchant_id": "m1"})
    store.close()
    flat = [declared.name for declared in spec.numeric for _ in range(declared.width)]
    assert seen.numbers[flat.index("merchant_id_count_1h")] == 2

    code, fields = fraudops(capsys, *arguments)
    assert code == 2
    assert "there already" in fields["error"]["message"]


def test_labels_that_became_known_after_the_load_come_once(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    where = ("--source", "sparkov", "--log", sparkov, "--workspace", tmp_path / "workspace")
    code, fields = fraudops(capsys, "label", *where)
    assert code == 2
    assert "fraudops features load" in fields["error"]["message"]
    _, loaded = fraudops(capsys, "load", *where)
    counts = ("added", "decided", "outdated", "ahead")
    # Labels take a week.
    for until, expected in (("2019-01-08T10:00:00Z", [2, 0, 0, 1]), ("2019-01-08T10:00:00Z", [0, 0, 0, 1])):
        code, fields = fraudops(capsys, "label", *where, "--until", until)
        assert (code, [fields[name] for name in counts]) == (0, expected)
    code, fields = fraudops(capsys, "label", *where)
    assert (code, [fields[name] for name in counts], fields["store"]) == (0, [1, 0, 0, 0], loaded["store"])

    spec = specify(sources.load("sparkov").provided)
    store = TableFeatureStore.embedded(Path(fields["store"]), spec)
    event_time = int(datetime(2019, 1, 9, tzinfo=UTC).timestamp()) * 1_000_000
    seen = store.observe({"transaction_id": "d", "event_time": event_time, "card_id": "other", "merchant_id": "m1"})
    store.close()
    flat = [declared.name for declared in spec.numeric for _ in range(declared.width)]
    assert seen.numbers[flat.index("merchant_id_fraud_rate_30d")] == 0.5


def test_a_time_up_to_which_labels_come_is_iso_8601(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    code, fields = fraudops(
        capsys, "label", "--source", "sparkov", "--log", sparkov, "--workspace", tmp_path, "--until", "tomorrow"
    )
    assert code == 2
    assert "--until 'tomorrow'" in fields["error"]["message"]


def test_a_replay_through_redis_agrees_with_the_batch_and_leaves_nothing_there(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    build(capsys, sparkov, tmp_path / "built.parquet")
    with redis_server(tmp_path) as server:
        code, fields = replay(capsys, sparkov, tmp_path / "replayed.parquet", "--store", server.url)
        with server.client() as client:
            assert client.dbsize() == 0
    assert (code, fields["rows"]) == (0, 3)
    code, compared = fraudops(capsys, "compare", tmp_path / "built.parquet", tmp_path / "replayed.parquet")
    assert (code, compared["rows"], compared["disagreements"]) == (0, 3, {})


def test_a_store_loaded_in_redis_needs_the_password_and_an_empty_place(
    capsys: pytest.CaptureFixture[str], sparkov: Path, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret-of-a-test\n")
    with redis_server(tmp_path, "--requirepass", "s3cret-of-a-test") as server:
        arguments = ("load", "--source", "sparkov", "--log", sparkov, "--workspace", tmp_path, "--store", server.url)
        code, fields = fraudops(capsys, *arguments)
        assert code == 2
        assert "refuses the login" in fields["error"]["message"]
        with_password = (*arguments, "--feature-store-password-file", password)
        code, fields = fraudops(capsys, *with_password)
        assert (code, fields["rows"], fields["store"]) == (0, 3, server.url)
        code, fields = fraudops(capsys, *with_password)
        assert code == 2
        assert "sparkov is in redis://" in fields["error"]["message"]
        RedisStore(server.url, "sparkov", password).open(specify(sources.load("sparkov").provided)).close()
