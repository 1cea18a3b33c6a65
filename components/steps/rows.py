"""How the numbers of a step's rows are written into ML Metadata."""

from tfx.types.artifact import Artifact

from components.rows import RowFlow


def write_rows(artifact: Artifact, flow: RowFlow) -> None:
    """Keeps them as custom properties: `rows_in`, and `rows_train` and so on for each place that rows went to."""
    artifact.set_int_custom_property("rows_in", flow.rows_in)
    for name, rows in flow.rows_out.items():
        artifact.set_int_custom_property(f"rows_{name}", rows)
