"""What the processor of this machine is and can do."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of processors that multiply bf16 natively; the last one is ARM's."""
NATIVE_INT8 = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Flags of processors that add products of int8 up in 32 bits; the last one is ARM's."""


@cache
def processor_flags() -> frozenset[str]:
    """Instruction sets of the processor as Linux names them; empty where it does not say."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def processor_name() -> str:
    """What people call the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
