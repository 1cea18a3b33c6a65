"""A gateway in a process of its own that waits as long as it takes, so that a slow machine changes no decision.

python -m tests.serving.gateway.process FOLDER STORE

STORE is `embedded`, a file in the folder, or what else `serving.features.address_of` takes.  It prints where it serves,
and does so until somebody ends it.  No model is served: the rules decide, and there are none.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from serving.decisions.log import DecisionLog
from serving.features import ProcessFeatureStore, address_of
from serving.gateway.door import Door
from serving.gateway.ports import Surroundings
from serving.gateway.server import Parts, serving
from serving.rollout.table import RolloutTable
from tests.serving.gateway.gateways import MAPPING, NO_RULES, PATIENT, SPEC

SURROUNDINGS = Surroundings(lambda: time.time_ns() // 1_000, time.monotonic, random.random, lambda: uuid.uuid4().hex)


def decisions(folder: Path) -> Path:
    """Where the decision log of such a gateway is."""
    return folder / "decisions.sqlite"


async def main(folder: Path, store: str) -> None:
    address = address_of(store, folder / "features.sqlite", MAPPING.source, None)
    with (
        closing(ProcessFeatureStore(address, SPEC)) as features,
        closing(DecisionLog(decisions(folder))) as log,
        closing(RolloutTable(folder / "rollout.sqlite")) as table,
    ):
        parts = Parts(Door(MAPPING, None), features, log, table, NO_RULES)
        async with serving(parts, replace(PATIENT, model_server="127.0.0.1:1"), SURROUNDINGS) as addresses:
            print(addresses.scoring, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
