"""The Dockerfiles name what is there, and hold to the rules of an image that may run anywhere."""

from __future__ import annotations

import configparser
import re

import pytest

from tests.infra.dockerfiles import IMAGES, ROOT, from_context, stages


def words(image: str, word: str) -> list[str]:
    """What follows one kind of instruction in the stage that becomes the image."""
    return [instruction.rest for instruction in stages(image)[-1] if instruction.word == word]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_built_from_files_that_are_there_and_are_sent(image: str) -> None:
    sent = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    ]
    for source in from_context(image):
        assert (ROOT / source).exists(), source
        assert any(source == path or source.startswith(f"{path}/") for path in sent), source


def test_nothing_is_sent_that_no_image_is_built_from() -> None:
    copied = {source for image in IMAGES for source in from_context(image)}
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    for path in (line[1:] for line in lines if line.startswith("!")):
        assert any(source == path or source.startswith(f"{path}/") for source in copied), path


@pytest.mark.parametrize("image", IMAGES)
def test_both_stages_have_one_pinned_base_whose_python_the_environment_links_to(image: str) -> None:
    bases = {stage[0].rest.split()[0] for stage in stages(image)}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", bases.pop())


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_installs_from_its_own_lock_and_keeps_the_environment_alone(image: str) -> None:
    installing = [instruction.rest for instruction in stages(image)[0] if instruction.word == "RUN"]
    assert installing == [
        f"sh infra/docker/install.sh packages infra/python/{image}.lock /opt/fraudops",
        "sh infra/docker/install.sh project /opt/fraudops",
    ]
    assert words(image, "COPY") == ["--from=build /opt/fraudops /opt/fraudops"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_without_rights_and_says_what_it_is(image: str) -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    (user,) = words(image, "USER")
    assert int(user) >= 1000
    (labels,) = words(image, "LABEL")
    assert f'org.opencontainers.image.version="{setup["metadata"]["version"]}"' in labels
    assert f'org.opencontainers.image.title="fraudops-{image}"' in labels


def test_the_image_that_serves_has_a_health_check() -> None:
    (check,) = words("serving", "HEALTHCHECK")
    assert "127.0.0.1:8601/metrics" in check
