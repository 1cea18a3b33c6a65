"""The model registry: registration of a complete model version in MLflow, once whatever happens."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.registry.client import registry_errors
from components.registry.runs import find_or_create, log_params, row_params
from components.registry.versions import MODEL_DIR, SAVED_MODEL_DIGEST_TAG, SAVED_MODEL_DIR, fetch_saved_model
from schemas.acceptance import Acceptance, to_tags
from schemas.approval import GATE_TAG, PENDING, STATE_TAG
from schemas.digests import directory_digest, verify_directory
from schemas.errors import ArtifactError, DigestMismatchError
from schemas.versions import MODEL_NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EVIDENCE_DIR = "evidence"

# By this tag a registration that is tried again finds what an earlier try left behind.
KEY_TAG = "registration.key"

# What MLflow takes in one call.
_BATCH_METRICS = 1000

_DTYPES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_INT32": "int32", "DT_INT64": "int64", "DT_BOOL": "bool"}
_DTYPES["DT_STRING"] = "str"


@dataclass(frozen=True)
class Tensor:
    """One input or output of a signature: numpy's name of its type (`str` for text) and its shape, -1 for any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel: the name under which it is called, and its tensors."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A model version to be: what is copied, what identifies it, and what is said about it.

    Attributes:
        saved_model: the directory as Trainer exported it.
        digest_saved_model: its `directory_digest` when it was evaluated.
        digest_evaluation, digest_schema: digests of the evaluation and of the curated schema.
        data_span: the time that the training log covers, for people.
        code_version: of the code that trained it.
        mlmd_model_id, mlmd_statistics_id, mlmd_baseline_id: artifacts in the pipeline's metadata, for walking the
            lineage.
        gate: what the gates before it said.
        signature: shown in the MLflow UI, and what `mlflow.pyfunc` calls.
        evidence: directory of the files that people judge by: verdicts, metrics, plots, report.
        params: settings of the training.
        rows: of the log and of its parts, by what became of them.
        acceptances: the stops that people have accepted, each with who, when and why.
        metrics: by name, such as `test/average_precision`.
        history: by name, one value per epoch.
        description: Markdown, shown with the version.
        run_name: shown with the run.
        model_name: the registered model.
    """

    saved_model: Path
    digest_saved_model: str
    digest_evaluation: str
    digest_schema: str
    data_span: str
    code_version: str
    mlmd_model_id: int
    mlmd_statistics_id: int
    mlmd_baseline_id: int
    gate: Literal["passed", "failed"]
    signature: Signature
    evidence: Path
    description: str
    run_name: str
    params: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    acceptances: Sequence[Acceptance] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    model_name: str = MODEL_NAME

    def tags(self) -> dict[str, str]:
        """The tags that the version is created with."""
        identity = {
            SAVED_MODEL_DIGEST_TAG: self.digest_saved_model,
            "digest.evaluation": self.digest_evaluation,
            "digest.schema": self.digest_schema,
            "data.span": self.data_span,
            "code.version": self.code_version,
            "mlmd.model_id": str(self.mlmd_model_id),
            "mlmd.statistics_id": str(self.mlmd_statistics_id),
            GATE_TAG: self.gate,
        }
        # The gate may have been asked again about what was accepted once.
        timeless = to_tags(replace(one, at="") for one in self.acceptances)
        key = hashlib.sha256(json.dumps([self.model_name, identity | timeless], sort_keys=True).encode()).hexdigest()
        # A new champion has the same rows profiled again, which makes no other version of them.
        baseline = {"mlmd.baseline_id": str(self.mlmd_baseline_id)}
        return identity | baseline | to_tags(self.acceptances) | {KEY_TAG: key, STATE_TAG: PENDING}


@dataclass(frozen=True)
class RegisteredVersion:
    """Where a registration ended; `created` is false where an earlier try had already got there."""

    model_name: str
    version: int
    run_id: str
    created: bool


def register(client: MlflowClient, registration: Registration, artifact_root: str | None = None) -> RegisteredVersion:
    """Makes the model version of a registration, or finds the one that an earlier try made.

    Registrations with the same tags are the same one.  A process may die anywhere in here and the registration be tried
    again, one try at a time: there is one run and one version in the end.  The version is the last thing created, in
    one transaction with its tags, so nobody ever sees an incomplete one.  Aliases are left alone.

    Args:
        client: see `registry.client.connect`.
        registration: what to register.
        artifact_root: URI below which a new experiment keeps its files; None leaves that to the server.

    Raises:
        DigestMismatchError: the SavedModel, or the registry's copy of it, is not the one that was evaluated; no version
            was made.
        ArtifactError: the SavedModel cannot be read, or there is no evidence.
        RegistryError: MLflow refused.
    """
    verify_directory(registration.saved_model, registration.digest_saved_model)
    directory_digest(registration.evidence)  # an empty or absent one is refused before anything is written
    name, tags = registration.model_name, registration.tags()
    with registry_errors(f"registering a version of model {name!r}"):
        found = client.search_model_versions(f"name = '{name}' and tags.`{KEY_TAG}` = '{tags[KEY_TAG]}'")
        if found:
            return RegisteredVersion(name, int(found[0].version), str(found[0].run_id), created=False)
        run = _run(client, registration, tags, artifact_root)
        run_id = run.info.run_id
        _log_numbers(client, run, registration)
        client.log_artifacts(run_id, str(registration.evidence), EVIDENCE_DIR)
        client.log_artifacts(run_id, str(registration.saved_model), f"{MODEL_DIR}/{SAVED_MODEL_DIR}")
        client.log_text(run_id, _mlmodel(registration, run), f"{MODEL_DIR}/MLmodel")
        _verify_copy(client, run_id, registration.digest_saved_model)
        client.set_terminated(run_id, "FINISHED")
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description="Probability that a card transaction is fraud.")
        version = client.create_model_version(
            name, f"{run.info.artifact_uri}/{MODEL_DIR}", run_id, tags=tags, description=registration.description
        )
        return RegisteredVersion(name, int(version.version), run_id, created=True)


def read_signature(saved_model: Path, name: str = "score") -> Signature:
    """Reads one signature from a SavedModel's graph.

    Raises:
        ArtifactError: the directory holds no SavedModel, or the SavedModel has no such signature.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.types_pb2 import DataType
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = saved_model / "saved_model.pb"
    try:
        graphs = SavedModel.FromString(path.read_bytes()).meta_graphs
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{path} is not a SavedModel ({error}); train the model again") from error
    signatures = {key: value for graph in graphs for key, value in graph.signature_def.items()}
    if name not in signatures:
        raise ArtifactError(f"{path} has the signatures {sorted(signatures)}, but not {name!r}; export the model again")

    def tensors(infos: Mapping[str, TensorInfo]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(key, _DTYPES[DataType.Name(info.dtype)], tuple(dim.size for dim in info.tensor_shape.dim))
            for key, info in sorted(infos.items())
        )

    return Signature(name, tensors(signatures[name].inputs), tensors(signatures[name].outputs))


def _run(client: MlflowClient, registration: Registration, tags: dict[str, str], artifact_root: str | None) -> Run:
    """The run of this registration, which an earlier try may have made."""
    identity = {tag: value for tag, value in tags.items() if tag != STATE_TAG}  # which only the version has
    return find_or_create(client, registration.model_name, KEY_TAG, identity, registration.run_name, artifact_root)


def _log_numbers(client: MlflowClient, run: Run, registration: Registration) -> None:
    from mlflow.entities import Metric

    # The time of the run and not of this try: MLflow keeps a point with the same time, step and value once.
    time_ms = run.info.start_time
    metrics = [Metric(name, value, time_ms, 0) for name, value in registration.metrics.items()]
    for name, values in registration.history.items():
        metrics += [Metric(name, value, time_ms, epoch) for epoch, value in enumerate(values)]
    for start in range(0, len(metrics), _BATCH_METRICS):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + _BATCH_METRICS])
    log_params(client, run, {**registration.params, **row_params(registration.rows)})


def _mlmodel(registration: Registration, run: Run) -> str:
    """MLflow's description of the SavedModel beside it, so that the UI shows its schema and `mlflow` can load it.

    The flavor `tensorflow` with `tf1-estimator` is the one that loads a SavedModel by the name of a signature; it calls
    TensorFlow 2's own loader.
    """
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(tensors: tuple[Tensor, ...]) -> Schema:
        return Schema([TensorSpec(np.dtype(tensor.dtype), tensor.shape, tensor.name) for tensor in tensors])

    signature = registration.signature
    model = Model(
        artifact_path=MODEL_DIR,
        run_id=run.info.run_id,
        utc_time_created=str(datetime.fromtimestamp(run.info.start_time / 1000, UTC).replace(tzinfo=None)),
        signature=ModelSignature(inputs=schema(signature.inputs), outputs=schema(signature.outputs)),
        model_uuid=run.info.run_id,
    )
    model.add_flavor(
        "tensorflow",
        model_type="tf1-estimator",
        saved_model_dir=SAVED_MODEL_DIR,
        meta_graph_tags=["serve"],
        signature_def_key=signature.name,
        code=None,
    )
    model.add_flavor("python_function", loader_module="mlflow.tensorflow", python_version=platform.python_version())
    return str(model.to_yaml())


def _verify_copy(client: MlflowClient, run_id: str, digest: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        found = directory_digest(fetch_saved_model(client, run_id, scratch))
    if found != digest:
        client.set_terminated(run_id, "FAILED")
        raise DigestMismatchError(
            f"the registry's copy of the SavedModel in run {run_id} has the digest {found}, not {digest}; "
            "no version was made, so look at the artifact store and register again"
        )
