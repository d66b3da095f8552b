"""A sweep begins only where data/ holds what params.yaml describes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.params import read_params
from pipeline.provenance.dvc import dvc_digest
from pipeline.runtime.errors import InputError
from pipeline.tuning.prepared import require_prepared, trained_cells
from tests.projects import Project, lock_everything
from tests.tuning.conftest import change, lock_text


def forget_encode() -> None:
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    del lock["stages"]["encode"]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))


def read_other_tokens() -> None:
    Path("dvc.lock").write_text(Path("dvc.lock").read_text().replace("md5: t", "md5: u", 1))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (Path("dvc.lock").unlink, "the stage download never ran"),
        (forget_encode, "the stage encode never ran"),
        (lambda: change(lambda params: params["vocabulary"].update(size=9)), "another vocabulary.size than the corpus"),
        (lambda: change(lambda params: params["tokenize"].update(lowercase=False)), "another tokenize than"),
        (read_other_tokens, "data/tokens/sentences.parquet is another than the stage encode has read"),
        (lambda: Path("data/encoded/valid/ids.npy").unlink(), "data/encoded/valid is not what dvc.lock describes"),
        (lambda: Path("data/vocabulary.tsv").unlink(), "data/vocabulary.tsv is not what dvc.lock describes"),
        (lambda: Path("data/warm_start").rmdir(), "data/warm_start is missing"),
    ],
)
def test_what_is_missing_or_old_is_named_with_the_command(
    spoil: Callable[[], object], why: str, prepared: Project
) -> None:
    require_prepared(read_params())
    spoil()
    with pytest.raises(InputError, match=f"{why}.*; run `dvc repro encode warm_start` first"):
        require_prepared(read_params())


def test_a_text_of_ones_own_is_looked_at_and_a_url_is_not(prepared: Project) -> None:
    change(lambda params: params["download"].update(source="files", path="text.txt"))
    Path("text.txt").write_text("one\n")
    lock_text()
    lock = Path("dvc.lock").read_text().replace("md5: c", f"md5: {dvc_digest(Path('text.txt'))}")
    Path("dvc.lock").write_text(lock.replace("path: corpus", "path: text.txt"))
    require_prepared(read_params())
    Path("text.txt").write_text("two\n")
    with pytest.raises(InputError, match=r"text\.txt is not the text that was prepared; run"):
        require_prepared(read_params())
    change(lambda params: params["download"].update(path="https://example.org/text.txt"))
    lock_text()
    require_prepared(read_params())


def test_a_model_of_other_parameters_or_other_text_is_none_of_today(prepared: Project) -> None:
    prepared.train()
    text = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert trained_cells(read_params()) == []
    lock_everything()
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"] |= text
    paths = ("data/vocabulary.tsv", "data/encoded/train", "data/encoded/valid")
    deps = [{"path": path, "md5": dvc_digest(Path(path))} for path in paths]
    lock["stages"]["train@lstm"]["deps"] = deps
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert trained_cells(read_params()) == ["lstm"]
    deps[1]["md5"] = "of other text"
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert trained_cells(read_params()) == []
    deps[1]["md5"] = dvc_digest(Path(paths[1]))
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    change(lambda params: params["model"].update(hidden_size=9))
    assert trained_cells(read_params()) == []
