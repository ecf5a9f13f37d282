"""Run a command with the plainest kernels that its libraries have, and on one thread: their sums round otherwise.

A test that hangs on the last bit of a float passes on one processor and fails on the next. `make test-kernels` finds
it on this one. Each setting was seen to change results: of numpy's elementary functions, OpenBLAS in numpy and scipy,
PyTorch's own kernels, oneDNN's convolutions, MKL's products, loops that Numba compiles, and libsoxr. FFmpeg and ONNX
Runtime have no such switch.
"""

from __future__ import annotations

import os
import platform
import sys

import numpy as np

ANYWHERE = {
    "ATEN_CPU_CAPABILITY": "default",
    "NUMBA_CPU_NAME": "generic",
    "SOXR_USE_SIMD": "0",
    "OMP_NUM_THREADS": "1",
}
# Haswell is what OpenBLAS takes by itself where it does not take AVX-512; Nehalem, without AVX, differs from both.
X86 = {"OPENBLAS_CORETYPE": "Nehalem", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}


def other_kernels() -> dict[str, str]:
    """The environment in which libraries take other kernels than this processor's best."""
    # Of a feature that it does not dispatch to numpy warns, and of one that it cannot go without it ends.
    dispatched = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return {
        **ANYWHERE,
        **(X86 if platform.machine().lower() in ("x86_64", "amd64") else {}),
        **({"NPY_DISABLE_CPU_FEATURES": ",".join(dispatched)} if dispatched else {}),
    }


if __name__ == "__main__":
    chosen = other_kernels()
    print(*(f"{name}={value}" for name, value in chosen.items()), *sys.argv[1:], file=sys.stderr)
    os.execvpe(sys.argv[1], sys.argv[1:], {**os.environ, **chosen})
