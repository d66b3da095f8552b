"""The switches of a whole process: each is set where it should be, and nowhere else."""

import ast
import csv
import logging
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.runtime import settings
from pipeline.runtime.exactness import SAME_ARITHMETIC
from tests.conftest import PROJECT

# Modules that may change what is not theirs, each with what it changes and why.
ALLOWED = {
    # MLflow's scoring server has no hook, and in its process nothing but the server runs.
    "pipeline/inference/request.py": {"scoring_server.invocations ="},
    # `rnnlm` works from any folder of a project, as git does.
    "pipeline/commands/common.py": {"os.chdir()"},
    # Handlers are given back when a block ends.
    "pipeline/runtime/stopping.py": {"signal.signal()", "signal.set_wakeup_fd()"},
    # MLflow's server reads its settings there, and in this process nothing but the server runs.
    "pipeline/review/ui.py": {"os.environ ="},
    # A model can only be logged to the experiment of the process.
    "pipeline/tracking/logged_model.py": {"mlflow.set_experiment()"},
    # MLflow tells of each version that it registers; what fails is raised.
    "pipeline/tracking/registry.py": {"contextlib.redirect_stderr()"},
    # MLflow makes a folder that it does not use.
    "pipeline/tracking/relocation.py": {"atexit.register()"},
    # Within a block that gives them back.
    "pipeline/runtime/parallel.py": {"warnings.filterwarnings()", "os.environ =", "os.environ.pop()"},
}
# Calls that change the whole process, by the end of their names.
CALLS = (
    "setLevel",
    "basicConfig",
    "logging.disable",
    "os.putenv",
    "os.unsetenv",
    "environ.setdefault",
    "environ.update",
    "environ.pop",
    "environ.clear",
    "set_tracking_uri",
    "field_size_limit",
    "set_num_threads",
    "use_deterministic_algorithms",
    "set_default_dtype",
    "set_start_method",
    "set_experiment",
    "signal.signal",
    "os.chdir",
    "os.umask",
    "setrlimit",
    "setrecursionlimit",
    "matplotlib.use",
    "redirect_stderr",
    "redirect_stdout",
    "set_wakeup_fd",
    "atexit.register",
    "filterwarnings",
    "mallopt",
)


def changes(tree: ast.AST) -> Iterator[str]:
    """What a module does to its process: calls of `CALLS`, and assignments to os.environ and to imported modules."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {(name.asname or name.name).partition(".")[0] for node in imports for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if any(f".{called}".endswith(f".{name}") for name in CALLS):
                yield f"{called}()"
            elif called in ("setattr", "delattr") and ast.unparse(node.args[0]).partition(".")[0] in imported:
                yield f"{called}({ast.unparse(node.args[0])})"
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [getattr(node, "target", None)]
        for target in targets:
            if not isinstance(target, ast.Attribute | ast.Subscript):
                continue
            written = ast.unparse(target)
            if written.startswith(("os.environ", "environ[")):
                yield "os.environ ="
            elif written.partition(".")[0] in imported or "sys.modules" in written:
                yield f"{written} ="


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os\nos.environ['A'] = 'b'", ["os.environ ="]),
        ("import os\ndel os.environ['A']", ["os.environ ="]),
        ("import os\nos.environ |= {'A': 'b'}", ["os.environ ="]),
        ("from os import environ\nenviron['A'] = 'b'", ["os.environ ="]),
        ("import os\nos.environ.setdefault('A', 'b')", ["os.environ.setdefault()"]),
        ("import logging\nlogging.getLogger('a').setLevel(1)", ["logging.getLogger('a').setLevel()"]),
        ("import a.b\na.b.c = 1", ["a.b.c ="]),
        ("def f():\n    from a import b\n    b.c = 1", ["b.c ="]),
        ("import a\nsetattr(a, 'b', 1)", ["setattr(a)"]),
        ("import sys\nsys.modules['a'].b = 1", ["sys.modules['a'].b ="]),
        ("import os\nmine = os.environ | {'A': 'b'}\nself.a = mine['b'] = 1\nmine.setdefault('A', 1)", []),
    ],
)
def test_what_changes_a_process_is_seen(code: str, found: list[str]) -> None:
    assert list(changes(ast.parse(code))) == found


def test_no_other_module_changes_its_process() -> None:
    found = {}
    for folder in ("pipeline", "stages"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            name = str(path.relative_to(PROJECT))
            made = set(changes(ast.parse(path.read_text(encoding="utf-8"))))
            if made and name != "pipeline/runtime/settings.py":
                found[name] = made
    assert found == ALLOWED


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, settings.SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "passive"}, None),
    ],
)
@pytest.mark.parametrize("start", ["import stages", "from pipeline import cli; cli.run = lambda app: 0; cli.main()"])
def test_stages_and_commands_limit_spinning_unless_the_user_says_how_to_wait(
    start: str, environment: dict, count: str | None
) -> None:
    code = f"{start}; import os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().split() == [str(count), "False"]


def test_arithmetic_is_set_unless_the_user_has_set_it_or_the_processor_lacks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SAME_ARITHMETIC:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(settings, "has_avx2", lambda: False)
    settings.compute_the_same_everywhere()
    assert not set(SAME_ARITHMETIC) & set(os.environ)
    monkeypatch.setattr(settings, "has_avx2", lambda: True)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    settings.compute_the_same_everywhere()
    assert {name: os.environ[name] for name in SAME_ARITHMETIC} == SAME_ARITHMETIC | {"MKL_CBWR": "COMPATIBLE"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
@pytest.mark.parametrize(
    ("call", "environment", "kept"),
    [("keep_freed_memory()", {}, True), ("", {}, False), ("keep_freed_memory()", {"GLIBC_TUNABLES": ""}, False)],
)
def test_memory_is_kept_for_the_next_step_unless_the_user_tunes_it(call: str, environment: dict, kept: bool) -> None:
    code = f"""
import ctypes, resource, torch
from pipeline.runtime.settings import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory
for name in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
    ctypes.CDLL(None).mallopt(name, 100_000)  # as glibc begins; it then adapts both, by luck enough
{call}
def step():
    gradients = [torch.zeros(3_000_000) for _ in range(4)]  # 48 MB
def steps(count):
    for _ in range(count):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = steps(10)
print(steps(10) - before)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True)
    assert (int(done.stdout) < 3_000) is kept  # pages; ten steps have 117,000


def test_nltk_gets_no_time_limit_where_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = SimpleNamespace(DEFAULT_TIMEOUT=5)
    monkeypatch.setitem(sys.modules, "nltk.redos", limits)
    settings.lift_nltk_time_limit()
    assert limits.DEFAULT_TIMEOUT is None


def test_csv_fields_may_be_long() -> None:
    before = csv.field_size_limit(100)
    try:
        settings.allow_long_csv_fields()
        assert list(csv.reader(["x" * 1000])) == [["x" * 1000]]
    finally:
        csv.field_size_limit(before)


def test_mlflow_is_quiet_and_finds_the_store_but_what_the_user_has_set_stays(tmp_path: Path) -> None:
    code = """
import logging, os, sys
from pipeline.runtime.settings import MLFLOW, MLFLOW_LOGGERS, use_mlflow
use_mlflow(sys.argv[1])
import mlflow
print(mlflow.get_tracking_uri(), *(os.environ[name] for name in MLFLOW))
print({logging.getLogger(name).level for name in MLFLOW_LOGGERS})
"""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-c", code, store],
        cwd=PROJECT,
        env=os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = settings.MLFLOW | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77"}
    assert done.stdout.splitlines() == [" ".join([store, *wanted.values()]), f"{{{logging.ERROR}}}"]


@pytest.mark.parametrize(
    ("quieten", "names"), [(settings.quieten_dask, settings.DASK_LOGGERS), (settings.quieten_dvc, settings.DVC_LOGGERS)]
)
def test_libraries_raise_and_do_not_log(
    quieten: Callable[[], None], names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    try:
        quieten()
        for logger in loggers:
            logger.getChild("x").error("a file is missing")
        assert caplog.text == ""
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def test_nltk_is_imported_without_its_classifiers_which_others_still_can_import() -> None:
    code = (
        "import sys, scipy, pipeline.text.tokenizer, pipeline.text.sentences; "
        "print({'scipy.stats', 'sklearn'} & set(sys.modules)); "
        "import scipy.stats, sklearn.base; print(sklearn.base.BaseEstimator.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["set()", "BaseEstimator"]


def test_only_the_warning_of_weights_that_lie_apart_is_silenced() -> None:
    texts = (
        "RNN module weights are not part of single contiguous chunk of memory. This means they need to be compacted",
        "another one",
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        settings.quieten_cudnn()
        for text in texts:
            warnings.warn(text, stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["another one"]
