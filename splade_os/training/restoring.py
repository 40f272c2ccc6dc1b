"""Weights of a checkpoint back into the model that made it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import orjson
import torch
from safetensors.torch import load_file

from splade_os.encoding.layout import SpladePart, StaticPart, read_layout
from splade_os.errors import ModelError
from splade_os.export.tensors import save_file
from splade_os.training.model import SpladeModel, TransformerSide
from splade_os.training.query_table import LinearTable, StaticTable
from splade_os.training.steps import OwnTerms

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_LAST_FILE = "trainer_state.json"  # what the Trainer writes last
_EXTRA_FILE = "trainable.safetensors"


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: a run that is killed while it writes one
    goes on from the one before."""
    found = []
    for path in folder.glob("checkpoint-*") if folder.is_dir() else ():
        number = _CHECKPOINT.fullmatch(path.name)
        try:
            orjson.loads((path / _LAST_FILE).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            continue
        if number:
            found.append((int(number[1]), path))
    return max(found)[1] if found else None


def move_checkpoints(source: Path, target: Path) -> None:
    """Put checkpoints where they are looked for first, out of the model's folder.

    A checkpoint names the best one by its path, which changes with it.
    """
    moved = [path for path in source.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]
    if not moved:
        return
    target.mkdir(exist_ok=True)
    for path in moved:
        shutil.rmtree(target / path.name, ignore_errors=True)
        path.rename(target / path.name)
    for file in target.glob(f"checkpoint-*/{_LAST_FILE}"):
        try:
            state = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError:
            continue  # never whole: nobody resumes from it
        best = state.get("best_model_checkpoint")
        if best and Path(best).parent.resolve() == source.resolve():
            state["best_model_checkpoint"] = str(target / Path(best).name)
            file.write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2))


def save_extra_weights(model: SpladeModel, folder: Path) -> None:
    """What the saved model does not hold, because it is merged or tabulated there: LoRA's
    adapters, the linear layer of Li-LSR."""
    if not _extra(model):
        return
    state = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    save_file(state, folder / _EXTRA_FILE)


@torch.no_grad()  # type: ignore[untyped-decorator]
def restore_weights(model: SpladeModel, folder: Path) -> None:
    """Load the weights of a checkpoint.

    Raises:
        ModelError: the checkpoint is of another model, or not complete.
    """
    if _extra(model):
        file = folder / _EXTRA_FILE
        if not file.is_file():
            raise ModelError(f"{file} is missing: the checkpoint is not complete.")
        state = load_file(file)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                if name not in state or state[name].shape != parameter.shape:
                    raise ModelError(f"{file} does not fit the model: {name}.")
                parameter.copy_(state[name])
        return
    layout = read_layout(folder)
    parts = [layout.document, layout.query]
    for side, part in zip(model.sides, parts, strict=False):
        if not isinstance(part, SpladePart):
            raise ModelError(f"{folder} is a checkpoint of another model: it has a query table.")
        _restore_transformer(side, part.folder)
    tables = [module for module in model.modules() if isinstance(module, OwnTerms)]
    if len(tables) != len(layout.tables) - isinstance(layout.query, StaticPart):
        raise ModelError(f"{folder} is a checkpoint of another model: it has other tables.")
    for table, found in zip(tables, layout.tables, strict=False):
        table.weight.copy_(load_file(found.weights)["weight"])
    if isinstance(model.query, StaticTable):
        if not isinstance(layout.query, StaticPart):
            raise ModelError(f"{folder} is a checkpoint of another model: it has no query table.")
        model.query.weight.copy_(load_file(layout.query.weights)["weight"])


def _restore_transformer(side: TransformerSide, folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    try:
        mlm = side.whole()
        own = mlm.state_dict()
        unknown = [n for n in state if n not in own or own[n].shape != state[n].shape]
        if unknown:
            raise ModelError(f"{folder} is a checkpoint of another model: {unknown[0]}.")
        mlm.load_state_dict(state, strict=False)  # tied tensors are written once
    finally:
        side.detach_decoder()


def _extra(model: SpladeModel) -> bool:
    return isinstance(model.query, LinearTable) or any(
        "lora_" in name for name, _ in model.named_parameters()
    )
