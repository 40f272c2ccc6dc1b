"""A GPU's streams, events and pinned memory, on a machine without one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from splade_os.encoding.cuda import CudaTransformer


class StandInStream:
    """Work is done when it is asked for, so that there is nothing to wait for; what was recorded
    must have been waited for before it is used."""

    waited: list[object]

    def __init__(self, device: object = None) -> None:
        self.waited = []
        self.synchronised = 0

    def wait_event(self, event: StandInEvent) -> None:
        assert event.recorded, "an event that nobody recorded orders nothing"
        self.waited.append(event)

    def synchronize(self) -> None:
        self.synchronised += 1


class StandInEvent:
    recorded = False

    def record(self, stream: object = None) -> None:
        self.recorded = True


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device on which `CudaTransformer` runs here. On a GPU nothing stands in for anything."""
    if torch.cuda.is_available():
        return torch.device("cuda:0")

    def nothing(*_: Any, **__: Any) -> Any:
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", nothing)
    monkeypatch.setattr(torch.cuda, "stream", nothing)
    monkeypatch.setattr(torch.cuda, "Stream", StandInStream)
    monkeypatch.setattr(torch.cuda, "Event", StandInEvent)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, _stream: None)
    return torch.device("cpu")


@pytest.fixture
def defaults(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose torch sees a GPU; the model lands on the device of the fixture."""
    if torch.cuda.is_available():
        return
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr("splade_os.encoding.choice._has_gpu", lambda: True)
    monkeypatch.setattr(
        "splade_os.encoding.cuda.CudaTransformer.__init__",
        lambda self, part, _device, dtype, init=CudaTransformer.__init__: init(
            self, part, gpu, dtype
        ),
    )
