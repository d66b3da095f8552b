"""How busy the machine is while a model trains: sampled beside the training, sent with the points of its epochs.

MLflow's own monitor sends each sample from its thread, and waits for it at the end: a hanging server would hold up
training. So its gauges are read here, and what they say goes the way of all other metrics, `BestEffort`.
"""

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

PREFIX = "system/"  # what MLflow shows under "System metrics"
SECONDS = 5.0  # between two samples, unless MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says otherwise


class MachineLoad:
    """Processor, memory and, where MLflow can read it, GPU of the machine; one sample every few seconds.

    A point's step is the time since `began` in milliseconds: a training run that resumes after an interruption adds to
    its curves, and no step is the number of an epoch, whose points MLflow copies onto the model.
    """

    def __init__(self, began: int) -> None:
        """Start sampling; needs mlflow to be set up.

        Args:
            began: when the run began, in milliseconds since 1970.
        """
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

        self._began = began
        self._interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SECONDS
        self._gauges = _gauges()
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

        # A thread's first look at the processor has nothing to compare with and reads 0%.
        self._gauges[0].collect_metrics()
        self._gauges[0].clear_metrics()
        while not self._over.wait(self._interval):
            now = int(time.time() * 1000)
            for gauge in self._gauges:
                try:
                    gauge.collect_metrics()
                    values = gauge.aggregate_metrics() or {}
                    gauge.clear_metrics()
                except Exception:  # a gauge that cannot be read is no reason to stop training
                    continue
                with self._lock:
                    self._points += [
                        Metric(PREFIX + key, value, now, now - self._began) for key, value in values.items()
                    ]


def _gauges() -> "list[BaseMetricsMonitor]":
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    try:
        return [CPUMonitor(), GPUMonitor()]
    except Exception:  # there is no GPU, or no library to ask it
        return [CPUMonitor()]
