"""Stands for `fraudops` where a test is about Airflow alone: the same arguments and answers without a pipeline.

It keeps what it is asked in the folder of the pipeline's definition, or of the workspace:

    calls.jsonl          the nodes that ran: node, run_id, span
    broken/SPAN          days whose log the first gate refuses
    fail_once/NODE       taken away by the one try of that node that fails
    versions/V.json      what `models show V` answers
    history.json         what `rollout history` answers
"""

import argparse
import json
import sys
from pathlib import Path

PENDING = {"approval": "pending", "approval_by": "", "approval_reason": "", "approval_time": ""}
REASON = {"check": "ingest", "severity": "stop", "subject": "merchant_id", "message": "the log lacks merchant_id"}


def run_node(asked):
    folder = asked.pipeline.parent
    try:
        (folder / "fail_once" / asked.node).unlink()
    except FileNotFoundError:
        pass
    else:
        print("the first try of this node fails", file=sys.stderr)
        raise SystemExit(70)
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"node": asked.node, "run_id": asked.run_id, "span": asked.span}) + "\n")
    broken = asked.node == "ingest" and (folder / "broken" / asked.span).exists()
    version = None
    if asked.node == "registration":
        version = len(list((folder / "versions").iterdir())) + 1
        (folder / "versions" / f"{version}.json").write_text(json.dumps({"version": version, **PENDING}))
    return {
        "node": asked.node,
        "run_id": asked.run_id,
        "state": "ran",
        "passed": not broken if asked.node in ("ingest", "gate", "evaluator", "model_gate", "infra") else None,
        "reasons": [REASON] if broken else [],
        "model_version": version,
        "seconds": 0.1,
    }


parser = argparse.ArgumentParser()
verbs = parser.add_subparsers(required=True)
node = verbs.add_parser("node")
node.add_argument("run")
node.add_argument("--node", required=True)
report = verbs.add_parser("report")
for verb in (node, report):
    verb.add_argument("--pipeline", type=Path, required=True)
    verb.add_argument("--run-id", required=True)
    verb.add_argument("--span", required=True)
models = verbs.add_parser("models")
models.add_argument("show")
models.add_argument("version")
rollout = verbs.add_parser("rollout")
rollout.add_argument("history")
for verb in (models, rollout):
    verb.add_argument("--workspace", type=Path, required=True)
for verb in (node, report, models, rollout):
    verb.add_argument("--json", action="store_true", required=True)
node.set_defaults(answer=run_node)
report.set_defaults(answer=lambda asked: {"status": "passed"})
models.set_defaults(
    answer=lambda asked: json.loads((asked.workspace / "versions" / f"{asked.version}.json").read_text())
)
rollout.set_defaults(answer=lambda asked: json.loads((asked.workspace / "history.json").read_text()))
asked = parser.parse_args()
print(json.dumps(asked.answer(asked)))
# Airflow reads both streams as one: what comes last must not be taken for the answer.
print("a last word of some library's", file=sys.stderr)
