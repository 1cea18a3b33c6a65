"""The data plane: from a CSV file to statistics, schema, anomalies and a transform graph, by stock TFX and by ours.

All sides begin with the same rows in a CSV file, read it, and run below TFX's launcher over an ML Metadata store of
their own, with Beam's runner in the process; each in a process of its own, whose imports do not count.

tfx: CsvExampleGen, StatisticsGen, SchemaGen, ExampleValidator and Transform with their defaults, so that rows travel as
    gzipped `tf.Example` records, and Transform writes transformed rows and statistics before and behind it, too.
ours: ingest (which also converts amounts, and looks for repeated and bad rows), columnar examples, and the training
    pipeline's statistics and analyzers over the same columns; schema, anomalies and transform graph by the same
    components.  Transform has the settings of the training pipeline: it makes the graph, which the trainer applies to
    whole row groups.
declaration: the training pipeline up to its Transform, with all declared features of windows and labels, its curated
    schema, its own `preprocessing_fn`, expectations, drift and the gate.  Its warm-up days and the rows whose labels
    come too late for their split feed windows alone, as in every run.

Stock TFX's file lacks `transaction_id` and `label_time`, which ours reads besides.  Every other column comes to both
statistics: the time as text there, as seconds of the week here, where the amount in the base currency is one more.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow import csv

from components import simulator
from components.ingest import log_digest
from components.splits import SplitConfig
from pipelines.benchmarks.comparison import Contest, Result, Timing
from pipelines.benchmarks.logs import SEED, SPAN_DAYS, cards_for, simulated
from pipelines.benchmarks.own_process import in_own_process, peak_mib
from pipelines.quiet import quiet
from pipelines.services import MetadataAddress, Services
from pipelines.workspace import Workspace
from schemas import sources
from schemas.errors import BenchmarkError
from schemas.features import FeatureSpec, RowInput, specify

if TYPE_CHECKING:
    from tfx.dsl.components.base.base_node import BaseNode

    from pipelines.runner import CompiledRun

GOAL = "10 times as fast as tfx at 1,000,000 rows; 10,000,000 rows of ours below 6 GiB"
SOURCE = "simulated"
# What stock TFX's components get nothing of.
_OURS_ALONE = ("transaction_id", "label_time")
_NUMBERS = ("amount_minor", "latitude", "longitude")
_WORDS = ("currency", "merchant_category", "channel", "city", "country")
# Profiled, as all columns are; what names somebody is nothing that a model reads.
_IDS = ("card_id", "merchant_id", "device_id", "ip")
# As numbers too, in place of a text that holds the time.
_OUR_NUMBERS = ("amount_base_minor", "second_of_week")


@dataclass(frozen=True)
class Plane:
    """What one side took.

    Attributes:
        side: `tfx`, `ours` or `declaration`.
        rows: of the file.
        columns: of the examples, the label among them; a vector is one.
        profiled_rows: that statistics were made of.
        amount: in minor units of all currencies, the sum over these rows; None without that column.
        seconds: from the file to the transform graph.
        steps: seconds by step.
        peaks_mib: by step, the largest resident set that its process had had when the step began; TensorFlow included.
        peak_mib: the same at the end.
    """

    side: str
    rows: int
    columns: int
    profiled_rows: int
    amount: float | None
    seconds: float
    steps: Mapping[str, float]
    peaks_mib: Mapping[str, float]
    peak_mib: float


@dataclass(frozen=True)
class DataPlaneResult(Result):
    """The contest, and what each side took."""

    planes: tuple[Plane, ...] = ()

    def fields(self) -> dict[str, object]:
        """As `Result`, with `planes`."""
        return super().fields() | {"planes": [asdict(plane) for plane in self.planes]}


def benchmark(
    rows: int, with_tfx: bool, with_declaration: bool, folder: Path, say: Callable[[str], None]
) -> DataPlaneResult:
    """Times each side once, from a simulated log to its transform graph.

    Args:
        rows: to simulate, about.
        with_tfx: time stock TFX, too.
        with_declaration: time the training pipeline up to its Transform, too.
        folder: an empty one, for logs and whatever the sides write.
        say: is told what is being done.

    Raises:
        BenchmarkError: a side lost rows, or its process was killed.
    """
    say(f"simulating about {rows:,} transactions")
    made = in_own_process("the simulator", _simulate, rows, folder)
    chosen = {"ours": True, "tfx": with_tfx, "declaration": with_declaration}
    planes = {}
    for side in (side for side, wanted in chosen.items() if wanted):
        say(f"running {side} on {made:,} transactions")
        planes[side] = in_own_process(side, _SIDES[side], made, folder)
    check(planes)
    tfx_timing = {"tfx": _timing(planes["tfx"])} if with_tfx else {}
    further = {"declaration": Contest(_timing(planes["declaration"]), tfx_timing)} if with_declaration else {}
    return DataPlaneResult(
        "dataplane",
        Contest(_timing(planes["ours"]), tfx_timing),
        GOAL,
        file_reading=True,
        further=further,
        facts={"peak_mib": planes["ours"].peak_mib},
        planes=tuple(planes.values()),
    )


def check(planes: Mapping[str, Plane]) -> None:
    """Checks that stock TFX and ours have profiled every row of the same data.

    Raises:
        BenchmarkError: one of them has not.
    """
    compared = [planes[side] for side in ("tfx", "ours") if side in planes]
    for plane in compared:
        if plane.profiled_rows != plane.rows:
            raise BenchmarkError(
                f"{plane.side} made statistics of {plane.profiled_rows:,} of {plane.rows:,} rows; times of different "
                "work cannot be compared"
            )
    theirs, ours = compared[0], compared[-1]
    if ours.columns < theirs.columns or not math.isclose(ours.amount or 0, theirs.amount or 0, rel_tol=1e-6):
        raise BenchmarkError(
            f"ours profiled {ours.columns} columns with amounts of {ours.amount}, tfx {theirs.columns} with "
            f"{theirs.amount}; times of different work cannot be compared"
        )


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """Standardised numbers, and ids of words in a vocabulary; TFT's own analyzers, for stock TFX.

    Args:
        inputs: `[batch]`, `[batch, 1]` or sparse, by column.
    """
    import tensorflow_transform as tft

    numbers, words = _dense(inputs)
    # Packed, because Beam takes longer to plan an analysis of each than to make it.
    outputs = {"numbers": tft.scale_to_z_score(numbers, elementwise=True)}
    for name, values in words.items():
        outputs[name] = tft.compute_and_apply_vocabulary(values, vocab_filename=name)
    return outputs


def our_preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same outputs by the analyzers of the training pipeline.

    Args:
        inputs: `[batch]`, `[batch, 1]` or sparse, by column.
    """
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.analysis import moments, vocabularies

    numbers, words = _dense(inputs)
    mean, deviation = moments(numbers)
    outputs = {"numbers": (numbers - tf.cast(mean, tf.float32)) / tf.cast(deviation, tf.float32)}
    # As many as there are: TFT's own vocabularies keep all by default.
    for name, file in vocabularies(words, sys.maxsize).items():
        outputs[name] = tft.apply_vocabulary(words[name], file)
    return outputs


def _dense(inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """All numbers as one float32 tensor `[batch, N]`, and words `[batch]` by column."""
    import tensorflow as tf

    def dense(values: Any, default: Any) -> tf.Tensor:
        if isinstance(values, tf.SparseTensor):
            values = tf.sparse.to_dense(tf.sparse.reset_shape(values, [values.dense_shape[0], 1]), default)
        return tf.reshape(values, [-1])

    numbers = [tf.cast(dense(inputs[name], 0), tf.float32) for name in (*_NUMBERS, *_OUR_NUMBERS) if name in inputs]
    return tf.stack(numbers, axis=1), {name: dense(inputs[name], "") for name in _WORDS}


def log_columns() -> FeatureSpec:
    """A declaration that hands all columns of the simulated log to the statistics, and computes no feature."""
    columns = (*_NUMBERS, *_OUR_NUMBERS, *_WORDS, *_IDS)
    return specify(sources.load(SOURCE).provided, (), tuple(map(RowInput, columns)))


def _simulate(rows: int, folder: Path) -> int:
    """Writes the log for ours and, in a folder of its own, for stock TFX; returns how many rows it has."""
    log = simulator.simulate(cards_for(rows), SPAN_DAYS, SEED)
    unused = sources.load(SOURCE).unused
    simulator.write(log.drop_columns(list(unused)), _log(folder))
    _stock_log(folder).parent.mkdir()
    with _stock_log(folder).open("wb") as file:
        stock = log.drop_columns([*unused, *_OURS_ALONE])
        # CsvExampleGen takes the quotes that Arrow puts around names for a part of them.
        file.write(",".join(stock.column_names).encode() + b"\n")
        csv.write_csv(stock, file, csv.WriteOptions(include_header=False))
    return int(log.num_rows)


def _log(folder: Path) -> Path:
    return folder / "log.csv"


def _stock_log(folder: Path) -> Path:
    return folder / "stock" / "log.csv"


def _run_tfx(rows: int, folder: Path) -> Plane:
    with quiet():
        from tfx import v1 as tfx

        examples = tfx.components.CsvExampleGen(input_base=str(_stock_log(folder).parent)).with_id("examples")
        statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"]).with_id("statistics")
        return _timed("tfx", rows, folder, _nodes(examples, statistics, preprocessing_fn))


def _run_ours(rows: int, folder: Path) -> Plane:
    with quiet():
        from tfx import v1 as tfx

        from components.steps.examples import build_examples
        from components.steps.ingest import ingest_log
        from components.steps.parameters import to_parameter
        from components.steps.statistics import compute_statistics

        ingest = ingest_log(
            source=SOURCE,
            log=str(_log(folder)),
            digest=log_digest(_log(folder)),
            mapping_digest="",
            card_key_file="",
            card_key_version=0,
            card_key_fingerprint="",
            acceptances=to_parameter([]),
            code="",
        ).with_id("ingest")
        examples = build_examples(
            transactions=ingest.outputs["transactions"],
            spec=log_columns().to_json(),
            # Every row falls into a split, and two thirds are analysed, as of stock TFX's.
            splits=to_parameter(SplitConfig(warm_up_s=0, validation_share=1 / 6, test_share=1 / 6)),
            label_delay_s=0,
            code="",
        ).with_id("examples")
        # As in the training pipeline.
        settings = {
            "splits_config": tfx.proto.SplitsConfig(analyze=["train"], transform=["train"]),
            "materialize": False,
            "disable_statistics": True,
            "disable_analyzer_cache": True,
        }
        statistics = compute_statistics(examples=examples.outputs["examples"], code="").with_id("statistics")
        return _timed("ours", rows, folder, [ingest, *_nodes(examples, statistics, our_preprocessing_fn, **settings)])


def _run_declaration(rows: int, folder: Path) -> Plane:
    with quiet():
        from components.features import compute_features
        from pipelines.config import RunConfig
        from pipelines.runner import CompiledRun
        from pipelines.training import TrainingRun, build_pipeline

        mapping = sources.load(SOURCE)
        # Compiles the kernels, or reads them from their cache, before the clock runs.
        compute_features(simulated(1)[0], specify(mapping.provided))
        workspace = Workspace.at(folder / "declaration")
        run = TrainingRun(
            SOURCE,
            mapping,
            _log(folder),
            log_digest(_log(folder)),
            workspace,
            Services.embedded(workspace),
            RunConfig(),
        )
        compiled = CompiledRun.of(build_pipeline(run, "transform"), "bench")
        return _measured("declaration", rows, compiled, Services.embedded(workspace).metadata)


def _nodes(
    examples: BaseNode, statistics: BaseNode, preprocessing_fn: Callable[..., Any], **transform: Any
) -> list[BaseNode]:
    """What follows examples and statistics on both sides: schema, anomalies and the transform graph."""
    from tfx import v1 as tfx

    of_statistics = statistics.outputs["statistics"]
    schema = tfx.components.SchemaGen(statistics=of_statistics).with_id("schema")
    anomalies = tfx.components.ExampleValidator(statistics=of_statistics, schema=schema.outputs["schema"]).with_id(
        "anomalies"
    )
    graph = tfx.components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{__name__}.{preprocessing_fn.__name__}",
        **transform,
    ).with_id("transform")
    return [examples, statistics, schema, anomalies, graph]


def _timed(side: str, rows: int, folder: Path, nodes: Sequence[BaseNode]) -> Plane:
    from tfx import v1 as tfx

    from pipelines.runner import CompiledRun
    from pipelines.training import BEAM_ARGUMENTS

    root = folder / side
    root.mkdir()
    pipeline = tfx.dsl.Pipeline(side, str(root), components=list(nodes), beam_pipeline_args=list(BEAM_ARGUMENTS))
    metadata = MetadataAddress(f"sqlite://{root / 'metadata.sqlite'}")
    return _measured(side, rows, CompiledRun.of(pipeline, "bench"), metadata)


def _measured(side: str, rows: int, run: CompiledRun, metadata: MetadataAddress) -> Plane:
    from components.statistics import load_statistics
    from pipelines.runner import run_all

    peaks_mib: dict[str, float] = {}
    began = time.perf_counter()
    steps = run_all(run, metadata.connection(), lambda step: peaks_mib.update({step: peak_mib()}))
    seconds = time.perf_counter() - began
    if skipped := [step.name for step in steps.values() if step.state == "skipped"]:
        raise BenchmarkError(f"{side} did not come to {', '.join(skipped)}, because a gate said no; take more rows")
    files = sorted(steps["statistics"].outputs["statistics"].glob("Split-*/FeatureStats.pb"))
    splits = [load_statistics(file) for file in files]
    amounts = [
        feature.num_stats.mean * feature.num_stats.common_stats.num_non_missing
        for split in splits
        for feature in split.features
        if feature.path.step == ["amount_minor"]
    ]
    return Plane(
        side,
        rows,
        columns=len(splits[0].features),
        profiled_rows=sum(split.num_examples for split in splits),
        amount=sum(amounts) if amounts else None,
        seconds=seconds,
        steps={step.name: step.seconds for step in steps.values()},
        peaks_mib=peaks_mib,
        peak_mib=peak_mib(),
    )


_SIDES: Mapping[str, Callable[[int, Path], Plane]] = {
    "ours": _run_ours,
    "tfx": _run_tfx,
    "declaration": _run_declaration,
}


def _timing(plane: Plane) -> Timing:
    return Timing(plane.rows, plane.seconds, (plane.seconds,))
