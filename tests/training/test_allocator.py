"""What training frees on a CPU leaves the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_SCRIPT = """
import ctypes, sys
from pathlib import Path
from splade_os.training.allocator import return_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
MB = 1 << 20

def take(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "on":
    assert return_freed_memory()
libc.free(take(30 * MB))  # from now on glibc keeps blocks of up to 30 MB
before = resident()
held = []
for _ in range(10):  # a hole of 20 MB below each block that stays
    hole = take(20 * MB)
    held.append(take(100_000))
    held.append(hole)
for block in held[1::2]:
    libc.free(block)
print((resident() - before) // MB)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt")
def test_freed_blocks_leave_the_process() -> None:
    def kept(switch: str, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, switch],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert kept("off") > 100
    assert kept("on") < 20


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from splade_os.training.allocator import return_freed_memory

    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1048576")
    assert not return_freed_memory()
