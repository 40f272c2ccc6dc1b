"""Scaled positions change vectors and no weight: they are part of a model's content hash."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.resolve import content_hash
from tests.encoding.folders import family
from tests.tiny_models import TEXTS, change


def test_scaled_positions_are_another_model(tiny: Path, tmp_path: Path) -> None:
    plain = family("gte")(tiny, tmp_path / "plain")
    scaled = Path(shutil.copytree(plain, tmp_path / "scaled"))
    old_form = Path(shutil.copytree(plain, tmp_path / "old"))
    change(scaled / "config.json", rope_parameters={
        "rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0})  # fmt: skip
    change(old_form / "config.json", rope_parameters=None, rope_theta=10_000.0,
           rope_scaling={"type": "linear", "factor": 4.0})  # fmt: skip
    encoders = [DocumentEncoder.load(str(f), device="cpu") for f in (plain, scaled, old_form)]
    vectors = [encoder.encode(TEXTS).to_dense() for encoder in encoders]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)
    differences = [e.identity.difference(encoders[1].identity) for e in encoders]
    assert differences[0] is not None and "content hash" in differences[0]
    assert differences[1:] == [None, None]


def test_what_scales_nothing_leaves_the_hash(tiny: Path, tmp_path: Path) -> None:
    """Indices of before go on."""
    folder = Path(shutil.copytree(tiny / "bert", tmp_path / "bert"))
    before = content_hash(folder)
    for key, value in (
        ("rope_scaling", None),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 500.0}),
        ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1.0}}),
        ("transformers_version", "9"),
    ):
        change(folder / "config.json", **{key: value})
        assert content_hash(folder) == before
