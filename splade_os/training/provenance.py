"""What a card says of a model's base, of its data, and of what only splade-os does with it."""

from __future__ import annotations

from pathlib import Path

from splade_os.encoding.layout import read_layout
from splade_os.encoding.resolve import STARTER, content_hash, resolve_model
from splade_os.identity import EncodingOptions, short_hash
from splade_os.training.data import Rows
from splade_os.training.model import SpladeModel
from splade_os.training.recipe import DataPart


def describe_base(base: str, model: SpladeModel) -> str:
    """The base as it was named, and what it was: a content hash, or a commit of the hub.

    Args:
        base: ``model.base`` of the recipe.
        model: loaded from it, and not trained yet.

    Raises:
        ModelError: the folder cannot be read any more.
    """
    if Path(base).expanduser().is_dir() or base == STARTER:
        folder = resolve_model(base).folder
        if (folder / "modules.json").is_file():
            folder = read_layout(folder).document.folder
        return f"`{base}`, content hash `{short_hash(content_hash(folder))}`"
    # transformers notes the commit that it downloaded
    commit = getattr(model.document.mlm.config, "_commit_hash", None)
    return f"`{base}`" + (f", revision `{commit}`" if commit else "")


def describe_data(part: DataPart, rows: Rows) -> str:
    """Names, revisions, and how many rows were trained on and held out."""
    lines, revisions = [], hub_revisions(part, rows)
    for name in _names(part):
        line = f"- `{name}`"
        if name in revisions:
            chosen = " ".join(n for n in (part.subset, part.split) if n)
            line += f" ({chosen}), revision `{revisions[name]}`"
        lines.append(line)
    held = f", {part.held_out:,} more held out" if part.held_out else ""
    if 0 < part.held_out < 1:
        held = f", {part.held_out:.0%} of all rows held out"
    lines.append(f"- {len(rows):,} rows trained on{held}")
    return "\n".join(lines)


def hub_revisions(part: DataPart, rows: Rows) -> dict[str, str]:
    """Name → commit of the data sets that came from the hub."""
    from datasets.naming import camelcase_to_snakecase

    commits, found = rows.revisions(), {}
    for name in _names(part):
        organisation, _, rest = name.rpartition("/")
        cached = f"{organisation}___{camelcase_to_snakecase(rest)}"
        if cached in commits:
            found[name] = commits[cached]
    return found


def _names(part: DataPart) -> list[str]:
    return [part.train] if isinstance(part.train, str) else list(part.train)


def describe_differences(options: EncodingOptions) -> str:
    """What sentence-transformers leaves out, which does not read ``splade_os.json``; ``""`` where
    its vectors are the same."""
    found = []
    if options.lexical_weight:
        found.append(
            "- **The lexical prior** is missing from its document vectors: the weight of a token "
            f"of the text lacks C · m · tf (C = {options.lexical_weight:g}, m = "
            f"{options.mean_weight or 0:g}, tf: BM25's term frequency over wordpieces), and a "
            "token of the text that the model itself gives no weight is absent. Scores are those "
            "of the learned part alone, and lower; `--lexical-weight 0` gives the same ones here."
        )
    pruning = [n for n in ("min_weight", "max_ratio", "alpha_mass") if getattr(options, n)]
    if pruning:
        found.append(
            f"- **Nothing is pruned** ({', '.join(pruning)}): its document vectors have more "
            "terms, with the same weights, and scores are higher by what the terms add."
        )
    if options.fold_idf:
        found.append(
            "- **The IDF is not folded in**: its document weights are not multiplied by the query "
            "table, its queries have the table's weights. Scores are the same; its vectors must "
            "not be mixed with those made here."
        )
    if options.mask_expansion:
        found.append(
            "- **Expansion is not masked**: function words, punctuation, digits alone and single "
            "letters have a weight there where the text does not hold them."
        )
    if options.long_texts == "chunk":
        found.append(
            "- **Long texts are cut**, where splade-os takes the maximum over overlapping windows."
        )
    if options.max_length:
        found.append(
            f"- **Texts are not cut after {options.max_length} tokens**, but after as many as "
            "`tokenizer_config.json` says."
        )
    if not found:
        return ""
    intro = (
        "sentence-transformers does not read `splade_os.json`. Its vectors of this model differ "
        "from those of splade-os:"
    )
    return "\n\n".join([intro, "\n".join(found)])
