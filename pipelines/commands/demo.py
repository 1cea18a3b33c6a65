"""`fraudops demo`: the whole way on a simulated log, and where to look afterwards."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines import console
from pipelines.commands.run import table, train

CARDS, DAYS, SEED = 4_000, 60, 1


@click.command()
@console.workspace_option
@console.json_option
def command(workspace: Path) -> console.Reply:
    """Simulate some 430,000 transactions over 60 days, train on them, and register the model."""
    from rich.console import Group
    from rich.text import Text

    from components import simulator
    from pipelines.workspace import Workspace

    where = Workspace.at(workspace)
    log = where.root / "demo" / "transactions.parquet"
    log.parent.mkdir(exist_ok=True)
    console.say(f"simulating {CARDS:,} cards over {DAYS} days")
    simulated = simulator.simulate(CARDS, DAYS, SEED)
    simulator.write(simulated, log)
    frauds = simulator.frauds_by_kind(simulated)
    console.say(
        f"{simulated.num_rows:,} transactions, {sum(frauds.values()):,} of them frauds of {len(frauds)} kinds: {log}"
    )
    outcome = train("simulated", log, None, None, workspace)
    curves = where.pipeline_root("fraud-simulated") / "trainer" / "model_run"
    hints = (
        f"Open the report in a browser:  {outcome.report.as_uri()}",
        f"Look at the registry:          fraudops models list --workspace {workspace}",
        f"The same in MLflow's pages:    mlflow server --backend-store-uri {where.tracking_uri} --port 5000",
        f"Training curves:               tensorboard --logdir {curves}",
    )
    return console.Reply(
        outcome.fields() | {"frauds": frauds, "log": log, "mlflow": where.tracking_uri},
        # Commands are for copying: a line of them must not be broken.
        human=Group(table(outcome), "", *(Text(hint, no_wrap=True, overflow="ignore") for hint in hints)),
        passed=outcome.status == "passed",
    )
