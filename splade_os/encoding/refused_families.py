"""The errors for families of sparse encoders that are no masked-LM SPLADE models."""

from __future__ import annotations

from pathlib import Path

from splade_os.errors import ModelError


def causal_model(where: Path, name: str) -> ModelError:
    """Of a decoder (splade-code, LACONIC): trained with attention in both directions, which its
    configuration does not say and transformers' class does not compute.

    Args:
        where: the folder; name: class or family.
    """
    return ModelError(
        f"{where} is a causal language model ({name}), as splade-code and LACONIC are: it has no "
        "MaskedLM head, and transformers runs it with attention to the left only, which would "
        "give other vectors than those it was trained for.",
        hint="Take a masked-LM model (docs/models.md lists families), or encode with that model's "
        "own code and index the vectors: splade-os ingest --vectors.",
    )


def autoencoder(where: Path) -> ModelError:
    """Of CSR (`SparseAutoEncoder`): dimensions of a dense vector, not tokens."""
    return ModelError(
        f"{where} describes a CSR model (SparseAutoEncoder): its dimensions are no tokens of a "
        "vocabulary, so that there are no terms to index, explain or weigh by IDF.",
        hint="Take a SPLADE model: docs/models.md lists families.",
    )
