"""`fraudops demo`: the whole way, from a simulated log to a bad model that live traffic throws out."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from pipelines import console
from pipelines.commands.rollout import event_line
from pipelines.commands.run import table as steps_table
from pipelines.commands.run import train

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from rich.console import RenderableType

    from pipelines.demo.findings import Findings
    from pipelines.demo.stage import Child
    from pipelines.run import Outcome
    from pipelines.workspace import Workspace
    from serving.rollout.situation import Event

# Transactions per second; two processors carry them while they train.
_RATE = 150
# What a rollout may take on a machine that is slow and busy.
_ROLLOUT_S = 600.0


@click.command()
@click.option("--training-only", is_flag=True, help="End when the first version is registered; nothing is served.")
@console.workspace_option
@console.json_option
def command(training_only: bool, workspace: Path) -> console.Reply:
    """Train three versions on a simulated bank, and roll them out under live traffic.

    The first decides once it has been watched in shadow, and the second, a retrained one, after a canary.  The third
    has learnt from a warehouse's copy of the log, which lacks the small payments that nobody disputed.  The data's gate
    lets it through, and somebody accepts what the model's gate may say; online it would block many times as many
    payments, and is rolled back.

    What was done in the workspace before is not done again.  Exit code 1: something did not end as it should.
    """
    from components import simulator
    from pipelines.demo import logs
    from pipelines.demo.settings import QUICK
    from pipelines.demo.stage import stoppable
    from pipelines.workspace import Workspace

    where = Workspace.at(workspace)
    folder = where.root / "demo"
    folder.mkdir(exist_ok=True)
    with stoppable(), ExitStack() as running:
        console.say(f"simulating {logs.CARDS:,} cards over {logs.DAYS} days")
        past, log = logs.training_log(folder)
        frauds = simulator.frauds_by_kind(log)
        console.say(
            f"{log.num_rows:,} transactions, {sum(frauds.values()):,} of them frauds of {len(frauds)} kinds: {past}"
        )
        try:
            # Beside the training, which leaves a processor idle now and then.
            loading = None if training_only else _start_loading(running, where, past)
            first = _trained(folder, "first", past, QUICK, workspace)
            fields = first | {"frauds": frauds, "log": past, "mlflow": where.tracking_uri}
            if training_only:
                return console.Reply(fields, _hints(first, where, workspace))
            if loading is not None:
                loading.wait()
            found = _served(running, where, workspace, first, past, log)
        except _RefusedByGate as refused:
            return console.Reply(refused.outcome.fields(), passed=False)
        return console.Reply(fields | found.fields(), _page(found, _hints(first, where, workspace)), found.passed)


class _RefusedByGate(Exception):
    """A gate said no, so that the play cannot go on."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.status)
        self.outcome = outcome


def _start_loading(running: ExitStack, where: Workspace, past: Path) -> Child | None:
    """Begins to warm the feature store, in a process of its own; nothing where it is warm already."""
    from pipelines.demo.logs import SOURCE
    from pipelines.demo.stage import child

    if where.feature_store(SOURCE).exists():
        return None
    words = past.with_name("features-load.txt")
    return running.enter_context(
        child(words, "features", "load", "--source", SOURCE, "--log", str(past), "--workspace", str(where.root))
    )


def _trained(folder: Path, name: str, log: Path, settings: Mapping[str, Any], workspace: Path) -> dict[str, Any]:
    """What a run of the pipeline replied that has registered a version: now, or in an earlier demonstration.

    Raises:
        _RefusedByGate: it has registered none.
    """
    from pipelines.demo.logs import SOURCE
    from pipelines.demo.settings import write_settings

    kept = folder / f"{name}.json"
    if kept.exists():
        console.say(f"the {name} version is there already; remove {folder.parent} to begin anew")
    else:
        config = write_settings(kept.with_suffix(".yaml"), settings)
        outcome = train(SOURCE, log, None, config, workspace)
        console.stderr().print(steps_table(outcome), crop=False)
        if outcome.status != "passed":
            raise _RefusedByGate(outcome)
        fresh = kept.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(outcome.fields(), default=str, option=orjson.OPT_SERIALIZE_NUMPY))
        os.replace(fresh, kept)
    fields: dict[str, Any] = orjson.loads(kept.read_bytes())
    return fields


def _served(
    running: ExitStack, where: Workspace, workspace: Path, first: dict[str, Any], past: Path, log: pa.Table
) -> Findings:
    """Rolls the three versions out, the second and third of which are trained meanwhile."""
    from pipelines.demo import findings, logs, stage
    from pipelines.demo.settings import RETRAINED, SKEWED, write_policy
    from pipelines.registry import MlflowRegistry
    from schemas.versions import CHAMPION
    from serving.decisions.log import DecisionLog
    from serving.rollout.table import RolloutTable

    folder = past.parent
    policy = write_policy(folder / "policy.yaml")
    console.say("starting MLflow, model server, controller and gateway")
    addresses = running.enter_context(stage.stack(where, logs.SOURCE, policy, console.say))
    earlier = sorted(folder.glob("answers-*.jsonl"))
    live, answers = folder / "live.parquet", folder / f"answers-{len(earlier) + 1:02}.jsonl"
    logs.live_log(
        live, [answer["transaction_id"] for answer in findings.read_answers(earlier) if answer["error"] is None]
    )
    console.say(f"{_RATE} transactions a second go to the gateway at {addresses['gateway']}: {live}")
    traffic = running.enter_context(
        stage.child(
            folder / "score.txt",
            *("score", "--target", addresses["gateway"], "--log", str(live), "--source", logs.SOURCE),
            *("--rate", str(_RATE), "--labels", "--timeout", "30", "--out", str(answers)),
        )
    )
    table = running.enter_context(closing(RolloutTable(where.rollout)))
    decisions = running.enter_context(closing(DecisionLog(where.decisions)))

    with stage.narrated(table, lambda event: console.say(f"  {event_line(_in_short(event))}")):
        good = [int(first["model_version"])]
        _approve(where, good[0], "finds most of the frauds, and the rules alone do not")
        # Each version is trained while the one before it is rolled out.
        good.append(int(_trained(folder, "retrained", past, RETRAINED, workspace)["model_version"]))
        stage.wait_for_end(table, good[0], traffic, _ROLLOUT_S)
        _approve(where, good[1], "as good as the first, and trained anew")
        warehouse = logs.warehouse_copy(past, log)
        skewed = int(_trained(folder, "skewed", warehouse, SKEWED, workspace)["model_version"])
        stage.wait_for_end(table, good[1], traffic, _ROLLOUT_S)
        _approve(where, skewed, "finds more than the others, offline")
        stage.wait_for_end(table, skewed, traffic, _ROLLOUT_S)
    traffic.end()
    versions = MlflowRegistry(where.tracking_uri).versions()
    champion = next((one.version for one in versions if CHAMPION in one.aliases), None)
    return findings.gather(table, decisions, sorted(folder.glob("answers-*.jsonl")), champion, good, skewed)


def _approve(where: Workspace, version: int, reason: str) -> None:
    from pipelines.demo.stage import approve

    console.say(f"approving version {version}: {reason}")
    approve(where, version, reason)


def _page(found: Findings, hints: RenderableType) -> RenderableType:
    """What people see at the end."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def table(*columns: str) -> Table:
        return Table(*columns, box=None, pad_edge=False)

    history = table("UTC", "version", "state", "canary", "reason")
    for event in map(_in_short, found.history):
        time = datetime.fromtimestamp(event.time_us / 1_000_000, UTC)
        version, weight = str(event.version or "-"), f"{event.weight:.0%}"
        history.add_row(f"{time:%H:%M:%S}", version, event.state, weight, Text(event.reason))
    shares = table("version", "weight", "transactions", "of them canary", "cards", "of them canary")
    for share in found.shares:
        shares.add_row(
            str(share.version),
            f"{share.weight:.0%}",
            f"{share.decisions:,}",
            f"{share.of_decisions:.1%}",
            f"{share.cards:,}",
            f"{share.of_cards:.1%}",
        )
    asides = table("version", "asked", "would block", "share", "blocked by what decided", "share", "ratio")
    for aside in found.asides:
        asides.add_row(
            str(aside.version),
            f"{aside.asked:,}",
            f"{aside.blocks:,}",
            _share(aside.blocks, aside.asked),
            f"{aside.decided_blocks:,}",
            _share(aside.decided_blocks, aside.asked),
            "-" if aside.ratio is None else f"{aside.ratio:.1f}",
        )
    outcomes = table("arm", "version", "outcome", "degraded", "decisions")
    for one in found.outcomes:
        version = "rules alone" if one.version is None else str(one.version)
        outcomes.add_row(one.arm.name.lower(), version, one.outcome.name, one.cause, f"{one.decisions:,}")
    checks = table("", "what has to hold")
    for check in found.checks:
        checks.add_row(Text("yes", "green") if check.holds else Text("NO", "bold red"), Text(check.expected))
    parts: list[RenderableType] = []
    for title, content in (
        ("Rollouts", history),
        ("Canary steps: shares measured from the decision log", shares),
        ("In shadow: what a version would have blocked, on transactions that another decided", asides),
        ("Decisions", outcomes),
        (f"{found.calls.made:,} calls, {sum(found.calls.errors.values()):,} failed", checks),
    ):
        parts += [Text(title, style="bold"), content, Text()]
    return Group(*parts, hints)


def _in_short(event: Event) -> Event:
    """An event with the first of its reasons; `fraudops rollout history` shows all."""
    return replace(event, reason=event.reason.partition("; ")[0])


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def _hints(first: dict[str, Any], where: Workspace, workspace: Path) -> RenderableType:
    """Where to look afterwards."""
    from rich.console import Group
    from rich.text import Text

    from pipelines.demo.logs import SOURCE

    curves = where.pipeline_root(f"fraud-{SOURCE}") / "trainer" / "model_run"
    hints = (
        f"Open the first report in a browser:  {Path(first['report']).as_uri()}",
        f"Look at the registry:                fraudops models list --workspace {workspace}",
        f"How it was rolled out:               fraudops rollout history --workspace {workspace}",
        f"Serve it again, MLflow's pages too:  fraudops up --source {SOURCE} --workspace {workspace}",
        f"Training curves:                     tensorboard --logdir {curves}",
    )
    # Commands are for copying: a line of them must not be broken.
    return Group(*(Text(hint, no_wrap=True, overflow="ignore") for hint in hints))
