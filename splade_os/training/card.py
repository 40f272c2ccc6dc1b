"""The model card: what the model is, how it was trained, how to use it. Written beside it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from splade_os.identity import EncodingOptions
from splade_os.training.data import Rows
from splade_os.training.model import SpladeModel, TextEncoder, TransformerSide
from splade_os.training.provenance import describe_data, describe_differences, hub_revisions
from splade_os.training.recipe import Recipe
from splade_os.training.steps import OwnTerms

_PACKAGES = (
    "splade-os", "sentence-transformers", "transformers", "torch", "accelerate", "datasets",
    "tokenizers",
)  # fmt: skip
_SAMPLES = 1000  # rows that the statistics look at
_LOG_ROWS = 40


@dataclass(frozen=True)
class Run:
    """What a card tells of a run.

    Attributes:
        base: what it started from (`describe_base`).
        steps, seconds: of this process.
        log: of the Trainer.
        metrics: of the last, or best, evaluation.
        device: where it ran.
        emissions: kilograms of CO2 equivalent and kilowatt-hours, where codecarbon measured them.
    """

    base: str
    steps: int
    seconds: float
    log: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    device: str
    emissions: tuple[float, float] | None = None


def write_card(folder: Path, recipe: Recipe, model: SpladeModel, rows: Rows, run: Run) -> Path:
    """Write ``README.md`` into the model's folder."""
    parts = [
        _front(recipe, model, rows, run),
        f"# {folder.resolve().name}",
        _architecture(recipe, model, run),
        _usage(folder.resolve().name, model),
        _evaluation(run),
        _training(recipe, model, rows, run),
        _log(run),
        _versions(run),
    ]
    file = folder / "README.md"
    file.write_text("\n\n".join(part for part in parts if part) + "\n", "utf-8")
    return file


def _front(recipe: Recipe, model: SpladeModel, rows: Rows, run: Run) -> str:
    tags = ["sentence-transformers", "sparse-encoder", "sparse", "splade", "splade-os"]
    if model.inference_free:
        tags += ["asymmetric", "inference-free"]
    content: dict[str, Any] = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "feature-extraction",
        "tags": tags,
        "base_model": recipe.model.base,
    }
    if names := hub_revisions(recipe.data, rows):
        content["datasets"] = list(names)
    if run.metrics:
        content["model-index"] = [
            {
                "name": recipe.name,
                "results": [
                    {
                        "task": {"type": "sparse-information-retrieval"},
                        "dataset": {"name": name, "type": name},
                        "metrics": [
                            {"type": metric, "name": metric, "value": round(value, 4)}
                            for metric, value in found.items()
                        ],
                    }
                    for name, found in _by_collection(run.metrics).items()
                ],
            }
        ]
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---"


def _architecture(recipe: Recipe, model: SpladeModel, run: Run) -> str:
    side = model.document
    query = {
        "encoder": _query_side(model),
        "idf": "a table of one weight per token: no model runs",
        "li-lsr": "a table of one weight per token (Li-LSR): no model runs",
    }[recipe.model.query.kind]
    count = sum(p.numel() for each in model.sides for p in each.parameters())
    name = "log(1 + log(1 + relu(x)))" if side.activation == "log1p_relu" else "log(1 + relu(x))"
    rows = [
        ("base model", run.base),
        ("transformer", f"{type(side.mlm).__name__}, {count / 1e6:.1f} M parameters"),
        ("output", f"{model.vocabulary_size:,} dimensions, one per token of the vocabulary"),
        ("activation, pooling", f"{name}, {side.pooling}"),
        ("queries", query),
        ("maximum length", f"{model.document_files.max_length} tokens"),
        ("similarity", "dot product"),
    ]
    if model.max_active_dims:
        rows.append(("kept per text", f"the {model.max_active_dims} heaviest dimensions"))
    if model.options.get("lexical_weight"):
        rows.append(("lexical prior", f"weight {model.options['lexical_weight']}, not trained"))
    intro = " ".join(recipe.description.split())
    return f"{intro}\n\n{_table(('', ''), rows)}"


def _query_side(model: SpladeModel) -> str:
    says = "the same transformer" if len(model.sides) == 1 else "a transformer of their own"
    own = isinstance(model.query, TransformerSide) and any(
        isinstance(step, OwnTerms) for step in model.query.steps
    )
    return f"{says}; only the terms of the query itself" if own else says


def _usage(name: str, model: SpladeModel) -> str:
    mode = " --idf model" if model.inference_free else " --mode encoder"
    differences = describe_differences(EncodingOptions(**model.options))
    return f"""## Usage

With sentence-transformers:

```python
from sentence_transformers import SparseEncoder

model = SparseEncoder("{name}")
queries = model.encode_query(["how do I undo a commit?"])
documents = model.encode_document(["git reset takes the last commit back."])
print(model.similarity(queries, documents))
```
{f"{chr(10)}{differences}{chr(10)}" if differences else ""}
With OpenSearch or Elasticsearch:

    splade-os ingest docs.jsonl --index docs --model {name}
    splade-os search "how do I undo a commit?" --index docs{mode}"""


def _evaluation(run: Run) -> str:
    found = _by_collection(run.metrics)
    if not found:
        return ""
    names = list(next(iter(found.values())))
    rows = [(c, *(f"{v[n]:.4g}" if n in v else "" for n in names)) for c, v in found.items()]
    return f"## Evaluation\n\n{_table(('collection', *names), rows)}"


def _by_collection(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    measures = ("ndcg@10", "mrr@10", "query_dims", "document_dims", "flops")
    found: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        for measure in measures:
            if key.startswith("eval_") and key.endswith(f"_{measure}"):
                name = key.removeprefix("eval_").removesuffix(f"_{measure}")
                found.setdefault(name, {})[measure] = value
    return found


def _training(recipe: Recipe, model: SpladeModel, rows: Rows, run: Run) -> str:
    encoder = TextEncoder.of(model)
    count = min(_SAMPLES, len(rows))
    sample = [rows[i * len(rows) // count] for i in range(count)]
    columns = [("query", [row.query for row in sample], encoder.query)]
    columns += [
        ("relevant document" if c == 0 else f"negative {c}", [r.documents[c] for r in sample],
         encoder.document)
        for c in range(rows.columns)
    ]  # fmt: skip
    lengths = []
    for name, texts, tokenizer in columns:
        n = [len(ids) for ids in tokenizer(texts)]
        lengths.append((name, min(n), f"{sum(n) / len(n):.1f}", max(n)))
    cost = f"{run.steps:,} steps in {run.seconds / 60:.1f} minutes on {run.device}"
    if run.emissions is not None:
        cost += f"; {run.emissions[0]:.3g} kg CO2eq, {run.emissions[1]:.3g} kWh (codecarbon)"
    given = recipe.model_dump(exclude_defaults=True, exclude={"name", "description", "output"})
    text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=90)
    return f"""## Training

{describe_data(recipe.data, rows)}

Lengths in tokens, of {count:,} rows:

{_table(("column", "shortest", "mean", "longest"), lengths)}

{cost}. The recipe, without what is default:

```yaml
{text}```"""


def _log(run: Run) -> str:
    steps: dict[int, dict[str, Any]] = {}
    for entry in run.log:
        steps.setdefault(int(entry.get("step", 0)), {}).update(entry)
    shown = {
        step: entry
        for step, entry in steps.items()
        if "loss" in entry or any(k.endswith("_ndcg@10") for k in entry)
    }
    if not shown:
        return ""
    scores = list(dict.fromkeys(k for e in shown.values() for k in e if k.endswith("_ndcg@10")))
    stride = max(1, -(-len(shown) // _LOG_ROWS))
    kept = [
        (step, entry)
        for i, (step, entry) in enumerate(sorted(shown.items()))
        if i % stride == 0 or any(name in entry for name in scores)
    ]
    names = ("loss", "query_dims", "document_dims", *scores)
    rows = [
        (step, *(f"{entry[n]:.4g}" if n in entry else "" for n in names)) for step, entry in kept
    ]
    titles = [n.removeprefix("eval_").replace("_", " ") for n in names]
    stopped = [str(e["stopped"]) for e in run.log if "stopped" in e]
    end = f"\n\nStopped: {stopped[-1]}." if stopped else ""
    return f"### Log\n\n{_table(('step', *titles), rows)}{end}"


def _versions(run: Run) -> str:
    found = [("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"### Versions\n\n{_table(('', ''), found)}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
