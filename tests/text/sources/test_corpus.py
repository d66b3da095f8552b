import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.params import load_params
from pipeline.runtime.errors import InputError
from pipeline.runtime.pins import read_constraints, write_pins
from pipeline.text.documents import Document, read_documents
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.sources.corpus import documents
from pipeline.text.sources.fetch import Fetcher
from pipeline.text.splits import SPLITS
from stages.download import download
from tests.conftest import PROJECT
from tests.text.test_tokenizer import check_lines

DOCUMENTS = Path("data/raw/documents.parquet")


def write_params(folder: Path, **changes: object) -> None:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    content["download"].update(changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RNNLM_MIRROR", raising=False)


def test_the_stage_writes_the_documents_of_the_configured_files(tmp_path: Path) -> None:
    write_params(tmp_path, source="files", path="mine.txt")
    Path("mine.txt").write_text("One document.\n\nAnother document.\n")
    download()
    found = list(read_documents(DOCUMENTS))
    assert [document.text for document in found] == ["One document.", "Another document."]
    assert {(document.split, document.tokenized) for document in found} == {(None, False)}


def test_an_empty_corpus(tmp_path: Path) -> None:
    write_params(tmp_path, source="files", path="mine.txt")
    Path("mine.txt").write_text("\n  \n")
    with pytest.raises(InputError, match=r"empty corpus: mine\.txt holds no text"):
        download()
    assert not DOCUMENTS.exists()


def test_a_corpus_of_the_users_own_table(tmp_path: Path) -> None:
    files = [{"split": split, "url": f"{split}.txt", "tokenized": True} for split in SPLITS]
    write_params(tmp_path, source="mine", sources={"mine": files})
    for split in SPLITS:
        Path(f"{split}.txt").write_text(f"a sentence of {split}\n")
    download()
    assert [(document.text, document.split, document.tokenized) for document in read_documents(DOCUMENTS)] == [
        (f"a sentence of {split}", split, True) for split in SPLITS
    ]
    write_params(tmp_path, source="mine", sources={"mine": [{"url": "empty.txt"}]})
    Path("empty.txt").touch()
    with pytest.raises(InputError, match=r"empty corpus: no file of download\.sources\.mine holds text"):
        download()


def preset(name: str, mirror: Path) -> list[Document]:
    params = load_params(PROJECT / "params.yaml").download.model_copy(update={"source": name})
    fetcher = Fetcher(params.max_bytes, Path("downloads"), mirror)
    found = list(documents(params, Path("unused"), fetcher))
    assert not Path("downloads").exists()  # all of it came from the mirror
    return found


def test_penn_treebank(shared_data: Path) -> None:
    found = preset("ptb", shared_data)
    words = {split: [d.text.split() for d in found if d.split == split] for split in SPLITS}
    assert [len(words[split]) for split in SPLITS] == [42_068, 3_370, 3_761]
    assert [sum(map(len, words[split])) for split in SPLITS] == [887_521, 70_390, 78_669]
    types = {word for split in SPLITS for sentence in words[split] for word in sentence}
    assert len(types) + 1 == 10_000  # with the end of a sentence
    assert {"<unk>", "N"} <= types
    assert all(document.tokenized for document in found)


def test_brown(shared_data: Path) -> None:
    found = preset("brown", shared_data)
    assert len(found) == 500
    assert (found[0].id, found[0].split, found[0].tokenized) == ("brown/ca01", None, True)
    assert found[0].text.startswith("The Fulton County Grand Jury said Friday an investigation of Atlanta's recent")
    # Francis and Kucera's million words, as NLTK counts them.
    assert sum(len(document.text.split()) for document in found) == 1_161_192
    assert sum(document.text.count("\n") + 1 for document in found) == 57_340


def test_wikitext_2(shared_data: Path, tmp_path: Path) -> None:
    # The training split is not among the shared files; its lines here are those of the validation split.
    folder = tmp_path / "raw.githubusercontent.com/pytorch/examples/37ce9402ff0cae48d764d7788810fd2ed8238b25"
    folder = folder / "word_language_model/data/wikitext-2"
    folder.mkdir(parents=True)
    for split, source in (("train", "valid"), ("valid", "valid"), ("test", "test")):
        shutil.copy(shared_data / "wikitext-2" / f"{source}.txt", folder / f"{split}.txt")
    found = preset("wikitext-2", tmp_path)
    # Merity et al. 2016 count 217,646 and 245,569 tokens, with an end for each line, empty ones too.
    for split, tokens in (("valid", 217_646), ("test", 245_569)):
        lines = (shared_data / "wikitext-2" / f"{split}.txt").read_text().splitlines()
        words = sum(len(document.text.split()) for document in found if document.split == split)
        assert words + len(lines) == tokens


def test_the_tutorials_comments(shared_data: Path) -> None:
    shutil.copy(shared_data / "reddit-comments-sample.csv", "reddit-comments-2015-08.csv")
    params = load_params(PROJECT / "params.yaml").download
    (file,) = params.sources["reddit"]
    assert file.checksum == "git:5c116635bce430ed464bcfadc8cc202c26f0b8a5"
    sample = file.model_copy(update={"url": "reddit-comments-2015-08.csv", "checksum": None})
    params = params.model_copy(update={"source": "reddit", "sources": {"reddit": [sample]}})
    assert len(list(documents(params, Path("unused"), Fetcher(1 << 30)))) == 212
    wrong = params.model_copy(update={"sources": {"reddit": [sample.model_copy(update={"checksum": file.checksum})]}})
    with pytest.raises(
        InputError, match=r"reddit-comments-2015-08\.csv has the checksum git:.*, but params\.yaml want"
    ):
        list(documents(wrong, Path("unused"), Fetcher(1 << 30)))


# Of the packages of the default corpus: to parse some thousand modules takes half a minute.
ALL = pytest.param(None, marks=pytest.mark.soak, id="all")
SOME = pytest.param(["networkx", "nltk"], id="some")


@pytest.fixture(scope="module")
def default_corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each document, by its id."""
    params = load_params(PROJECT / "params.yaml").download
    params = params.model_copy(update={"packages": request.param or params.packages})
    pins = tmp_path_factory.mktemp("pins") / "corpus.txt"
    write_pins(read_constraints(PROJECT / "constraints.txt"), params.packages, pins)
    return {document.id: document.text for document in documents(params, pins, Fetcher(params.max_bytes))}


@pytest.mark.parametrize("default_corpus", [ALL], indirect=True)
def test_the_size_of_the_default_corpus(default_corpus: dict[str, str]) -> None:
    assert 4000 < len(default_corpus) < 6000
    words = sum(len(text.split()) for text in default_corpus.values())
    assert 1_200_000 < words < 2_000_000


@pytest.mark.parametrize("default_corpus", [SOME, ALL], indirect=True)
def test_the_default_corpus(default_corpus: dict[str, str]) -> None:
    assert len(default_corpus) > 100
    assert list(default_corpus) == sorted(default_corpus)
    assert not any(junk in text for text in default_corpus.values() for junk in ("`", ">>>", "{", "://"))


@pytest.mark.parametrize("default_corpus", [SOME, ALL], indirect=True)
def test_the_default_corpus_has_nltk_tokens(default_corpus: dict[str, str]) -> None:
    splitter = SentenceSplitter("english")
    check_lines([sentence for text in default_corpus.values() for sentence in splitter.split(text)])
