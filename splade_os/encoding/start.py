"""From what is wished to a running backend: on one device, or on several."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from splade_os.encoding.backend import Backend
from splade_os.encoding.choice import BackendName, Choice, Precision, choose, torch_device
from splade_os.encoding.layout import SpladePart
from splade_os.encoding.onnx_backend import OnnxBackend, graph_file
from splade_os.encoding.parallel import ParallelBackend
from splade_os.encoding.stepped import with_steps
from splade_os.encoding.unloaded import Unloaded
from splade_os.errors import MissingExtraError, SettingsError


def start_backend(
    part: SpladePart,
    device: str | None,
    precision: Precision | None,
    backend: BackendName,
) -> tuple[Backend, Choice]:
    """Load a model; arguments as those of `DocumentEncoder.load`."""
    devices = _devices(device)
    choice = choose(part.folder, devices[0], precision, backend)
    on_cpu = choice.backend == "torch" and choice.device == "cpu" and backend == "auto"
    if on_cpu and find_spec("torch") is None and graph_file(part.folder, choice.precision):
        raise MissingExtraError("Encoding", "onnx")  # a fortieth of torch, and enough
    start = partial(_start, part, choice)
    if len(devices) == 1:
        return start(choice.device), choice
    return ParallelBackend(start, [str(each) for each in devices]), choice


def exact_backend(part: SpladePart, running: Backend, choice: Choice) -> Backend:
    """The model in float32 on the CPU, with the library that runs it: what is measured with it
    is the same on every device and in every precision."""
    if choice.backend == "none" or (choice.precision == "float32" and choice.device == "cpu"):
        return running
    wanted: BackendName = "onnx" if choice.backend == "onnx" else "torch"
    return start_backend(part, "cpu", "float32", wanted)[0]


def _devices(wish: str | None) -> list[str | None]:
    """``None`` = whichever is best."""
    if wish is None:
        return [None]
    if wish == "all":
        try:
            import torch
        except ImportError:
            raise MissingExtraError("Encoding on GPUs", "torch") from None
        found: list[str | None] = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        if not found:
            raise SettingsError("torch sees no GPU, so there is no device to take all of.")
        return found
    names: list[str | None] = [name.strip() for name in wish.split(",")]
    if "" in names or len({str(name).split(":")[0] for name in names}) > 1:
        raise SettingsError(
            f"Device {wish!r}: give one, several of one kind separated by commas, or all.",
            hint="For example cpu, cuda:1, or cuda:0,cuda:1.",
        )
    return names


def _start(part: SpladePart, choice: Choice, device_name: str) -> Backend:
    if choice.backend == "none":
        return Unloaded(part.folder)
    return with_steps(_transformer(part, choice, device_name), part)


def _transformer(part: SpladePart, choice: Choice, device_name: str) -> Backend:
    if choice.graph is not None:
        return OnnxBackend(choice.graph, choice.precision)
    try:
        import torch

        from splade_os.encoding.transformer import SpladeTransformer
    except ImportError:
        raise MissingExtraError("Encoding with torch", "torch") from None
    device = torch_device(device_name)
    dtype = getattr(torch, choice.precision)
    if device.type == "cuda":
        from splade_os.encoding.cuda import CudaTransformer

        if not torch.cuda.is_available():
            raise SettingsError(
                f"torch sees no GPU, so nothing runs on {device}.",
                hint="Check nvidia-smi and that torch was installed with CUDA; or --device cpu.",
            )
        return CudaTransformer(part, device, dtype)
    return SpladeTransformer(part, device, dtype)
