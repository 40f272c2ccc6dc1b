"""Documents per second and memory of the encoder, against sentence-transformers.

    python benchmarks/encode.py [--documents 64] [--cases mini-76,...]

Models of the shapes of the published seeds, with random weights (speed does not depend on them)
and a decoder bias shifted so that some 200 dimensions fire. Peer and we in one run, on the same
texts and the same weights, outputs compared. Every measurement is a process of its own, so that
peak memory is its own; best of three.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
SHAPES = {"mini": "bert", "distilbert": "distilbert"}
# goals of fp32 on a CPU, of the best mode there, and of that with native int8 or bf16 products
GOALS = {
    "mini-76": (2.5, 3.6, 4.5),
    "mini-252": (2.1, 3.6, 4.5),
    "distilbert-76": (1.55, 2.8, 3.5),
    "distilbert-252": (1.65, 2.8, 3.5),
}
MEMORY_GOAL = 8.0
REPEATS = 3


def make_model(shape: str, folder: Path) -> None:
    """A SparseEncoder folder with the starter's tokenizer."""
    import torch
    from sentence_transformers import SparseEncoder
    from tokenizers import Tokenizer
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DistilBertConfig,
        DistilBertForMaskedLM,
        PreTrainedTokenizerFast,
    )

    from splade_os.encoding import resolve_model

    torch.manual_seed(0)
    if shape == "mini":
        config = BertConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
        )
        model: Any = BertForMaskedLM(config)
        bias = model.cls.predictions.bias
    else:
        model = DistilBertForMaskedLM(DistilBertConfig())
        bias = model.vocab_projector.bias
    source = resolve_model("starter").folder / "document_0_Transformer" / "tokenizer.json"
    raw = Tokenizer.from_file(str(source))
    raw.no_padding()
    raw.no_truncation()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )
    ids = torch.randint(2000, 28_000, (8, 80))
    with torch.no_grad():  # 200 of 30,522 dimensions above zero
        peaks = model.eval()(input_ids=ids).logits.amax(1)
        bias -= peaks.quantile(1 - 200 / peaks.shape[1], dim=1).mean()
    checkpoint = folder.with_name(folder.name + "-mlm")
    model.save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    SparseEncoder(str(checkpoint), device="cpu").save_pretrained(str(folder))


def make_texts(count: int, mean: int) -> list[str]:
    """Random words; lengths about normal, as those of passages are."""
    import numpy as np

    from splade_os.encoding import load_query_encoder

    vocabulary = load_query_encoder("starter").vocabulary.tokens
    words = [t for t in vocabulary[2000:20_000] if t.isalpha()]
    random = np.random.default_rng(1)
    lengths = np.clip(random.normal(mean, 0.35 * mean, count), 4, 500).astype(int)
    return [" ".join(random.choice(words, n)) for n in lengths]


def worker(what: str, model: str, texts_file: str, out: str) -> None:
    """One measurement; prints docs/s and the peak of memory above the loaded model."""
    import time

    import numpy as np

    texts = json.loads(Path(texts_file).read_text())
    if what.startswith("peer"):
        from sentence_transformers import SparseEncoder

        peer = SparseEncoder(model, device="cpu")

        def encode() -> Any:
            return peer.encode_document(texts, batch_size=int(what.removeprefix("peer-")))
    else:
        from splade_os import DocumentEncoder

        backend, dtype = what.split("-")
        ours = DocumentEncoder.load(model, backend=backend, dtype=dtype, device="cpu")  # type: ignore[arg-type]

        def encode() -> Any:
            return ours.encode(texts)

    before = resident()
    best = 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = encode()
        best = max(best, len(texts) / (time.perf_counter() - start))
    peak = peak_resident() - before
    dense = result.to_dense()
    np.save(out, dense.numpy() if what.startswith("peer") else dense)
    print(json.dumps({"rate": best, "memory": peak}))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(what: str, model: Path, texts: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", what, str(model), str(texts), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def processor() -> tuple[str, set[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text()
        name = text.split("model name")[1].split(":")[1].split("\n")[0].strip()
        return name, set(text.split("flags")[1].split("\n")[0].split())
    except (OSError, IndexError):
        return platform.machine(), set()


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=64)
    parser.add_argument("--cases", default=",".join(GOALS))
    parser.add_argument("--worker", nargs=4)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return
    from splade_os.export.onnx import export_onnx

    name, flags = processor()
    native_bf16 = bool({"avx512_bf16", "amx_bf16"} & flags)
    native = native_bf16 or bool({"avx512_vnni", "avx_vnni"} & flags)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for case in arguments.cases.split(","):
            shape, mean = case.split("-")
            model, graphs = root / shape, root / f"{shape}-onnx"
            if not model.exists():
                make_model(shape, model)
                export_onnx(str(model), graphs)
            texts = root / f"{case}.json"
            texts.write_text(json.dumps(make_texts(arguments.documents, int(mean))))
            peer = measure("peer-32", model, texts, root / "peer.npy")
            expected = np.load(root / "peer.npy")
            measure("peer-1", model, texts, root / "other.npy")
            # what the peer's own batch size changes in its output
            noise = int(((np.load(root / "other.npy") > 0) != (expected > 0)).sum())
            modes = ["torch-float32", "onnx-float32", "onnx-int8"]
            modes += ["torch-bfloat16"] if native_bf16 else []
            found = {}
            for mode in modes:
                folder = graphs if mode.startswith("onnx") else model
                found[mode] = measure(mode, folder, texts, root / "ours.npy")
                ours = np.load(root / "ours.npy")
                found[mode]["difference"] = float(np.abs(ours - expected).max())
                found[mode]["support"] = float(((ours > 0) != (expected > 0)).sum())
                print(
                    f"{case:<16} {mode:<16} {found[mode]['rate']:8.1f} docs/s "
                    f"{found[mode]['rate'] / peer['rate']:5.2f}x  "
                    f"{found[mode]['memory'] / 1e6:7.0f} MB  (peer {peer['rate']:.1f} docs/s, "
                    f"{peer['memory'] / 1e6:.0f} MB)",
                    file=sys.stderr,
                )
            exact = max(("torch-float32", "onnx-float32"), key=lambda m: found[m]["rate"])
            best = max(modes, key=lambda m: found[m]["rate"])
            fp32, cpu, cpu_native = GOALS[case]
            same = found[exact]["support"] <= noise and found[exact]["difference"] <= 1e-5
            note = (
                f"{exact}; support differs in {found[exact]['support']:.0f} of "
                f"{int((expected > 0).sum())} places (the peer's own with batch size 1: {noise}), "
                f"largest difference {found[exact]['difference']:.1e}"
            )
            rows.append(row(f"{case} fp32", found[exact]["rate"], peer["rate"], fp32, same, note))
            goal = cpu_native if native else cpu
            rows.append(
                row(f"{case} best mode", found[best]["rate"], peer["rate"], goal, True, best)
            )
            memory = max(found[m]["memory"] for m in ("torch-float32", "onnx-float32"))
            ratio = peer["memory"] / max(memory, 1)
            rows.append(
                {
                    "case": f"{case} memory above the model",
                    "ours": round(memory / 1e6),
                    "peer": round(peer["memory"] / 1e6),
                    "unit": "MB",
                    "ratio": round(ratio, 2),
                    "goal": MEMORY_GOAL,
                    "ok": ratio >= MEMORY_GOAL,
                    "note": "the larger of torch and ONNX Runtime, fp32; ratio = peer / ours",
                }
            )
    absent = {"ours": None, "peer": None, "unit": "docs/s", "ratio": None, "goal": None, "ok": None}
    for gpu in ("DistilBERT bf16, 80 and 256 tokens", "Mini bf16, 80 tokens"):
        rows += [{"case": f"GPU {gpu}", **absent, "note": "no GPU here"}]
    for r in rows:
        print(
            f"{r['case']:<36} {r['ours']!s:>8} {r['peer']!s:>8} {r['unit']:<7} {r['ratio']!s:>6} "
            f"(goal {r['goal']}) {r['ok']}  {r['note']}",
            file=sys.stderr,
        )
    machine = f"{name}, {os.cpu_count()} cores"
    print(json.dumps({"benchmark": "encode", "machine": machine, "rows": rows}))


def row(case: str, ours: float, peer: float, goal: float, valid: bool, note: str) -> dict[str, Any]:
    ratio = ours / peer
    return {
        "case": case,
        "ours": round(ours, 1),
        "peer": round(peer, 1),
        "unit": "docs/s",
        "ratio": round(ratio, 2),
        "goal": goal,
        "ok": bool(valid and ratio >= goal),
        "note": note,
    }


if __name__ == "__main__":
    main()
