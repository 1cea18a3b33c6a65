"""The command line as a whole."""

import importlib.util
import subprocess
import sys

import pytest

from pipelines.cli import VERBS, main

HEAVY = ("tensorflow", "tfx", "apache_beam", "mlflow", "great_expectations", "pandas", "numpy", "pyarrow", "numba")


def test_help_lists_every_verb_with_its_line(capsys):
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # long lines are wrapped
    for verb, (_, line) in VERBS.items():
        assert f" {verb} {line}" in shown


def test_help_imports_no_verb_and_nothing_heavy():
    code = (
        "import sys; from pipelines.cli import main; main(['--help']); "
        "print(*sorted({name.split('.')[0] for name in sys.modules} | {n for n in sys.modules if 'commands' in n}), "
        "file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(ran.stderr.split())
    assert "pipelines" in imported
    assert not imported & {*HEAVY, *(module for module, _ in VERBS.values())}


@pytest.mark.parametrize("verb", VERBS)
def test_every_listed_verb_has_its_module(verb):
    module, line = VERBS[verb]
    assert importlib.util.find_spec(module) is not None
    assert line.endswith(".")


def test_an_unknown_verb_is_bad_usage(capsys):
    assert main(["no-such-verb"]) == 2
    assert "no-such-verb" in capsys.readouterr().err


def test_the_version_is_that_of_the_distribution(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip().endswith("0.1.0")


def test_the_installed_command_answers():
    ran = subprocess.run([sys.executable, "-m", "pipelines.cli", "--help"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Usage: fraudops ")
