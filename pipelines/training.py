"""The training pipeline: from a transaction log to a registered model, composed of TFX components."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode

from components.evaluation import eval_config
from components.steps.artifacts import DriftBaseline
from components.steps.baselines import train_baselines
from components.steps.champion import ChampionStrategy
from components.steps.drift import check_drift
from components.steps.evidence import gather_evidence
from components.steps.examples import build_examples
from components.steps.expectations import check_expectations
from components.steps.gate import data_gate
from components.steps.infra import validate_infra
from components.steps.ingest import ingest_log
from components.steps.model_gate import judge_model
from components.steps.parameters import to_parameter
from components.steps.register import register_model
from components.steps.schema import curate_schema
from components.steps.statistics import compute_statistics
from pipelines.config import RunConfig
from pipelines.services import Services
from pipelines.workspace import Workspace
from schemas.acceptance import INGEST, MODEL
from schemas.digests import code_digest
from schemas.errors import ConfigurationError
from schemas.features import specify
from schemas.sources import SourceMapping
from schemas.versions import MODEL_NAME
from serving import rules

# Beam's newer default runner starts another process and copies every batch to it.
BEAM_ARGUMENTS = ("--direct_running_mode=in_memory",)
_TYPES = tfx.types.standard_artifacts


@dataclass(frozen=True)
class TrainingRun:
    """What one run of the pipeline is about.

    Attributes:
        source: name or path of the mapping, as the steps load it.
        mapping: that mapping.
        log: the transaction log: a file, a folder, or a list of files.
        digest: of the log, see `log_digest`.
        workspace: where artifacts, keys and reports are kept.
        services: where records are kept.
        config: the choices.
    """

    source: str
    mapping: SourceMapping
    log: Path
    digest: str
    workspace: Workspace
    services: Services
    config: RunConfig

    @property
    def pipeline_name(self) -> str:
        """One pipeline per source: champions and caches of different sources have nothing in common."""
        return f"fraud-{self.mapping.source}"


def build_pipeline(run: TrainingRun, until: str | None = None) -> tfx.dsl.Pipeline:
    """The pipeline of a run; with `until`, only the steps up to that one.

    Raises:
        ConfigurationError: there is no step of that name.
    """
    nodes = _nodes(run)
    if until is not None:
        nodes = _up_to(nodes, until)
    return tfx.dsl.Pipeline(
        pipeline_name=run.pipeline_name,
        pipeline_root=str(run.workspace.pipeline_root(run.pipeline_name)),
        components=nodes,
        enable_cache=True,
        beam_pipeline_args=list(BEAM_ARGUMENTS),
    )


def _up_to(nodes: list[BaseNode], until: str) -> list[BaseNode]:
    ids = [node.id for node in nodes]
    if until not in ids:
        raise ConfigurationError(f"there is no step {until!r}; steps are {', '.join(ids)}")
    return nodes[: ids.index(until) + 1]


def _nodes(run: TrainingRun) -> list[BaseNode]:
    """Every step in the order in which they run.

    Each carries a digest of the code that it runs: TFX's cache key knows the class of a step, not what it calls.
    """
    mapping, config = run.mapping, run.config
    spec = specify(mapping.provided)
    key = run.workspace.card_key() if mapping.card_id_is == "number" else None

    ingest = ingest_log(
        source=run.source,
        log=str(run.log),
        digest=run.digest,
        mapping_digest=mapping.digest,
        card_key_file=str(run.workspace.card_key_file) if key else "",
        card_key_version=key.version if key else 0,
        card_key_fingerprint=key.fingerprint if key else "",
        # Only those that a step may apply, because another one would run it again.
        acceptances=to_parameter([one for one in config.accept if one.check == INGEST]),
        code=code_digest(
            "components.gate",
            "components.ingest",
            "components.rows",
            "components.steps.ingest",
            "components.steps.rows",
            "components.steps.verdicts",
            "schemas.acceptance",
            "schemas.currency",
            "schemas.keys",
            "schemas.masking",
            "schemas.money",
            "schemas.sources",
            "schemas.tokens",
            "schemas.transaction",
        ),
    ).with_id("ingest")
    with tfx.dsl.Cond(_passed(ingest)):
        examples = build_examples(
            transactions=ingest.outputs["transactions"],
            spec=spec.to_json(),
            splits=to_parameter(config.splits),
            label_delay_s=mapping.label_delay_s,
            code=code_digest(
                "components.features",
                "components.examples",
                "components.rows",
                "components.splits",
                "components.steps.examples",
                "components.steps.rows",
                "components.volumes",
                "schemas.features",
                "schemas.transaction",
            ),
        ).with_id("examples")
        schema = curate_schema(
            feature_spec=examples.outputs["feature_spec"],
            code=code_digest("components.schema", "components.steps.schema", _packaged("fraud.pbtxt")),
        ).with_id("schema")
        statistics = compute_statistics(
            examples=examples.outputs["examples"],
            code=code_digest("components.statistics", "components.steps.statistics"),
        ).with_id("statistics")
        anomalies = tfx.components.ExampleValidator(
            statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
        ).with_id("anomalies")
        expectations = check_expectations(
            transactions=ingest.outputs["transactions"],
            examples=examples.outputs["examples"],
            feature_spec=examples.outputs["feature_spec"],
            source=run.source,
            mapping_digest=mapping.digest,
            sample_rows=config.expectation_sample_rows,
            code=code_digest(
                "components.expectations",
                "components.schema_update",
                "components.steps.expectations",
                "schemas.currency",
                "schemas.features",
                "schemas.transaction",
                _packaged("expectations"),
            ),
        ).with_id("expectations")
        champion = tfx.dsl.Resolver(
            strategy_class=ChampionStrategy,
            config={
                "tracking_uri": run.services.tracking_uri,
                "model_name": MODEL_NAME,
                "feature_spec_digest": spec.digest,
            },
            model=tfx.dsl.Channel(type=_TYPES.Model),
            statistics=tfx.dsl.Channel(type=_TYPES.ExampleStatistics),
            baseline=tfx.dsl.Channel(type=DriftBaseline),
        ).with_id("champion")
        drift = check_drift(
            examples=examples.outputs["examples"],
            feature_spec=examples.outputs["feature_spec"],
            statistics=statistics.outputs["statistics"],
            schema=schema.outputs["schema"],
            champion_statistics=champion.outputs["statistics"],
            champion_baseline=champion.outputs["baseline"],
            settings=to_parameter(config.drift),
            code=code_digest(
                "components.comparators",
                "components.distances",
                "components.drawing",
                "components.profiles",
                "components.statistics",
                "components.steps.drift",
                "components.watched",
            ),
        ).with_id("drift")
        gate = data_gate(
            anomalies=anomalies.outputs["anomalies"],
            expectation_result=expectations.outputs["result"],
            drift_result=drift.outputs["result"],
            acceptances=to_parameter([one for one in config.accept if one.check not in (INGEST, MODEL)]),
            code=code_digest(
                "components.gate", "components.steps.gate", "components.steps.verdicts", "schemas.acceptance"
            ),
        ).with_id("gate")
        with tfx.dsl.Cond(_passed(gate)):
            transform = tfx.components.Transform(
                examples=examples.outputs["examples"],
                schema=schema.outputs["schema"],
                preprocessing_fn="components.transform.preprocessing_fn",
                splits_config=tfx.proto.SplitsConfig(analyze=["train"], transform=["train"]),
                # The trainer applies the graph to whole row groups itself; TFX would write it out row by row.
                materialize=False,
                disable_statistics=not config.transform_statistics,
                disable_analyzer_cache=True,
                custom_config={"code": code_digest("components.analysis", "components.transform", "schemas.features")},
            ).with_id("transform")
            trainer = tfx.components.Trainer(
                run_fn="components.steps.train.run_fn",
                examples=examples.outputs["examples"],
                transform_graph=transform.outputs["transform_graph"],
                schema=schema.outputs["schema"],
                train_args=tfx.proto.TrainArgs(splits=["train"]),
                eval_args=tfx.proto.EvalArgs(splits=["validation"]),
                custom_config={
                    "spec": spec.to_json(),
                    "training": to_parameter(config.training),
                    "thresholds": to_parameter(config.thresholds),
                    "rules_digest": rules.load(config.rules).digest,
                    "code": code_digest(
                        "components.trainer",
                        "components.training",
                        "components.devices",
                        "components.model",
                        "components.examples",
                        "components.explanations",
                        "components.export",
                        "components.canonical",
                        "schemas.bundle",
                        "components.measures",
                        "components.thresholds",
                        "components.steps.train",
                    ),
                },
            ).with_id("trainer")
            baselines = train_baselines(
                examples=examples.outputs["examples"],
                transform_graph=transform.outputs["transform_graph"],
                spec=spec.to_json(),
                settings=to_parameter(config.baselines),
                code=code_digest(
                    "components.baselines", "components.examples", "components.steps.baselines", "components.trainer"
                ),
            ).with_id("baselines")
            evidence = gather_evidence(
                model=trainer.outputs["model"],
                model_run=trainer.outputs["model_run"],
                examples=examples.outputs["examples"],
                champion=champion.outputs["model"],
                baselines=baselines.outputs["baselines"],
                settings=to_parameter(config.evidence),
                code=code_digest(
                    "components.attributions",
                    "components.comparison",
                    "components.comparison_plots",
                    "components.drawing",
                    "components.evidence",
                    "components.footprint",
                    "components.gathering",
                    "components.measures",
                    "components.plots",
                    "components.scoring",
                    "components.slices",
                    "components.steps.evidence",
                    "components.thresholds",
                ),
            ).with_id("evidence")
            evaluator = tfx.components.Evaluator(
                examples=examples.outputs["examples"],
                model=trainer.outputs["model"],
                baseline_model=champion.outputs["model"],
                schema=schema.outputs["schema"],
                eval_config=eval_config(config.evaluation, spec),
                example_splits=["test"],
                module_path="components.evaluation",
            ).with_id("evaluator")
            # Evaluator has no parameter of its own for it; any execution property is part of the cache key.
            evaluator.exec_properties["code"] = code_digest("components.evaluation")
            with tfx.dsl.Cond(evaluator.outputs["blessing"].future()[0].custom_property("blessed") == 1):
                model_gate = judge_model(
                    evidence=evidence.outputs["evidence"],
                    bounds=to_parameter(config.model_gate),
                    acceptances=to_parameter([one for one in config.accept if one.check == MODEL]),
                    code=code_digest(
                        "components.gate",
                        "components.model_gate",
                        "components.steps.model_gate",
                        "components.steps.verdicts",
                        "schemas.acceptance",
                    ),
                ).with_id("model_gate")
                with tfx.dsl.Cond(_passed(model_gate)):
                    infra = validate_infra(
                        model=trainer.outputs["model"],
                        examples=examples.outputs["examples"],
                        settings=to_parameter(config.infra),
                        code=code_digest(
                            "components.examples",
                            "components.export",
                            "components.infra",
                            "components.model_server",
                            "components.scoring",
                            "components.steps.infra",
                            "components.steps.verdicts",
                            "components.tether",
                            "serving.model_server",
                        ),
                    ).with_id("infra")
                    with tfx.dsl.Cond(_passed(infra)):
                        registration = register_model(
                            model=trainer.outputs["model"],
                            blessing=evaluator.outputs["blessing"],
                            evaluation=evaluator.outputs["evaluation"],
                            evidence=evidence.outputs["evidence"],
                            statistics=statistics.outputs["statistics"],
                            schema=schema.outputs["schema"],
                            transactions=ingest.outputs["transactions"],
                            examples=examples.outputs["examples"],
                            ingest_verdict=ingest.outputs["verdict"],
                            verdict=gate.outputs["verdict"],
                            model_verdict=model_gate.outputs["verdict"],
                            infra_verdict=infra.outputs["verdict"],
                            expectation_result=expectations.outputs["result"],
                            drift_result=drift.outputs["result"],
                            baseline=drift.outputs["baseline"],
                            source=run.mapping.source,
                            label_delay_s=mapping.label_delay_s,
                            owner=config.owner,
                            model_name=MODEL_NAME,
                            tracking_uri=run.services.tracking_uri,
                            artifact_root=run.services.artifact_root or "",
                            training=to_parameter(config.training),
                            code_version=code_version(),
                            code=code_digest(
                                "components.gathering",
                                "components.registry",
                                "components.model_card",
                                "components.pages",
                                "components.rows",
                                "components.steps.register",
                            ),
                        ).with_id("registration")
    return [
        ingest, examples, schema, statistics, anomalies, expectations, champion, drift, gate,
        transform, trainer, baselines, evidence, evaluator, model_gate, infra, registration,
    ]  # fmt: skip


def _passed(step: BaseNode) -> tfx.dsl.Predicate:
    return step.outputs["verdict"].future()[0].property("passed") == 1


def _packaged(name: str) -> Path:
    return Path(str(resources.files("schemas") / name))


def code_version() -> str:
    """The release and the digest of the code that makes models: models of one version came from the same code."""
    return f"{version('fraudops')}+{code_digest('components', 'schemas')[:12]}"
