"""A jar that is a job server of Beam's Flink runner: Beam's own, or one put together from its parts by Maven."""

import shutil
import subprocess
import zipfile
from pathlib import Path

from apache_beam.options.pipeline_options import FlinkRunnerOptions
from apache_beam.utils.subprocess_server import JavaJarServer

_POM = Path(__file__).with_name("pom.xml")
_MAIN = "org.apache.beam.runners.flink.FlinkJobServerDriver"
_TIMEOUT_S = 240


class Unavailable(Exception):
    """No job server can be had; says why."""


def job_server_jar(folder: Path) -> Path:
    """The path of a jar for `--flink_job_server_jar`; what is fetched for it stays in the caches of Beam and Maven.

    Raises:
        Unavailable: there is no Java, or neither Beam nor Maven gets what it asks for.
    """
    if shutil.which("java") is None:
        raise Unavailable("java is not installed")
    version = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS[-1]
    try:
        own = JavaJarServer.path_to_beam_jar(f":runners:flink:{version}:job-server:shadowJar")
        return Path(JavaJarServer.local_jar(own))
    except RuntimeError as error:
        return _assembled(folder, str(error))


def _assembled(folder: Path, why: str) -> Path:
    if shutil.which("mvn") is None:
        raise Unavailable(f"Beam does not get its jar ({why}), and mvn is not installed")
    classpath, jar = folder / "classpath", folder / "job-server.jar"
    command = ["mvn", "-B", "-q", "-f", str(_POM), "dependency:build-classpath", f"-Dmdep.outputFile={classpath}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"neither Beam ({why}) nor Maven ({error}: {error.stdout!r}) gets a job server") from error
    parts = " ".join(Path(part).as_uri() for part in classpath.read_text().strip().split(":"))
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", _manifest({"Main-Class": _MAIN, "Class-Path": parts}))
    return jar


def _manifest(entries: dict[str, str]) -> str:
    """A jar's manifest, whose lines may have 72 bytes; what is longer goes on behind a space."""
    lines = []
    for line in ("Manifest-Version: 1.0", *(f"{name}: {value}" for name, value in entries.items())):
        lines.append(line[:72])
        lines += [f" {line[begin : begin + 71]}" for begin in range(72, len(line), 71)]
    return "\r\n".join(lines) + "\r\n\r\n"
