"""A manifest of the training pipeline's form, without a pipeline behind it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

# Node, what it reads from, and the gates that it is under.
NODES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("ingest", (), ()),
    ("examples", ("ingest",), ("ingest",)),
    ("schema", ("ingest", "examples"), ("ingest",)),
    ("statistics", ("ingest", "examples", "schema"), ("ingest",)),
    ("anomalies", ("ingest", "statistics", "schema"), ("ingest",)),
    ("expectations", ("ingest", "examples"), ("ingest",)),
    ("champion", ("ingest",), ("ingest",)),
    ("drift", ("ingest", "examples", "schema", "statistics", "champion"), ("ingest",)),
    ("gate", ("ingest", "anomalies", "expectations", "drift"), ("ingest",)),
    ("transform", ("ingest", "examples", "schema", "gate"), ("ingest", "gate")),
    ("trainer", ("ingest", "examples", "transform", "schema", "gate"), ("ingest", "gate")),
    ("evidence", ("ingest", "trainer", "examples", "gate"), ("ingest", "gate")),
    ("evaluator", ("ingest", "examples", "trainer", "champion", "schema", "gate"), ("ingest", "gate")),
    ("registration", ("ingest", "trainer", "evaluator", "evidence", "gate"), ("ingest", "gate", "evaluator")),
)
GATES = ("ingest", "gate", "evaluator")


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
