"""Which backend and precision run a model here.

Measured on CPUs against sentence-transformers in fp32 (``benchmarks/encode.py``): int8 in ONNX
Runtime is the fastest, where its weights stay close; bf16 comes next, but only where the
processor multiplies it natively (elsewhere it is emulated, many times slower than fp32); then
fp32 in ONNX Runtime, then fp32 in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from splade_os.encoding.onnx_backend import graph_file, read_manifest
from splade_os.encoding.processor import NATIVE_BF16, processor_flags
from splade_os.encoding.resolve import content_hash
from splade_os.errors import ModelError, SettingsError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
BackendName = Literal["auto", "torch", "onnx", "none"]

INT8_MEAN_ERROR = 0.08
"""Mean relative error of weights, measured at export, up to which int8 is chosen by itself.

At most .005 of nDCG@10 may be lost. A graph of the untrained starter that was off by 19 % lost
.0072 without the lexical prior and .0030 with it (SciFact, 1,200 documents, IDF queries).
"""
_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, WSL, ROCm


@dataclass(frozen=True)
class Choice:
    """How a model runs.

    Attributes:
        backend: ``torch``, ``onnx``, or ``none``: the model is not loaded.
        device: torch device, e.g. ``cuda``.
        precision: ``float32``, ``bfloat16``, ``float16`` or ``int8``.
        graph: (``onnx``) the graph.
        reason: why this precision, for people.
    """

    backend: Literal["torch", "onnx", "none"]
    device: str
    precision: str
    graph: Path | None
    reason: str


def choose(
    folder: Path,
    device: str | None = None,
    precision: Precision | None = None,
    backend: BackendName = "auto",
    *,
    flags: frozenset[str] | None = None,
) -> Choice:
    """Decide, without loading anything.

    Args:
        folder: of the transformer.
        device: torch device; ``None`` = the first GPU, else the CPU.
        precision: ``None`` = float32 on a CPU, bfloat16 on a GPU (float16 on one without it).
            ``auto`` = the same on a GPU; on a CPU int8 where the model has such a graph
            and the export measured a mean error of at most `INT8_MEAN_ERROR`, else bfloat16
            where the processor computes it natively, else float32.
        backend: ``auto`` = ONNX Runtime on a CPU where the model has a graph of the precision;
            ``none`` = do not load it.
        flags: of the processor; default those of this one.

    Raises:
        ModelError: the model has no graph that was asked for, or one of other weights.
        SettingsError: the wishes contradict one another.
    """
    if backend == "none":
        return Choice("none", "none", "none", None, "nothing is encoded")
    where = device or ("cuda" if _has_gpu() else "cpu")
    flags = processor_flags() if flags is None else flags
    if where != "cpu":
        if backend == "onnx" or precision == "int8":
            raise SettingsError(
                f"{'int8' if precision == 'int8' else 'ONNX Runtime'} runs on the CPU only, "
                f"not on {where}.",
                hint="Add --device cpu.",
            )
        if precision in (None, "auto"):
            return Choice("torch", where, _gpu_precision(where), None, "the default of a GPU")
        return Choice("torch", where, str(precision), None, "as asked for")
    onnx = backend != "torch" and (backend == "onnx" or find_spec("onnxruntime") is not None)
    torch = backend != "onnx" and find_spec("torch") is not None
    if precision != "auto":
        reason = "as asked for" if precision else "the default of a CPU"
        precision = precision or "float32"
        graph = _graph(folder, precision) if onnx else None
        if graph is not None:
            return Choice("onnx", "cpu", precision, graph, reason)
        if backend == "onnx":
            raise _no_graph(folder, precision)
        if precision == "int8":
            raise SettingsError(
                "int8 runs in ONNX Runtime only.",
                hint="Export the model (splade-os export MODEL --to onnx --out FOLDER), name "
                "the new folder, and install splade-os[onnx].",
            )
        return Choice("torch", "cpu", precision, None, reason)
    graph = _graph(folder, "int8") if onnx else None
    if graph is not None:
        error = _measured_error(graph)
        if error is not None and error <= INT8_MEAN_ERROR:
            return Choice("onnx", "cpu", "int8", graph, f"mean error {error:.1%} at export")
    if torch and flags & NATIVE_BF16:
        name = sorted(flags & NATIVE_BF16)[-1]
        return Choice("torch", "cpu", "bfloat16", None, f"native here: {name}")
    graph = _graph(folder, "float32") if onnx else None
    if graph is not None:
        return Choice("onnx", "cpu", "float32", graph, "no faster one keeps the quality here")
    if backend == "onnx":
        raise _no_graph(folder, "float32")
    return Choice("torch", "cpu", "float32", None, "no faster one keeps the quality here")


def _graph(folder: Path, precision: str) -> Path | None:
    """The graph, made from the weights that the folder holds now."""
    graph = graph_file(folder, precision)
    if graph is not None and read_manifest(graph).get("content_hash") != content_hash(folder):
        raise ModelError(
            f"{graph} was made from other weights than those in {folder}.",
            hint="Export the model again, or --backend torch.",
        )
    return graph


def _no_graph(folder: Path, precision: str) -> ModelError:
    return ModelError(
        f"{folder} has no ONNX graph of precision {precision}.",
        hint="Make one: splade-os export MODEL --to onnx --out FOLDER.",
    )


def _measured_error(graph: Path) -> float | None:
    try:
        checks = read_manifest(graph)["checks"]
        return next(float(c["mean_error"]) for c in checks if c["precision"] == "int8")
    except (KeyError, TypeError, ValueError, StopIteration):
        return None  # a graph of unknown quality is used when asked for, never by itself


def _has_gpu() -> bool:
    """Whether torch sees a GPU. It is imported only where a device node says that one may be."""
    if not any(Path(node).exists() for node in _GPU_NODES) or find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def torch_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        SettingsError: torch knows no such device.
    """
    import torch

    try:
        return torch.device(name)
    except RuntimeError:
        raise SettingsError(f"{name!r} is no torch device, e.g. cpu or cuda:0.") from None


def _gpu_precision(device: str) -> str:
    import torch

    if torch_device(device).type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
