"""What a node is made of: files in the Maven registry, pinned by SHA-256."""

from __future__ import annotations

import hashlib
import shutil
from importlib.resources import files
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
    try:
        import truststore
        from jgo.maven import MavenContext
    except ImportError:
        raise MissingExtraError("A local cluster on the JVM", "local") from None
    target = artifact.path(repository)
    unfinished = repository.parent / "unfinished" / artifact.file_name
    shutil.rmtree(unfinished, ignore_errors=True)

    def work() -> Path:
        context = MavenContext(repo_cache=unfinished, timeout=60)
        project = context.project(artifact.group, artifact.name).at_version(artifact.version)
        return Path(project.artifact(packaging=artifact.type).resolve())

    def tick() -> None:
        done = sum(f.stat().st_size for f in unfinished.rglob("*") if f.is_file())
        report(f"Downloading {artifact.file_name}", done, artifact.bytes)

    truststore.inject_into_ssl()  # trust what the machine trusts, a company's proxy included
    try:
        fetched = watched(work, tick)
        verify(artifact, fetched)
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(target)  # whole and right, or not there at all
    except ClusterError:
        raise
    except Exception as error:  # jgo raises RuntimeError, requests' and OS errors
        reason = str(error).rsplit("Caused by ", 1)[-1].rstrip(")")
        raise ClusterError(
            f"{artifact.file_name} cannot be had from the Maven registry: {reason}",
            hint="Check the network; or use --via docker, or the embedded engine: "
            "--url sqlite:///FILE.",
        ) from error
    finally:
        truststore.extract_from_ssl()
        shutil.rmtree(unfinished, ignore_errors=True)
