"""Samples of processor, memory and GPUs."""

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.tracking.machine_load import Gpus, MachineLoad


def test_samples_have_the_names_that_mlflow_shows_and_the_time_since_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    began = int(time.time() * 1000) - 5000
    load, points = MachineLoad(began), []
    deadline = time.monotonic() + 60
    while not points and time.monotonic() < deadline:
        time.sleep(0.02)
        points = load.collected()
    load.stop()
    values = {point.key: point.value for point in points}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(values)
    assert 0 < values["system/system_memory_usage_percentage"] < 100
    assert all(point.step == point.timestamp - began >= 5000 for point in points)


def test_gpus_are_read_and_one_gauge_that_fails_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: Any) -> None:
        raise RuntimeError("not supported")

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=2e9, total=8e9),
        nvmlDeviceGetUtilizationRates=fails,
        nvmlDeviceGetPowerUsage=lambda _: 50_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 200_000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert Gpus().read() == {
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_0_memory_usage_megabytes": 2000.0,
        "gpu_0_power_usage_watts": 50.0,
        "gpu_0_power_usage_percentage": 25.0,
    }


def test_without_the_library_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Gpus().read() == {}
