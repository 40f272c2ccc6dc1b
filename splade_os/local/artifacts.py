"""What a node is made of: files in the Maven registry, pinned by SHA-256."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from splade_os.errors import ClusterError, MissingExtraError
from splade_os.local.progress import Report, watched


class Artifact(BaseModel):
    """One file of the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    name: str
    version: str
    type: str
    bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.{self.type}"

    def path(self, repository: Path) -> Path:
        """Where the file lies in a local Maven repository."""
        return repository.joinpath(*self.group.split("."), self.name, self.version, self.file_name)


class Module(BaseModel):
    """A module that a distribution lacks, built from its jar and a descriptor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    artifact: Artifact
    descriptor: dict[str, str]


class Release(BaseModel):
    """All files of one version and flavour of an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    flavor: str
    distribution: Artifact
    libraries: tuple[Artifact, ...] = ()
    plugins: tuple[Artifact, ...] = ()
    modules: tuple[Module, ...] = ()

    def artifacts(self) -> tuple[Artifact, ...]:
        added = (module.artifact for module in self.modules)
        return (self.distribution, *self.libraries, *self.plugins, *added)


def releases() -> dict[str, list[Release]]:
    """Engine → its releases, the one to take by default first."""
    text = files("splade_os.local").joinpath("artifacts.json").read_bytes()
    return TypeAdapter(dict[str, list[Release]]).validate_json(text)


def find_release(engine: str, version: str | None = None, flavor: str | None = None) -> Release:
    """The release asked for; ``None`` takes what there is, the default first.

    Raises:
        ClusterError: listing those that can be started.
    """
    known = releases()
    for release in known.get(engine, ()):
        if version in (None, release.version) and flavor in (None, release.flavor):
            return release
    asked = " ".join(part for part in (engine, version, flavor) if part)
    there = ", ".join(f"{e} {r.version} ({r.flavor})" for e, rs in known.items() for r in rs)
    raise ClusterError(f"There is no {asked} to start.", hint=f"There are: {there}.")


def fetch(artifact: Artifact, repository: Path, report: Report) -> Path:
    """The file of an artifact, from ``repository`` or else from the Maven registry.

    Raises:
        ClusterError: the registry cannot be reached, or the file is not what was pinned.
    """
    file = artifact.path(repository)
    if not file.is_file():
        _download(artifact, repository, report)
    return file


def missing_bytes(release: Release, repository: Path) -> int:
    """How much has still to be downloaded."""
    return sum(a.bytes for a in release.artifacts() if not a.path(repository).is_file())


def verify(artifact: Artifact, file: Path) -> None:
    """Compare a file with the pinned SHA-256; a wrong one is removed.

    Raises:
        ClusterError: it differs.
    """
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != artifact.sha256:
        size = file.stat().st_size
        file.unlink()
        raise ClusterError(
            f"{artifact.file_name} ({size:,} bytes) is not the file that splade-os knows: its "
            f"SHA-256 is {found}, not {artifact.sha256}. It was removed.",
            hint="Try again. If it stays so, the registry or a proxy serves another file.",
        )


def _download(artifact: Artifact, repository: Path, report: Report) -> None:
    if not (find_spec("truststore") and find_spec("jgo")):
        raise MissingExtraError("A local cluster on the JVM", "local")
    target = artifact.path(repository)
    unfinished = repository.parent / "unfinished" / artifact.file_name
    shutil.rmtree(unfinished, ignore_errors=True)

    def work() -> Path:
        wanted = (artifact.group, artifact.name, artifact.version, artifact.type)
        program = [sys.executable, "-P", "-m", "splade_os.local.download", str(unfinished), *wanted]
        done = subprocess.run(
            program, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no reason was given"])[-1])
        return Path(done.stdout.strip().splitlines()[-1])

    def tick() -> None:
        done = sum(f.stat().st_size for f in unfinished.rglob("*") if f.is_file())
        report(f"Downloading {artifact.file_name}", done, artifact.bytes)

    try:
        fetched = watched(work, tick)
        verify(artifact, fetched)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(target)  # whole and right, or not there at all
    except ClusterError:
        raise
    except (RuntimeError, OSError) as error:
        reason = str(error).rsplit("Caused by ", 1)[-1].rstrip(")")
        raise ClusterError(
            f"{artifact.file_name} cannot be had from the Maven registry: {reason}",
            hint="Check the network; or use --via docker, or the embedded engine: "
            "--url sqlite:///FILE.",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
