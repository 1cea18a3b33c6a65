"""Run by Airflow's own Python: prints what a DAG file holds, and what its functions answer.

Standard input: `{"dag_file": PATH, "calls": [[FUNCTION, KEYWORDS], ...]}`.
"""

import json
import runpy
import sys
from datetime import datetime
from types import SimpleNamespace


def dag_run(fields):
    """A DAG run with the fields that functions look at."""
    end, after = fields.pop("data_interval_end"), datetime.fromisoformat(fields.pop("run_after"))
    return SimpleNamespace(**fields, data_interval_end=end and datetime.fromisoformat(end), run_after=after)


def answer(function, keywords):
    if "dag_run" in keywords:
        keywords["dag_run"] = dag_run(keywords["dag_run"])
    try:
        return {"returned": function(**keywords)}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def task_fields(task):
    return {
        "type": type(task).__name__,
        "upstream": sorted(task.upstream_task_ids),
        "retries": task.retries,
        "retry_delay_s": task.retry_delay.total_seconds(),
        "timeout_s": task.execution_timeout and task.execution_timeout.total_seconds(),
        "trigger_rule": task.trigger_rule.value,
        "script": getattr(task, "bash_command", None) or getattr(task, "arguments", [None])[0],
        "pod": getattr(task, "pod_template_dict", None),
    }


asked = json.load(sys.stdin)
module = SimpleNamespace(**runpy.run_path(asked["dag_file"]))
dags = {name: value for name, value in vars(module).items() if type(value).__name__ == "DAG"}
for dag in dags.values():
    dag.validate()
    dag.resolve_template_files()  # as Airflow does with every DAG that it reads
found = {
    "dags": {
        name: {
            "max_active_runs": dag.max_active_runs,
            "catchup": dag.catchup,
            "start": dag.start_date and dag.start_date.isoformat(),
            "tasks": {task.task_id: task_fields(task) for task in dag.tasks},
        }
        for name, dag in dags.items()
    },
    "calls": [answer(getattr(module, function), keywords) for function, keywords in asked["calls"]],
}
print(json.dumps(found))
