"""What a masked-LM model is made of, found by looking at it and running it, never by its name.

Families differ in what stands in front of the decoder, in how attention takes a mask, in where
positions begin and in what pads a text. All of that shows in the loaded model itself, so that a
family that is not listed anywhere needs no code. What the pooling head relies on is tried on two
short texts: a padded batch must equal each text alone, else the family is refused; and the
decoder's weights must give the model's own logits, else its head is run whole, which takes more
time and memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from splade_os.errors import ModelError

_TOLERANCE = 1e-3  # of the largest logit, fp32
_LENGTHS = (9, 4)  # tokens of the two texts that are tried


class Passthrough(nn.Module):  # type: ignore[misc]
    """Stands where the decoder was, so that the model returns what the decoder would get."""

    bias = None  # BERT's set_output_embeddings reads it

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden


@dataclass(frozen=True)
class Architecture:
    """What the parts of splade-os need to know of a masked-LM model.

    Attributes:
        transform: names of the modules with weights between body and decoder.
        max_length: tokens for which the model has positions; ``None`` = no table of positions.
        pad_id: what fills up short texts.
        input_size: rows of the input embeddings.
        vocabulary_size: V, logits of a token.
        decoder: whether the head ends in one decoder that gives the model's own logits when it is
            run tile by tile.
    """

    transform: tuple[str, ...]
    max_length: int | None
    pad_id: int
    input_size: int
    vocabulary_size: int
    decoder: bool = True


def probe(model: Any, name: str) -> Architecture:
    """Look at a model with its decoder in place, and run it on two short texts.

    Args:
        model: a transformers masked-LM model on any device, with weights in float32.
        name: of the model, for messages.

    Raises:
        ModelError: it does not run, or gives a text other logits when another stands beside it.
    """
    input_size = _input_size(model, name)
    pad_id = _pad_id(model, input_size)
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), _positions(model) as found:
            naive = _logits(model, _texts(model, pad_id, input_size), name)
        _check_padding(model, naive, pad_id, input_size, name)
        decoder = model.get_output_embeddings()
        apart = _comes_apart(model, decoder, naive, pad_id, input_size)
    finally:
        model.train(training)
    configured = getattr(model.config, "max_position_embeddings", None)
    known = [*found, *([configured] if isinstance(configured, int) and configured > 0 else [])]
    return Architecture(
        transform=tuple(_transform(model, decoder)) if apart else (),
        max_length=min(known) if known else None,
        pad_id=pad_id,
        input_size=input_size,
        vocabulary_size=int(naive[0].shape[1]),
        decoder=apart,
    )


def require_decoder(architecture: Architecture, family: str, what: str) -> None:
    """Refuse a head that is only run whole.

    Args:
        what: what needs to take it apart, for the message.

    Raises:
        ModelError: naming the family.
    """
    if not architecture.decoder:
        raise ModelError(
            f"{what} needs a head that ends in one decoder over the vocabulary, and that of this "
            f"{family} model does not: it is encoded with, and nothing else.",
            hint="docs/models.md lists the families that are tested.",
        )


def takes_square_mask(model: Any, architecture: Architecture) -> bool:
    """Whether a bool mask ``(B, 1, L, L)`` means the same to the model as one of ``(B, L)``.

    Scaled dot product attention takes it as a mask; eager attention adds it to its scores, which
    lets padding take part, and models with local attention need a second one. With it, transformers
    need not look at the device whether anything is masked.
    """
    config = model.config
    if getattr(config, "_attn_implementation", None) != "sdpa" or any(
        getattr(config, key, None) for key in ("sliding_window", "local_attention")
    ):
        return False
    texts = _texts(model, architecture.pad_id, architecture.input_size)
    ids, mask = _padded(texts, architecture.pad_id, model.device)
    with torch.no_grad():
        plain = model(input_ids=ids, attention_mask=mask.long()).logits
        try:
            square = model(input_ids=ids, attention_mask=square_mask(mask)).logits
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False  # what a body says to a mask of another shape
    return _largest(square[mask] - plain[mask]) <= _TOLERANCE * max(1.0, _largest(plain))


def square_mask(mask: Tensor) -> Tensor:
    """Bool ``(B, L)`` → ``(B, 1, L, L)``, without a copy."""
    rows, length = mask.shape
    return mask[:, None, None, :].expand(rows, 1, length, length)


def _transform(model: Any, decoder: nn.Module) -> Iterator[str]:
    """Modules with parameters of their own that are neither of the body nor of the decoder."""
    base = model.base_model
    body = {id(module) for module in base.modules()} if base is not model else set()
    if not body:
        return
    own = {id(parameter) for parameter in decoder.parameters()}
    for name, module in model.named_modules():
        parameters = [p for p in module.parameters(recurse=False) if id(p) not in own]
        if parameters and name and id(module) not in body and module is not decoder:
            yield name


@contextmanager
def _positions(model: Any) -> Iterator[list[int]]:
    """While the model runs: the lengths that its tables of positions allow.

    A table of positions is what is asked for rows whose numbers go up by one from token to token;
    RoBERTa's families begin at the row behind that of padding.
    """
    found: list[int] = []

    def watch(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        asked = arguments[0] if arguments else None
        weight = getattr(module, "weight", None)
        if not isinstance(asked, Tensor) or not isinstance(weight, Tensor) or weight.dim() != 2:
            return
        if asked.dtype not in (torch.int64, torch.int32) or asked.numel() not in _LENGTHS:
            return  # one number for each token of the one text
        asked = asked.flatten()
        if bool((asked.diff() == 1).all()):
            found.append(int(weight.shape[0] - asked[0]))

    hooks = [m.register_forward_pre_hook(watch) for m in model.base_model.modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _input_size(model: Any, name: str) -> int:
    """Rows of the input embeddings."""
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:
        embeddings = None
    weight = getattr(embeddings, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ModelError(
            f"{name}: a {model.config.model_type} model has no table of input embeddings, which "
            "is no transformer over tokens that splade-os runs.",
            hint="docs/models.md lists families.",
        )
    return int(weight.shape[0])


def _pad_id(model: Any, size: int) -> int:
    padding = getattr(model.get_input_embeddings(), "padding_idx", None)
    for candidate in (getattr(model.config, "pad_token_id", None), padding):
        if isinstance(candidate, int) and 0 <= candidate < size:
            return candidate
    return 0


def _texts(model: Any, pad_id: int, size: int) -> list[Tensor]:
    """Two texts of ids that are not padding; no two neighbours go up by one, as positions do."""
    ids = [i for i in range(size - 1, -1, -1) if i != pad_id][: 4 * _LENGTHS[0]][::2] or [0]
    whole = torch.tensor(ids * _LENGTHS[0], device=model.device)
    return [whole[:length] for length in _LENGTHS]


def _padded(texts: Sequence[Tensor], pad_id: int, device: Any) -> tuple[Tensor, Tensor]:
    ids = nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    return ids, torch.arange(ids.shape[1], device=device) < lengths[:, None]


def _logits(model: Any, texts: Sequence[Tensor], name: str) -> list[Tensor]:
    """Logits ``(L, V)`` of each text alone, as the model itself computes them."""
    try:
        return [
            model(input_ids=t[None], attention_mask=torch.ones_like(t)[None]).logits[0]
            for t in texts
        ]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # only transformers' code runs here, on numbers of the folder
        raise ModelError(
            f"{name} was loaded but does not run: {type(error).__name__}: {error}",
            hint=f"Check {name}/config.json, or save the model again.",
        ) from error


def _bound(naive: list[Tensor]) -> float:
    return _TOLERANCE * max(1.0, *(_largest(logits) for logits in naive))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _check_padding(model: Any, naive: list[Tensor], pad_id: int, size: int, name: str) -> None:
    """The model as it was loaded: a text in a padded batch against the same text alone."""
    ids, mask = _padded(_texts(model, pad_id, size), pad_id, model.device)
    logits = model(input_ids=ids, attention_mask=mask.long()).logits
    if _largest(logits[1, : len(naive[1])] - naive[1]) > _bound(naive):
        raise ModelError(
            f"{name}: a {model.config.model_type} model gives a text other vectors when it is "
            "padded, so that they depend on what is encoded beside it. splade-os does not run such "
            "a family.",
            hint="Take a model whose attention leaves padding out, e.g. BERT or ModernBERT.",
        )


@torch.no_grad()  # type: ignore[untyped-decorator]
def _comes_apart(model: Any, decoder: Any, naive: list[Tensor], pad_id: int, size: int) -> bool:
    """Whether the states that the decoder gets, times its weights, are the model's own logits."""
    if not isinstance(decoder, nn.Module) or getattr(decoder, "weight", None) is None:
        return False
    ids, mask = _padded(_texts(model, pad_id, size), pad_id, model.device)
    with _put_back(model):
        try:
            model.set_output_embeddings(Passthrough())
            hidden = model(input_ids=ids, attention_mask=mask.long()).logits  # (B, L, H)
        except (RuntimeError, AttributeError, TypeError):  # it does not only call its decoder
            return False
    weight, bias = decoder.weight, getattr(decoder, "bias", None)
    if weight.dim() != 2 or weight.shape != (naive[0].shape[1], hidden.shape[-1]):
        return False
    logits = F.linear(hidden, weight, bias)
    return all(
        _largest(logits[i, : len(own)] - own) <= _bound(naive) for i, own in enumerate(naive)
    )


@contextmanager
def _put_back(model: Any) -> Iterator[None]:
    """What is set in the model is undone, whatever its own setters do."""
    before = [(m, dict(m._modules), dict(m._parameters)) for m in model.modules()]
    try:
        yield
    finally:
        for module, modules, parameters in before:
            for now, then in ((module._modules, modules), (module._parameters, parameters)):
                now.clear()
                now.update(then)


def _largest(values: Tensor) -> float:
    return float(values.abs().max())
