"""What only a GPU can show: that every check of the GPU path holds there, and how fast it is.

    python benchmarks/gpu.py [--minutes 9]

One command, one GPU, no network, at most nine minutes. The checks come first, and the first one
that fails ends the run: loading with defaults, families × poolings × precisions against the logits
of transformers, 20,000 texts encoded twice, no wait for the device while a batch is launched,
memory of every length at two vocabularies and under a cap of 8 GB, twenty training steps of every
precision. Then documents and steps per second against sentence-transformers at its best batch
size, on the same texts, weights and card. The roofline is the rate of a large bf16 product in the
same run.

Without a GPU it says so, prints its rows as not measured, and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ makes the models of the families
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from encode import error, make_model, make_texts

# documents: shape, tokens, ratio to the peer, docs/s, part of the roofline
SPEED = (("distilbert", 80, 4.0, None, 0.5), ("distilbert", 256, 4.0, None, 0.5),
         ("mini", 80, 6.0, 100_000, None))  # fmt: skip
STEPS_GOAL = 1.3
PEER_SIZES = (32, 128, 512)
VOCABULARIES = (30_522, 250_002)  # BERT's, XLM-R's
TRAINERS = ("ours", "cached", "checkpointing")  # of train.py
TRAINING = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}  # relative difference of losses
ROUNDING = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}  # mean error of weights
Row = dict[str, Any]


class WrongResultError(Exception):
    """A check that does not hold: nothing after it means anything."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise WrongResultError(what)


def row(case: str, ours: float | None, peer: float | None, unit: str, goal: float | None,
        ok: bool | None, note: str) -> Row:  # fmt: skip
    ratio = None if ours is None or not peer else round(ours / peer, 3)
    return {"case": case, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "goal": goal,
            "ok": ok, "note": note}  # fmt: skip


# --- checks: each yields rows, and raises WrongResultError ---


def defaults(device: Any, root: Path, size: int) -> Iterator[Row]:
    """The starter as a user loads it, against the same on the CPU."""
    from splade_os import DocumentEncoder

    texts = make_texts(max(8, size // 100), 60)
    ours = DocumentEncoder.load("starter")
    check(ours.device.startswith(device.type), f"the default device is {ours.device}")
    check(ours.precision == "bfloat16", f"the default precision is {ours.precision}")
    exact = DocumentEncoder.load("starter", device="cpu", dtype="float32", backend="torch")
    check(ours.identity == exact.identity, "the index's identity depends on the device")
    off = error(ours.encode(texts).to_dense(), exact.encode(texts).to_dense())
    check(off <= ROUNDING["bfloat16"], f"the starter in bf16 is off by {off:.1%}")
    yield row("load with defaults", off, ROUNDING["bfloat16"], "mean error", None, True, ours.how)


def families(device: Any, root: Path, size: int) -> Iterator[Row]:
    """A padded batch = each text alone = transformers' logits in fp32."""
    import numpy as np
    import torch

    from splade_os.encoding.cuda import CudaTransformer
    from tests.encoding.families import FAMILIES, make, naive, part, texts

    worst: dict[str, float] = {}
    for family in FAMILIES:
        folder = make(family, root / family)
        for pooling in ("max", "sum"):
            for dtype, bound in ROUNDING.items():
                model = CudaTransformer(
                    part(folder, family, pooling), device, getattr(torch, dtype)
                )
                tokens = texts(model.architecture.pad_id)
                expected = naive(folder, tokens, pooling)
                batch = model.encode(tokens, None).to_dense()
                alone = np.concatenate([model.encode([ids], None).to_dense() for ids in tokens])
                off = max(error(batch, expected), error(alone, expected), error(batch, alone))
                check(off <= bound, f"{family} {pooling} {dtype}: off by {off:.2%}")
                worst[dtype] = max(worst.get(dtype, 0.0), off)
    for dtype, off in worst.items():
        yield row(f"{len(FAMILIES)} families x max, sum, {dtype}", off, ROUNDING[dtype],
                  "mean error", None, True, "the worst of them")  # fmt: skip


def twice(device: Any, root: Path, size: int) -> Iterator[Row]:
    """Texts of 3 to 512 tokens in random order: the same to the bit, and nothing waits."""
    import numpy as np
    import torch

    from splade_os import DocumentEncoder

    encoder = DocumentEncoder.load("starter", device=str(device), dtype="bfloat16")
    random = np.random.default_rng(2)
    tokens = [random.integers(1000, 29_000, n).astype(np.int32)
              for n in np.clip(random.lognormal(4.2, 0.9, size), 3, 512).astype(int)]  # fmt: skip
    first, second = encoder.encode_tokens(tokens), encoder.encode_tokens(tokens)
    same = np.array_equal(first.indices, second.indices) and np.array_equal(
        first.values, second.values
    )
    check(same, "the same texts gave other vectors the second time")
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = encoder._backend.launch(tokens[:64], None)
    except RuntimeError as failure:
        raise WrongResultError(f"launch waits for the device: {failure}") from failure
    finally:
        torch.cuda.set_sync_debug_mode("default")
    result()
    yield row(f"{size:,} texts twice", 0.0, None, "difference", None, True, "no wait in launch")


def memory(device: Any, root: Path, size: int) -> Iterator[Row]:
    """The peak of a full batch of every length; then with 8 GB for all of it."""
    import numpy as np
    import torch

    from splade_os.encoding.batching import BUCKETS
    from splade_os.encoding.cuda import CudaTransformer
    from splade_os.errors import SpladeWarning
    from tests.encoding.families import part

    total = torch.cuda.get_device_properties(device).total_memory
    for vocabulary in VOCABULARIES:
        folder = large(root / f"memory-{vocabulary}", vocabulary)
        model = CudaTransformer(part(folder, "bert"), device, torch.bfloat16)
        rows = model.batch_bytes // (4 * vocabulary) if model.batch_bytes else size
        most, at = 0.0, 0
        for length in (b for b in BUCKETS if b <= (model.max_length or 512)):
            count = max(1, min(rows, model.batch_tokens // length, 2 * size))
            tokens = [np.full(length, 1000, np.int32)] * count
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            waiting = [model.launch(tokens, 64) for _ in range(model.ahead)]
            check(all(len(result()) == count for result in waiting), f"rows of {length} tokens")
            peak = torch.cuda.max_memory_allocated(device) / 1e9
            most, at = max((most, at), (peak, length))
        yield row(f"peak of a full batch, V = {vocabulary:,}", round(most, 2), None, "GB", None,
                  None, f"bf16, at {at} tokens; model included")  # fmt: skip
        torch.cuda.set_per_process_memory_fraction(min(1.0, 8e9 / total), device)
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", SpladeWarning)
                tokens = [np.full(8, 1000, np.int32)] * min(rows, 2 * size)
                parts = [model.encode(tokens, 64) for _ in range(3)]
                check([len(p) for p in parts] == 3 * [len(tokens)], "rows under a cap")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        yield row(f"8 GB for all, V = {vocabulary:,}", 1.0, None, "", None, True,
                  f"batches halved: {bool(said)}")  # fmt: skip
        del model, waiting, parts
        torch.cuda.empty_cache()


def large(folder: Path, vocabulary: int) -> Path:
    """A small body under a large vocabulary."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(vocab_size=vocabulary, hidden_size=128, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=512)  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def training(device: Any, root: Path, size: int) -> Iterator[Row]:
    """Twenty steps: in fp32 the losses of the CPU, in 16 bits finite and close."""
    import math

    from train import BATCH, measure

    count = max(4, min(20, size // 1000))
    model, data = trained(root, count * BATCH)
    exact = measure("ours", model, data, count)["losses"]
    for precision, bound in TRAINING.items():
        for name in TRAINERS:
            found = measure(name, model, data, count, device=device.type, precision=precision)
            losses = found["losses"]
            check(all(map(math.isfinite, losses)), f"{precision} {name}: a loss is not finite")
            off = max(abs(a - b) / abs(b) for a, b in zip(losses, exact, strict=True))
            check(off <= bound, f"{precision} {name}: losses are off by {off:.1%}")
            yield row(f"{count} training steps, {precision}, {name}", off, bound, "loss, relative",
                      None, True, "against fp32 on the CPU")  # fmt: skip


def trained(root: Path, count: int) -> tuple[Path, Path]:
    """The model and the pairs of `train.py`."""
    model, data = root / "mini", root / "pairs.jsonl"
    if not model.exists():
        make_model("mini", model)
    pairs = zip(make_texts(count, 20), make_texts(count, 140), strict=True)
    data.write_text("\n".join(json.dumps({"query": q, "answer": f"{q} {a}"}) for q, a in pairs))
    return model, data


# --- rates ---


def documents(device: Any, root: Path, size: int) -> Iterator[Row]:
    """Documents per second in bf16, ours and the peer's on the same texts."""
    import torch
    from sentence_transformers import SparseEncoder

    from splade_os import DocumentEncoder

    peak = matmul_rate(device, size)
    for shape, tokens, goal, rate_goal, roofline in SPEED:
        folder = root / shape
        if not folder.exists():
            make_model(shape, folder)
        texts = make_texts(2 * size, tokens - 2)
        ours = DocumentEncoder.load(str(folder), device=str(device), dtype="bfloat16")
        peer = SparseEncoder(
            str(folder), device=str(device), model_kwargs={"torch_dtype": torch.bfloat16}
        )
        few = texts[:256]
        exact = DocumentEncoder.load(str(folder), device=str(device), dtype="float32").encode(few)
        theirs = peer.encode_document(few, save_to_cpu=True).to_dense().float().numpy()
        off, noise = (error(v, exact.to_dense()) for v in (ours.encode(few).to_dense(), theirs))
        check(off <= max(0.02, noise), f"{shape}: off by {off:.2%}, the peer by {noise:.2%}")
        rate = best_rate(lambda: ours.encode(texts), len(texts))  # noqa: B023
        part = texts[: max(1, len(texts) // 4)]
        peers = {
            batch: best_rate(
                lambda: peer.encode_document(part, batch_size=batch, save_to_cpu=True),  # noqa: B023
                len(part),
            )
            for batch in PEER_SIZES
        }
        batch = max(peers, key=peers.__getitem__)
        note = f"bf16; the peer at its best batch size of {PEER_SIZES}, {batch}; off by {off:.2%}"
        case = f"{shape}, {tokens} tokens"
        yield row(f"{case}: docs/s", round(rate), round(peers[batch]), "docs/s", goal,
                  rate / peers[batch] >= goal, note)  # fmt: skip
        if rate_goal:
            yield row(f"{case}: docs/s of {rate_goal:,}", round(rate), rate_goal, "docs/s", 1.0,
                      rate >= rate_goal, "")  # fmt: skip
        if roofline:
            used = rate * operations(ours._backend, tokens)
            yield row(f"{case}: part of the roofline", used / 1e12, peak / 1e12, "TFLOP/s",
                      roofline, used / peak >= roofline,
                      "peer: a bf16 product of this card in this run")  # fmt: skip


def operations(model: Any, tokens: int) -> float:
    """Floating-point operations of a text: two for each weight and token, and attention's."""
    config = model.model.config
    hidden, layers = model.weight.shape[1], config.num_hidden_layers
    body = sum(p.numel() for n, p in model.model.named_parameters()
               if p.dim() == 2 and "embedding" not in n)  # fmt: skip
    return 2.0 * tokens * (body + model.weight.numel()) + 4.0 * layers * tokens**2 * hidden


def matmul_rate(device: Any, size: int) -> float:
    """Operations per second of a large bf16 product."""
    import torch

    n = min(8192, max(64, size))
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))

    def product() -> None:
        for _ in range(10):
            torch.mm(a, b)
        torch.cuda.synchronize()

    return best_rate(product, 10) * 2.0 * n**3


def steps(device: Any, root: Path, size: int) -> Iterator[Row]:
    """Training steps per second and memory, ours and the peer's, in bf16."""
    from train import BATCH, measure

    count = max(4, min(40, size // 100))
    model, data = trained(root, count * BATCH)
    found = {
        name: measure(name, model, data, count, device=device.type, precision="bf16")
        for name in ("ours", "peer")
    }
    mine, theirs = found["ours"], found["peer"]
    ratio = mine["rate"] / theirs["rate"]
    yield row("training, mini, batch 16, 128 tokens", mine["rate"], theirs["rate"], "steps/s",
              STEPS_GOAL, ratio >= STEPS_GOAL, "bf16")  # fmt: skip


def best_rate(run: Callable[[], object], count: int, repeats: int = 3) -> float:
    run()
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


CHECKS = (defaults, families, twice, memory, training)
RATES = (documents, steps)


def run(device: Any, size: int, minutes: float) -> tuple[list[Row], str | None]:
    """Rows, and what was wrong, if anything."""
    end = time.monotonic() + 60 * minutes
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for part in (*CHECKS, *RATES):
            if time.monotonic() > end:
                rows.append(row(part.__name__, None, None, "", None, None, "no time was left"))
                continue
            started = time.monotonic()
            try:
                for found in part(device, Path(temporary), size):
                    rows.append(found)
                    show(found)
            except WrongResultError as wrong:
                rows.append(row(part.__name__, None, None, "", None, False, str(wrong)))
                show(rows[-1])
                return rows, f"{part.__name__}: {wrong}"
            print(f"  {part.__name__}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return rows, None


def show(found: Row) -> None:
    print(f"{found['case']:<52} {found['ours']!s:>12.12} {found['peer']!s:>12.12} "
          f"{found['ratio']!s:>8} (goal {found['goal']}) {found['ok']}  {found['note']}",
          file=sys.stderr)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=9, help="After that nothing is begun.")
    parser.add_argument("--texts", type=int, default=20_000)
    arguments = parser.parse_args()
    import torch

    wrong = None
    if torch.cuda.is_available():
        device = torch.device("cuda:0")
        machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
        rows, wrong = run(device, arguments.texts, arguments.minutes)
    else:
        machine = "no GPU"
        print("torch sees no GPU here: nothing was measured.", file=sys.stderr)
        rows = [row(part.__name__, None, None, "", None, None, "no GPU here")
                for part in (*CHECKS, *RATES)]  # fmt: skip
    print(json.dumps({"benchmark": "gpu", "machine": machine, "rows": rows}))
    if wrong:
        print(f"Stopped at the first wrong result: {wrong}", file=sys.stderr)
    return int(wrong is not None)


if __name__ == "__main__":
    raise SystemExit(main())
