"""A version to register in tests, and a real MLflow server to register it with."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.registry.registration import Registration, Signature, Tensor
from schemas.digests import directory_digest


def example(folder: Path, name: str) -> Registration:
    """A small directory that stands for a SavedModel, with evidence, below `folder`; `name` is the model's."""
    saved_model = folder / "exported"
    (saved_model / "variables").mkdir(parents=True)
    (saved_model / "assets.extra").mkdir()
    (saved_model / "saved_model.pb").write_bytes(b"a graph")
    (saved_model / "variables" / "variables.index").write_bytes(b"\x00\x01")
    (saved_model / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"warm-up")
    evidence = folder / "evidence"
    (evidence / "plots").mkdir(parents=True)
    (evidence / "test.json").write_text("{}")
    (evidence / "plots" / "roc.png").write_bytes(b"png")
    return Registration(
        saved_model=saved_model,
        digest_saved_model=directory_digest(saved_model),
        digest_evaluation="e" * 64,
        digest_schema="s" * 64,
        data_span="2018-04-01 to 2018-09-30",
        code_version="0.1.0+abc",
        mlmd_model_id=7,
        mlmd_statistics_id=4,
        mlmd_baseline_id=5,
        gate="passed",
        signature=Signature(
            "score",
            inputs=(
                Tensor("amount", "float32", (-1,)),
                Tensor("channel", "str", (-1,)),
                Tensor("last", "float32", (-1, 3)),
            ),
            outputs=(Tensor("score", "float32", (-1,)),),
        ),
        evidence=evidence,
        description="Finds fraud.\n\n- AP 0.61",
        run_name="handbook",
        params={"learning_rate": "0.001"},
        metrics={"test/average_precision": 0.61},
        history={"loss": (0.5, 0.4, 0.3)},
        model_name=name,
    )


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real MLflow server on a free port of the loopback, keeping its files in `folder`; gives its address."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "kept"),
    ]
    # Popen closes its end of the pipe when the block is left, and waits for the server.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder) as process:
        assert process.stdout is not None
        address = next(
            (line.split("running on ")[1].split()[0] for line in process.stdout if "running on http" in line), None
        )
        # What the server goes on to say is read, or it would wait for a reader one day.
        reader = threading.Thread(target=process.stdout.read)
        reader.start()
        try:
            assert address is not None, "the server ended before it served"
            yield address
        finally:
            process.terminate()
            reader.join(60)
