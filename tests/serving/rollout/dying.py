"""Kills the controller's process at every edge of a rollout, and lets another one go on.

`python -m tests.serving.rollout.dying PLAY FOLDER` plays a rollout undisturbed and counts its acts: what is written
down, what model servers and registry are told, and every rename and removal of files.  Then, for each of them, it plays
the rollout again in a process that sends itself SIGKILL right before that act, and lets a second process play on.  What
is right after an act is right before the next one, and the second process meets it there.

Prints one JSON object: `acts` as the undisturbed rollout counted them, and `differences`, by act, from how that ended.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from serving.rollout.policy import CanaryStep, Step
from serving.rollout.situation import State
from tests.serving.rollout.scene import POLICY, Scene, shadow_tally, tally

_POLICY = replace(
    POLICY,
    shadow=Step(min_decisions=100, min_seconds=1),
    canary=(
        CanaryStep(weight=0.1, min_decisions=100, min_seconds=1),
        CanaryStep(weight=0.5, min_decisions=100, min_seconds=1),
    ),
)
_ACTS = frozenset({"advance", "apply", "set_alias", "remove_alias", "download", "place", "remove"})
_SECONDS = 60


class Acts:
    """Counts acts, and dies before one of them.

    Args:
        fatal: the number of that act, from 1; 0 for none.
    """

    def __init__(self, fatal: int) -> None:
        self._fatal = fatal
        self.names: list[str] = []

    def before(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            self.before(name)
            return function(*args, **kwargs)

        return act

    def port(self, port: Any) -> Any:
        return _Port(port, self)


class _Port:
    def __init__(self, port: Any, acts: Acts) -> None:
        self._port = port
        self._acts = acts

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._acts.counted(name, found) if name in _ACTS else found


def first(scene: Scene) -> bool:
    """The first version is promoted."""
    scene.evidence.shadow = shadow_tally(stable=False)
    _approve_once(scene, 1)
    return _is(scene, 1, State.PROMOTED)


def promoted(scene: Scene) -> bool:
    """The second version is promoted."""
    _approve_once(scene, 2)
    return _is(scene, 2, State.PROMOTED)


def rolled_back(scene: Scene) -> bool:
    """The second version blocks too much, and a third that has waited is promoted."""
    _approve_once(scene, 2)
    rollout = scene.table.situation().rollout
    assert rollout is not None
    if rollout.version == 2:
        scene.evidence.canary = tally(blocked=300)
        if rollout.state in (State.SHADOW, State.CANARY):
            _approve_once(scene, 3)
    else:
        scene.evidence.canary = tally()
    return _is(scene, 3, State.PROMOTED)


def revoked(scene: Scene) -> bool:
    """The stable version is revoked while the second one is a canary, which begins again and is revoked as well."""
    _approve_once(scene, 2)
    situation = scene.table.situation()
    assert situation.rollout is not None
    if situation.rollout.state is State.CANARY and scene.registry.tags(1)["approval"] == "approved":
        scene.registry.revoke(1)
    if situation.stable is None:
        scene.evidence.shadow = shadow_tally(stable=False)
    if _is(scene, 2, State.PROMOTED) and scene.registry.tags(2)["approval"] == "approved":
        scene.registry.revoke(2)
    return _is(scene, 2, State.ROLLED_BACK) and not scene.server.available


PLAYS: dict[str, Callable[[Scene], bool]] = {play.__name__: play for play in (first, promoted, rolled_back, revoked)}


def _approve_once(scene: Scene, version: int) -> None:
    if not scene.registry.tags(version):
        scene.registry.add(version)
        scene.registry.approve(version)


def _is(scene: Scene, version: int, state: State) -> bool:
    rollout = scene.table.situation().rollout
    return rollout is not None and (rollout.version, rollout.state) == (version, state)


def act_out(play: Callable[[Scene], bool], root: Path, fatal: int) -> list[str]:
    """Plays on from what is in `root` to the end, and writes down what is seen there; gives the acts."""
    acts = Acts(fatal)
    rename, rmtree = Path.rename, shutil.rmtree
    Path.rename = acts.counted("rename", rename)  # type: ignore[method-assign]
    shutil.rmtree = acts.counted("rmtree", rmtree)  # type: ignore[assignment]
    try:
        scene = Scene(root, _POLICY, port=acts.port, gateways=("a",))
        for _ in range(_SECONDS):
            done = play(scene)
            scene.second()
            # A tick behind the end shows that nothing is left to do.
            if done:
                (root / "end.json").write_text(json.dumps(scene.end()))
                return acts.names
        raise AssertionError(f"it did not end: {scene.story}; {scene.table.status().note}")
    finally:
        Path.rename, shutil.rmtree = rename, rmtree  # type: ignore[method-assign]


def in_a_process(play: Callable[[Scene], bool], root: Path, fatal: int) -> int:
    """The wait status of a process that acts out."""
    pid = os.fork()
    if pid == 0:
        try:
            act_out(play, root, fatal)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def main(name: str, folder: Path) -> None:
    # Processes die here, not machines: waiting for the disk is most of the time and shows nothing.
    os.fsync = lambda fd: None
    play = PLAYS[name]
    template = folder / "template"
    if play is not first:
        act_out(first, template, 0)
    else:
        template.mkdir()
    undisturbed = folder / "undisturbed"
    shutil.copytree(template, undisturbed)
    acts = act_out(play, undisturbed, 0)
    wanted = json.loads((undisturbed / "end.json").read_text())
    differences: dict[str, Any] = {}
    for fatal in range(1, len(acts) + 1):
        root = folder / str(fatal)
        shutil.copytree(template, root)
        (root / "end.json").unlink(missing_ok=True)
        act = f"{fatal}: {acts[fatal - 1]}"
        died = in_a_process(play, root, fatal)
        if not (os.WIFSIGNALED(died) and os.WTERMSIG(died) == signal.SIGKILL):
            differences[act] = f"the first process was not killed there, but ended with status {died}"
        elif in_a_process(play, root, 0) != 0:
            differences[act] = "the second process failed"
        else:
            found = json.loads((root / "end.json").read_text())
            if found != wanted:
                differences[act] = {key: [wanted[key], found[key]] for key in wanted if found[key] != wanted[key]}
        shutil.rmtree(root)
    print(json.dumps({"acts": acts, "differences": differences}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
