"""The packages and the machine of this process."""

import platform
from importlib.metadata import distributions, version
from pathlib import Path

from pipeline.runtime.exactness import why_not_exact


def packages() -> str:
    """Every package of this process's environment, `NAME==VERSION` a line, as constraints.txt has them."""
    found = {f"{package.metadata['Name']}=={package.version}" for package in distributions()}
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def machine_params() -> dict[str, str]:
    """Parameters that name the libraries and the machine of this process."""
    import torch

    return {
        "env.python": platform.python_version(),
        **{f"env.{library}": version(library) for library in ("torch", "numpy", "nltk", "mlflow")},
        "machine.platform": platform.platform(),
        "machine.processor": _processor(),
        "machine.threads": str(torch.get_num_threads()),
        "machine.exact": why_not_exact() or "yes",
        "machine.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _processor() -> str:
    """The processor's name; platform.processor() is empty on most Linux machines."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
