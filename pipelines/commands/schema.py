"""`fraudops schema`: what the curated schema would have to say for a log to pass."""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from components.gate import Reason
    from components.schema_update import Change

# Of many new values people see so many; the object and the proposal have all.
_SHOWN = 40


@click.group()
def command() -> None:
    """Hold the curated schema beside a log."""


@command.command()
@click.option("--source", required=True, help="Name of the log's mapping, or the path of one (*.yaml).")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="The transaction log, a file or a folder.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the whole proposed schema to this file."
)
@console.workspace_option
@console.json_option
def diff(source: str, log: Path, out: Path | None, workspace: Path) -> console.Reply:
    """Propose what would let a log pass; exit 1 where the curated schema does not.

    Looks at the features of every good row of the log, labelled or not.  The curated schema stays as it is.
    """
    import pyarrow.parquet as pq

    from pipelines.quiet import quiet
    from pipelines.workspace import Workspace
    from schemas import sources
    from schemas.errors import LogError
    from schemas.features import specify

    began = time.monotonic()
    mapping = sources.load(source)
    spec = specify(mapping.provided)
    key = Workspace.at(workspace).card_key() if mapping.card_id_is == "number" else None
    with quiet():
        from components.features import build_feature_table
        from components.ingest import excess, ingest
        from components.schema import CURATED, curated_schema, curated_text, parse_schema
        from components.schema_update import Survey, text_diff, updated_text
        from components.schema_validation import feature_batches, feature_statistics, find_faults

        text = curated_text()
        console.say(f"reading {log}")
        result = ingest(log, mapping, key)
        if reason := excess(result.report, mapping):
            raise LogError(reason)
        with tempfile.TemporaryDirectory(prefix="schema.") as folder:
            transactions, features = Path(folder) / "transactions.parquet", Path(folder) / "features.parquet"
            pq.write_table(result.transactions, transactions)
            del result
            console.say(f"computing {len(spec.features)} features of all rows")
            build_feature_table(transactions, features, spec)
            survey = Survey(curated_schema(spec, parse_schema(text)), spec)
            for batch in feature_batches(features, spec):
                survey.add(batch)
            changes = survey.changes()
            proposed = updated_text(text, changes)
            schema = curated_schema(spec, parse_schema(proposed))
            console.say("validating them")
            faults = find_faults(feature_statistics(features, spec, schema), schema)
    difference = text_diff(text, proposed, f"schemas/{CURATED}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(proposed, encoding="utf-8")
    fields = {
        "rows": survey.rows,
        "changes": [{"kind": change.kind, **asdict(change)} for change in changes],
        "faults": [{"feature": fault.subject, "message": fault.message} for fault in faults],
        "diff": difference,
        "seconds": time.monotonic() - began,
    }
    return console.Reply(
        fields, human=_rendered(survey.rows, changes, faults, difference), passed=not changes and not faults
    )


def _rendered(rows: int, changes: "Sequence[Change]", faults: "Sequence[Reason]", difference: str) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not changes and not faults:
        return Text(f"{rows:,} rows pass the curated schema as it is")
    parts: list[RenderableType] = []
    if changes:
        asks = Table("feature", "asks for", "rows", box=None)
        for change in changes[:_SHOWN]:
            asks.add_row(change.feature, Text(change.wish), f"{change.rows:,} of {rows:,}")
        parts += [asks]
        if len(changes) > _SHOWN:
            parts.append(Text(f"and {len(changes) - _SHOWN:,} more"))
        parts += [Text("\nto accept, change the curated schema so (--out writes all of it):\n"), Text(difference)]
    if faults:
        parts.append(Text("no schema may let these pass; look at the log, its mapping or the declaration:"))
        parts += [Text(f"- {fault.message}") for fault in faults]
    return Group(*parts)
