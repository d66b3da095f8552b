"""How busy the machine is while a model trains: sampled beside training, sent with the points of its epochs.

MLflow's own monitor sends each sample from its thread and waits for it at the end: a server that hangs would hold up
training. So samples are taken here, and go the way of all other metrics, `BestEffort`.
"""

import importlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from mlflow.entities import Metric

PREFIX = "system/"  # what MLflow shows under "System metrics"


class MachineLoad:
    """Processor, memory and, where NVIDIA's library `pynvml` is installed, GPUs; one sample every few seconds.

    A point's step is the time since `began` in milliseconds: a training run that is resumed continues its curves, and
    no step is the number of an epoch, whose points MLflow copies onto the model.
    """

    def __init__(self, began: int) -> None:
        """Start sampling for a run that began at `began`, in milliseconds since 1970."""
        self._began = began
        # Seconds between two samples, by MLflow's own setting.
        self._interval = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or 5)
        self._points: list[Metric] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._sample, name="machine load", daemon=True).start()

    def collected(self) -> "list[Metric]":
        """The points since the last call."""
        with self._lock:
            points, self._points = self._points, []
        return points

    def stop(self) -> None:
        """Take no more samples; waits for nothing."""
        self._over.set()

    def _sample(self) -> None:
        from mlflow.entities import Metric

        gpus = Gpus()
        psutil.cpu_percent()  # the first look has nothing to compare with and reads 0%
        while not self._over.wait(self._interval):
            now = int(time.time() * 1000)
            values = processor_and_memory() | gpus.read()
            with self._lock:
                self._points += [
                    Metric(PREFIX + key, round(value, 1), now, now - self._began) for key, value in values.items()
                ]


def processor_and_memory() -> dict[str, float]:
    """In percent and in megabytes; of the processor since the last call."""
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.used / memory.total * 100,
    }


class Gpus:
    """The GPUs that `pynvml` finds; none where it is not installed or finds no driver."""

    def __init__(self) -> None:
        self._handles: list[Any] = []
        try:
            self._nvml: Any = importlib.import_module("pynvml")
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        except Exception:  # no library, no driver, no GPU: nothing to measure
            pass

    def read(self) -> dict[str, float]:
        """Load, memory and power of each GPU, in percent, megabytes and watts; without those that cannot be read."""
        values: dict[str, float] = {}
        for index, handle in enumerate(self._handles):
            for gauge in (self._memory, self._load, self._power):
                try:
                    values |= {f"gpu_{index}_{key}": value for key, value in gauge(handle).items()}
                except Exception:  # no reason to end a training run
                    continue
        return values

    def _memory(self, handle: Any) -> dict[str, float]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        share = memory.used / memory.total
        return {"memory_usage_percentage": share * 100, "memory_usage_megabytes": memory.used / 1e6}

    def _load(self, handle: Any) -> dict[str, float]:
        return {"utilization_percentage": self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu}

    def _power(self, handle: Any) -> dict[str, float]:
        used, limit = self._nvml.nvmlDeviceGetPowerUsage(handle), self._nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
        return {"power_usage_watts": used / 1000, "power_usage_percentage": used / limit * 100}
