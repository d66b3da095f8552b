import os
import subprocess
import sys

import pytest
import torch

from pipeline.runtime import exactness
from pipeline.runtime.exactness import SAME_ARITHMETIC, SAME_RESULTS, results, warn_if_not_exact, why_not_exact
from tests.conftest import PROJECT


def test_here_every_operation_gives_what_it_gives_elsewhere() -> None:
    assert torch.__version__.startswith("2.13.0")
    assert dict(results()) == SAME_RESULTS
    assert why_not_exact() is None


@pytest.mark.parametrize("name", SAME_ARITHMETIC)
def test_a_setting_of_the_users_is_named(name, monkeypatch) -> None:
    monkeypatch.setenv(name, "other")
    assert why_not_exact() == f"{name} is other, not {SAME_ARITHMETIC[name]}; unset it"
    monkeypatch.delenv(name)
    assert why_not_exact() == f"{name} is not set, not {SAME_ARITHMETIC[name]}; unset it"


@pytest.mark.parametrize("name", SAME_RESULTS)
def test_the_first_operation_that_differs_is_named(name, monkeypatch) -> None:
    monkeypatch.setitem(exactness.SAME_RESULTS, name, "another")
    assert why_not_exact() == f"{name} gives other results here"


def test_where_numpy_does_not_matter_it_is_not_looked_at(monkeypatch) -> None:
    monkeypatch.delenv("NPY_DISABLE_CPU_FEATURES")
    monkeypatch.setitem(exactness.SAME_RESULTS, "NumPy's exp", "another")
    assert why_not_exact(numpy=False) is None


def test_another_processor_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(exactness, "has_avx2", lambda: False)
    warn_if_not_exact()
    assert capsys.readouterr().err == (
        "warning: results may differ from another machine's in their last digits: this processor does not have AVX2 "
        "and FMA, or the system does not say so (docs/reproducibility.md)\n"
    )
    monkeypatch.setattr(exactness.platform, "machine", lambda: "aarch64")
    assert why_not_exact() == "this is not an x86-64 processor but aarch64"


def test_nothing_is_said_where_nothing_differs(capsys) -> None:
    warn_if_not_exact()
    assert capsys.readouterr().err == ""


def test_a_stage_sets_arithmetic_before_anything_is_loaded_and_loads_no_torch_to_look_at_it() -> None:
    code = (
        "import stages, sys; from pipeline.runtime.exactness import why_not_exact; "
        "print(why_not_exact(), 'torch' in sys.modules)"
    )
    unset = {key: value for key, value in os.environ.items() if key not in SAME_ARITHMETIC}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=unset, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None", "False"]
