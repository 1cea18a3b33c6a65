"""The DAG file stands alone: Airflow's environment has nothing of this project."""

import ast
import sys
from pathlib import Path

DAG_FILE = Path(__file__).parents[3] / "pipelines" / "airflow" / "dags.py"


def test_the_dag_file_imports_airflow_and_the_standard_library_alone() -> None:
    tree = ast.parse(DAG_FILE.read_text(encoding="utf-8"), feature_version=(3, 11))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or "."] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert "airflow" in imported
    assert imported - {"airflow"} <= sys.stdlib_module_names


def test_airflow_looks_into_the_dag_file() -> None:
    # It skips files that hold not both words.
    text = DAG_FILE.read_bytes().lower()
    assert b"dag" in text and b"airflow" in text
