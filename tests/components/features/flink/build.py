"""Builds a feature table in a process of its own: `python -m tests.components.features.flink.build LOG OUT OPTION...`.

Beam starts a job server for the whole life of a process, and sets signal handlers in it.
"""

import sys
from pathlib import Path

from components.features import build_feature_table
from schemas.features import specify
from schemas.transaction import COLUMN

# Near to what all rows are: in one piece, they would be too large for a buffer of Flink's.
PARTITION_ROWS = 42_000

if __name__ == "__main__":
    log, out, *beam_args = sys.argv[1:]
    build_feature_table(Path(log), Path(out), specify(COLUMN), ("is_fraud",), beam_args, PARTITION_ROWS)
