"""The `fraudops` command: a table of verbs, each imported only when it is called."""

import importlib
import sys
from collections.abc import Sequence

import click

from pipelines import console

# verb -> (module that holds its click command as `command`, the line that `fraudops --help` shows).
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("pipelines.commands.demo", "Train three versions, roll them out, throw the bad one out."),
    "simulate": ("pipelines.commands.simulate", "Write a simulated transaction log."),
    "run": ("pipelines.commands.run", "Take a log through the pipeline to the registry."),
    "backtest": ("pipelines.commands.backtest", "Train at moments of the past, and score what came after."),
    "tune": ("pipelines.commands.tune", "Search settings to train with, on what was known at a moment."),
    "node": ("pipelines.commands.node", "Run a scheduled pipeline node by node."),
    "compile": ("pipelines.commands.compile", "Write what a scheduler needs to run a pipeline."),
    "features": ("pipelines.commands.features", "Compute the features of a log; compare two results."),
    "schema": ("pipelines.commands.schema", "Say what the curated schema would need for a log to pass."),
    "report": ("pipelines.commands.report", "Say where the report of the last run is, or write one."),
    "models": ("pipelines.commands.models", "Look at the registered versions; approve, reject or revoke one."),
    "rollout": ("pipelines.commands.rollout", "Watch a rollout; pause, resume or abort it."),
    "serve": ("pipelines.commands.serve", "Serve models over gRPC until stopped."),
    "up": ("pipelines.commands.up", "Start the whole embedded stack, supervised, and say where it is."),
    "down": ("pipelines.commands.down", "Stop the stack."),
    "score": ("pipelines.commands.score", "Ask a gateway to decide, on one transaction or on a log."),
    "bench": ("pipelines.commands.bench", "Measure how fast a part is beside its peers."),
    "doctor": ("pipelines.commands.doctor", "Say what is installed, missing or mismatched."),
}


class LazyGroup(click.Group):
    """A group that lists its verbs from a table and imports the module of the one that is called.

    Importing TensorFlow takes seconds, and `--help` has to answer at once.
    """

    def __init__(self, verbs: dict[str, tuple[str, str]], **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # click types its settings one by one
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the table, which is the order of use."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one verb, or None where there is no such verb."""
        if cmd_name not in self.verbs:
            return None
        module, _ = self.verbs[cmd_name]
        command: click.Command = importlib.import_module(module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of verbs from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in self.verbs.items()])


@click.command(
    cls=LazyGroup,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 a gate or check said no, 2 bad usage or input, 70 a bug, 130 interrupted.",
)
@click.version_option(package_name="fraudops")
def fraudops() -> None:
    """From a transaction log to an approved model that scores, and keeps being watched."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code; `args` defaults to those of the process."""
    return console.run(fraudops, sys.argv[1:] if args is None else list(args))


if __name__ == "__main__":
    sys.exit(main())
