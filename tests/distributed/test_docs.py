"""The manifest of docs/scale.md: it parses, and the command in it is one."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import split
from typing import Any

import click
import yaml

from splade_os.cli import cli
from splade_os.cli.ingest import ingest


def test_the_manifest_and_its_command() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    found = re.search(r"```yaml\n(.*?)```", text, re.S)
    assert found is not None
    job: dict[str, Any] = yaml.safe_load(found[1])
    program, name, *words = split(job["spec"]["entrypoint"])
    assert (program, cli.get_command(click.Context(cli), name)) == ("splade-os", ingest)
    parsed = ingest.make_context(name, words).params
    assert parsed["cluster"] == "ray:auto" and parsed["resume_auto"]
    spec = job["spec"]["rayClusterSpec"]
    head, workers = spec["headGroupSpec"], spec["workerGroupSpecs"][0]
    gpus = workers["replicas"] * 1
    assert parsed["workers"] * parsed["gpus_per_worker"] <= gpus
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert f"ray=={spec['rayVersion']}\n" in pinned
    cpus = int(head["rayStartParams"]["num-cpus"]) + 8 * workers["replicas"]
    assert parsed["workers"] + (parsed["writers"] + 1) * 0.5 <= cpus
