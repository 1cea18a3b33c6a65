"""The MLflow server of `fraudops up`, as its supervisor starts it: `python -m pipelines.tracking OPTION...`.

`mlflow server` serves from a child process.  When it is killed, the child lives on and holds the port, and no server
that is started in its place could listen.  So what a killed one left behind is ended first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pipelines.supervision import end, left_behind


def main(options: Sequence[str]) -> None:
    """Becomes `mlflow server` with these options."""
    end(left_behind(os.getpid()))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "mlflow", "server", *options])


if __name__ == "__main__":
    main(sys.argv[1:])
