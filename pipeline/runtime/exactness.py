"""Whether this process computes the same bytes as others: settings, processor, and a few results to compare."""

import hashlib
import math
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

from pipeline.runtime.processors import has_avx2

# Each library picks code for the processor at hand, and such code adds up in other orders. With these variables of the
# environment, all take the code for AVX2, which every x86-64 server of the last ten years has, and MKL does not let
# threads change a product.
SAME_ARITHMETIC = {
    "MKL_CBWR": "AVX2,STRICT",
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own functions
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}

# SHA-256, its first digits, of what each operation gives on every processor with AVX2. (Without the
# remarks, the scanner for secrets would leave this file out of patches.)
SAME_RESULTS = {
    "Python's exp": "28db08362d7e",  # pragma: allowlist secret
    "Python's log": "ea6e2e9da26f",  # pragma: allowlist secret
    "Python's cos": "98a2ac07e772",  # pragma: allowlist secret
    "Python's erf": "7e76301a6752",  # pragma: allowlist secret
    "NumPy's exp": "28db08362d7e",  # pragma: allowlist secret
    "NumPy's log": "ea6e2e9da26f",  # pragma: allowlist secret
    "NumPy's log10": "90bca3d7c2cc",  # pragma: allowlist secret
    "NumPy's power": "41254c5fcc0a",  # pragma: allowlist secret
    "NumPy's sum": "1208171e721a",  # pragma: allowlist secret
    "torch's product": "61dd3f3c6dbd",  # pragma: allowlist secret
    "torch's tanh": "75bf8f1e5c86",  # pragma: allowlist secret
    "torch's softmax": "a54d0c911431",  # pragma: allowlist secret
    "torch's log_softmax": "e2477155a8f6",  # pragma: allowlist secret
    "torch's log1p": "adb6b1d0a5bd",  # pragma: allowlist secret
    "torch's norm": "ccbfef454dbe",  # pragma: allowlist secret
    "torch's sum of columns": "7d870328e006",  # pragma: allowlist secret
}


def why_not_exact(numpy: bool = True) -> str | None:
    """Why this process may compute other bytes than another machine, in a few words; None: it does not.

    Torch is looked at only where it is loaded. `numpy`: whether NumPy's functions matter.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"this is not an x86-64 processor but {platform.machine()}"
    if not has_avx2():
        return "this processor does not have AVX2 and FMA, or the system does not say so"
    for name, value in SAME_ARITHMETIC.items():
        if os.environ.get(name) != value and (numpy or not name.startswith("NPY")):
            return f"{name} is {os.environ.get(name, 'not set')}, not {value}; unset it"
    for name, digest in results():
        if digest != SAME_RESULTS[name] and (numpy or not name.startswith("NumPy")):
            return f"{name} gives other results here"
    return None


def warn_if_not_exact(numpy: bool = True) -> None:
    """Say so in a line on standard error where results may differ from those of another machine."""
    if reason := why_not_exact(numpy):
        told = "results may differ from another machine's in their last digits"
        print(f"warning: {told}: {reason} (docs/reproducibility.md)", file=sys.stderr, flush=True)


def results() -> Iterator[tuple[str, str]]:
    """Each operation of `SAME_RESULTS` and the digest of what it gives here; torch's only where it is loaded."""
    import numpy as np

    numbers = [0.01 + (37 * n % 4093) / 400 for n in range(4096)]
    for function in (math.exp, math.log, math.cos, math.erf):
        yield f"Python's {function.__name__}", _digest(np.array([function(x) for x in numbers]))
    x_N = np.array(numbers)
    for function in (np.exp, np.log, np.log10):
        yield f"NumPy's {function.__name__}", _digest(function(x_N))
    yield "NumPy's power", _digest(x_N**0.75)
    yield "NumPy's sum", _digest(np.array([x_N[:n].sum() for n in range(4000, 4096)]))
    torch: Any = sys.modules.get("torch")
    if torch:
        x_32x128 = torch.from_numpy((x_N - 5).astype(np.float32)).view(32, 128)
        yield "torch's product", _digest(torch.addmm(x_32x128.repeat(1, 3), x_32x128, x_32x128.repeat(4, 3)).numpy())
        yield "torch's tanh", _digest(x_32x128.tanh().numpy())
        yield "torch's softmax", _digest(x_32x128.softmax(1).numpy())
        yield "torch's log_softmax", _digest(x_32x128.log_softmax(1).numpy())
        yield "torch's log1p", _digest(x_32x128.abs().log1p().numpy())
        yield "torch's norm", _digest(torch.linalg.vector_norm(x_32x128).numpy())
        yield "torch's sum of columns", _digest(x_32x128.sum(0).numpy())


def _digest(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:12]
