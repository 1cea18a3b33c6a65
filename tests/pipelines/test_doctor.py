"""What the doctor finds."""

import json
from dataclasses import replace

from pipelines.cli import main
from pipelines.doctor import Diagnosis, Machine, Package, compare, locked_versions, requirement_names

MACHINE = Machine(
    cpus=2,
    gpus=0,
    memory_total=8 * 1024**3,
    memory_available=4 * 1024**3,
    disk_free=10 * 1024**3,
    workspace="workspace",
    workspace_writable=True,
    programs={"docker": None},
)
WELL = Diagnosis(python=(3, 11, 7), packages=(Package("click", "8.0", "8.0"),), machine=MACHINE)


def test_states_of_packages_are_told_apart():
    packages = compare(
        ["numpy", "click", "rich", "tfx"],
        installed={"numpy": "1.0", "click": "8.0", "rich": "15.0"},
        locked={"numpy": "2.4", "click": "8.0", "tfx": "1.21"},
    )
    assert {p.name: p.state for p in packages} == {
        "click": "ok",
        "numpy": "mismatched",
        "rich": "unlocked",
        "tfx": "missing",
    }


def test_a_machine_that_is_as_locked_has_no_problems():
    assert WELL.problems == ()


def test_a_mismatch_is_named_with_both_versions_and_what_to_do():
    (problem,) = replace(WELL, packages=(Package("numpy", "1.0", "2.4"),)).problems
    assert all(word in problem for word in ("numpy", "1.0", "2.4", "make install"))


def test_a_missing_package_is_named():
    (problem,) = replace(WELL, packages=(Package("numpy", None, "2.4"),)).problems
    assert "numpy is missing" in problem


def test_another_python_is_a_problem():
    (problem,) = replace(WELL, python=(3, 12, 1)).problems
    assert "3.12.1" in problem


def test_a_workspace_that_cannot_be_written_is_a_problem():
    (problem,) = replace(WELL, machine=replace(MACHINE, workspace_writable=False)).problems
    assert "workspace" in problem


def test_a_tensorflow_that_does_not_import_is_a_problem():
    (problem,) = replace(WELL, tensorflow_error="ImportError: libfoo.so.1").problems
    assert "libfoo.so.1" in problem


def test_optional_programs_are_no_problem():
    assert WELL.machine.programs == {"docker": None}
    assert WELL.problems == ()


def test_requirements_are_read_without_comments_markers_and_extras():
    lines = [
        "# why",
        "",
        "--pre",
        "Foo_Bar[x]>=1,<2  # note",
        'baz==1; python_version > "3"',
        'dev-only; extra == "dev"',
    ]
    assert requirement_names(lines) == ("foo-bar", "baz")
    assert requirement_names(lines, extras={"dev"}) == ("foo-bar", "baz", "dev-only")


def test_locked_versions_are_read_by_canonical_name():
    lines = ["# comment", "Foo.Bar[gcp]==2.4.6 \\", "    --hash=sha256:00", "    # via baz", "baz==1"]
    assert locked_versions(lines) == {"foo-bar": "2.4.6", "baz": "1"}


def test_the_command_tells_the_same_as_its_exit_code(capsys):
    code = main(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (1 if told["problems"] else 0)
    assert {"tensorflow", "ml-metadata", "pyfarmhash"} <= {package["name"] for package in told["packages"]}


def test_people_get_a_verdict(capsys):
    code = main(["doctor"])
    shown = capsys.readouterr().err
    assert ("all is well" in shown) == (code == 0)


def test_a_workspace_below_a_file_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--json", "--workspace", str(tmp_path / "file" / "workspace")]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["workspace"]["writable"] is False
