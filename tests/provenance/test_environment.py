"""What is said of packages and machine."""

import platform
from importlib.metadata import version

from pipeline.provenance.environment import machine_params, packages


def test_machine_and_libraries_are_named() -> None:
    params = machine_params()
    assert params["env.torch"].startswith("2.")
    assert int(params["machine.threads"]) >= 1
    assert params["machine.processor"]
    assert params["env.python"] == platform.python_version()


def test_packages_are_those_that_are_installed() -> None:
    lines = packages().splitlines()
    assert f"numpy=={version('numpy')}" in lines
    assert lines == sorted(lines, key=str.lower)
