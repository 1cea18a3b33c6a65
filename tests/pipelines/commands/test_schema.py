import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from components import schema
from pipelines.cli import main

HEADER = "tx_id,cc_num,trans_date_trans_time,category,amt,is_fraud,merchant,merch_lat,merch_long,country"
ROWS = [
    f"t{number},4111111111111111,2019-01-01 10:{number:02}:00,travel,{number}.50,,m{number % 3},40.0,-74.0,US"
    for number in range(20)
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Sparkov's mapping for a log that has a column of countries."""
    text = (resources.files("schemas") / "sources" / "sparkov.yaml").read_text(encoding="utf-8")
    text = text.replace("  country: US\n", "").replace("columns:\n", "columns:\n  country: country\n")
    (tmp_path / "source.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "source.yaml"


def diff(capsys: pytest.CaptureFixture[str], source: Path, rows: list[str], *more: str) -> tuple[int, dict[str, Any]]:
    log = source.parent / "log.csv"
    log.write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    where = ["--source", str(source), "--log", str(log), "--workspace", str(source.parent / "workspace")]
    code = main(["schema", "diff", *where, *more, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_log_that_passes_asks_for_nothing(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    code, fields = diff(capsys, source, ROWS)
    assert (code, fields["rows"], fields["changes"], fields["faults"], fields["diff"]) == (0, 20, [], [], "")


def test_a_country_that_the_schema_lacks_is_proposed_with_its_rows_and_accepted_by_a_person(
    capsys: pytest.CaptureFixture[str], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curated = schema.curated_text()
    rows = [*ROWS[:17], *(row.replace(",US", ",XK") for row in ROWS[17:])]
    out = source.parent / "proposals" / "fraud.pbtxt"
    code, fields = diff(capsys, source, rows, "--out", str(out))
    assert (code, fields["rows"], fields["faults"]) == (1, 20, [])
    assert fields["changes"] == [{"kind": "value", "feature": "country", "domain": "country", "value": "XK", "rows": 3}]
    assert [line for line in fields["diff"].splitlines()[2:] if line[0] in "+-"] == ['+  value: "XK"']
    assert schema.curated_text() == curated, "the curated schema is a person's to change"

    monkeypatch.setattr(schema, "curated_text", lambda: out.read_text(encoding="utf-8"))
    assert diff(capsys, source, rows)[0] == 0


def test_a_bound_of_a_persons_own_is_proposed_to_move_and_a_fault_is_listed_apart(
    capsys: pytest.CaptureFixture[str], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = schema.curated_text()
    amount = 'name: "amount_base_minor"\n  type: FLOAT\n  presence { min_fraction: 1 min_count: 1 }\n  shape {}\n'
    assert amount in text
    text = text.replace(f"{amount}  float_domain {{ min: 0 ", f"{amount}  float_domain {{ min: 0 max: 1500 ")
    mean = 'name: "card_id_amount_base_minor_mean_1h"'
    before, after = text.split(mean)
    text = before + mean + after.replace("disallow_inf: true", "disallow_nan: true disallow_inf: true", 1)
    monkeypatch.setattr(schema, "curated_text", lambda: text)
    code, fields = diff(capsys, source, ROWS)
    assert code == 1
    (change,) = fields["changes"]
    assert (change["feature"], change["bound"], change["curated"], change["needed"]) == (
        "amount_base_minor", "max", 1_500, 1_950,
    )  # fmt: skip
    assert change["rows"] == 5
    assert [fault["feature"] for fault in fields["faults"]] == ["card_id_amount_base_minor_mean_1h"]


def test_people_see_what_asks_for_the_change_and_how_to_make_it(
    capsys: pytest.CaptureFixture[str], source: Path
) -> None:
    log = source.parent / "log.csv"
    log.write_text("\n".join([HEADER, ROWS[0].replace(",US", ",XK"), *ROWS[1:]]), encoding="utf-8")
    where = ["--source", str(source), "--log", str(log), "--workspace", str(source.parent / "workspace")]
    assert main(["schema", "diff", *where]) == 1
    shown = capsys.readouterr()
    assert not shown.out
    for part in ("'XK' in domain country", "1 of 20", '+  value: "XK"', "--out"):
        assert part in shown.err


def test_a_log_of_bad_rows_is_bad_input(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    code, fields = diff(capsys, source, [row.replace(".50", ".50x") for row in ROWS])
    assert code == 2
    assert "bad_type_amount" in fields["error"]["message"]
