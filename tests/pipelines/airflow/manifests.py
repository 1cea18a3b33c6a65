"""A manifest of the training pipeline's form, without a pipeline behind it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

# Node, what it reads from, and the gates that it is under.
NODES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("ingest", (), ()),
    ("champion", ("ingest",), ("ingest",)),
    ("examples", ("ingest",), ("ingest",)),
    ("expectations", ("ingest", "examples"), ("ingest",)),
    ("schema", ("ingest", "examples"), ("ingest",)),
    ("statistics", ("ingest", "examples"), ("ingest",)),
    ("anomalies", ("ingest", "schema", "statistics"), ("ingest",)),
    ("drift", ("ingest", "champion", "examples", "schema", "statistics"), ("ingest",)),
    ("gate", ("ingest", "expectations", "anomalies", "drift"), ("ingest",)),
    ("transform", ("ingest", "examples", "schema", "gate"), ("ingest", "gate")),
    ("baselines", ("ingest", "examples", "gate", "transform"), ("ingest", "gate")),
    ("trainer", ("ingest", "examples", "schema", "gate", "transform"), ("ingest", "gate")),
    ("evaluator", ("ingest", "champion", "examples", "schema", "gate", "trainer"), ("ingest", "gate")),
    ("evidence", ("ingest", "champion", "examples", "gate", "baselines", "trainer"), ("ingest", "gate")),
    ("model_gate", ("ingest", "gate", "evaluator", "evidence"), ("ingest", "gate", "evaluator")),
    (
        "infra",
        ("ingest", "examples", "gate", "trainer", "evaluator", "model_gate"),
        ("ingest", "gate", "evaluator", "model_gate"),
    ),
    (
        "registration",
        (
            "ingest",
            "examples",
            "expectations",
            "schema",
            "statistics",
            "drift",
            "gate",
            "trainer",
            "evaluator",
            "evidence",
            "model_gate",
            "infra",
        ),
        ("ingest", "gate", "evaluator", "model_gate", "infra"),
    ),
)
GATES = ("ingest", "gate", "evaluator", "model_gate", "infra")


def manifest(definition: Path, name: str = "fraud", start: date = date(2026, 1, 1)) -> dict[str, Any]:
    return {
        "format": 1,
        "name": name,
        "source": "simulated",
        "log": "/logs/{SPAN}.parquet",
        "definition": str(definition),
        "workspace": str(definition.parent),
        "tracking_uri": None,
        "schedule": {"cron": "0 0 * * *", "start": start.isoformat(), "catchup": False},
        "nodes": [
            {
                "id": id,
                "upstream": list(upstream),
                "under": list(under),
                "is_gate": id in GATES,
                "retries": 2,
                "retry_delay_s": 1,
                "timeout_s": 600,
                "resources": {"cpu": "2", "memory": "4Gi", "gpus": 1 if id == "trainer" else 0},
            }
            for id, upstream, under in NODES
        ],
        "image": None,
        "volume": None,
        "namespace": None,
        "secret": None,
    }
