"""Files as people have them: how many documents are read of each, or what is said instead."""

from pathlib import Path

import pytest

from pipeline.evaluation.baselines import baseline_scores
from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar
from pipeline.runtime.remarks import Remarks
from pipeline.text.counting import build_vocabulary, count_words
from pipeline.text.encoded import load_split
from pipeline.text.encoding import encode_tokens
from pipeline.text.params import SourceFile, SplitShares, TokenizeParams
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.sources.text_files import file_documents
from pipeline.text.splits import SPLITS
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import write_tokens
from tests.conftest import PROJECT
from tests.text.sources.text_bytes import download_params

CASES = PROJECT.parent / "shared" / "cases"
OUTCOMES: dict[str, int | str] = {
    "00-plain/comments.csv": 2000,
    "00-plain/comments.txt": 2000,
    "01-csv-unquoted-commas/comments.csv": "line 2: the row has 3 fields, the header 2",
    "01-csv-unquoted-commas/one-column.csv": "line 2: the row has 4 fields, the header 1",
    "03-csv-backslash-quotes/comments.csv": "line 2: not valid CSV",
    "03-csv-backslash-quotes/space-before-quote.csv": "line 2: the row has 4 fields, the header 2",
    "05-zip-encrypted/corpus.zip": "is encrypted",
    "06-tar-dot-slash/absolute.tar.gz": 300,
    "06-tar-dot-slash/corpus.tar.gz": 300,
    "06-tar-dot-slash/double-slash.tar.gz": 300,
    "07-gz/really-gzip.csv": 300,
    "07-gz/really-gzip.txt": 300,
    "07-gz/really-zip.csv": "is a zip archive",
    "07-gz/trailing.txt.gz": 300,
    "07-gz/two-members.txt.gz": 300,
    "07-gz/zero-padded.txt.gz": 300,
    "10-jsonl/array.jsonl": "is one JSON array",
    "10-jsonl/corpus.json": "is of an unknown kind",
    "10-jsonl/corpus.ndjson": 300,
    "10-jsonl/crlf-blank.jsonl": 300,
    "10-jsonl/missing-key.jsonl": "line 101: no column 'body'",
    "10-jsonl/record-separator.jsonl": 300,
    "10-jsonl/trailing-comma.jsonl": "line 101: not valid JSON",
    "10b-headerless/a.csv": "no column 'body'",
    "11-cp1252/semicolon.csv": 300,
    "11-cp1252/sep-line.csv": 300,
    "11-cp1252/tabs.tsv": 300,
    "11-cp1252/windows.csv": r"line 4 \(byte 129\): not UTF-8; convert it",
    "11-cp1252/windows.txt": r"line 3 \(byte 107\): not UTF-8; convert it",
    "12-utf16/no-bom-le.txt": "has NUL characters",
    "12-utf16/notepad.txt": "UTF-16; convert it",
    "13-not-the-data/lfs.csv": "git lfs pull",
    "13-not-the-data/lfs.txt": "git lfs pull",
    "13-not-the-data/page.txt": 305,
    "14-parquet/binary.parquet": "holds binary, not text",
    "14-parquet/categories.parquet": 300,
    "14-parquet/dictbinary.parquet": "holds dictionary.*, not text",
    "14-parquet/dotted.parquet": "no column 'body'",
    "14-parquet/duplicate.parquet": "2 columns are named 'body'",
    "14-parquet/floats.parquet": "holds double, not text",
    "14-parquet/list.parquet": "holds list.*, not text",
    "14-parquet/nested.parquet": "no column 'body'",
    "14-parquet/null.parquet": 0,
    "15-no-spaces/arabic.txt": 300,
    "15-no-spaces/chinese.txt": 300,
    "15-no-spaces/thai.txt": 300,
    "19-toy/toy.txt": 96,
    "20-degenerate/one-word.txt": 400,
    "20-degenerate/passwords.txt": 4000,
    "20-degenerate/same-line.txt": 1000,
    "21-gutenberg/one-document.jsonl": 1,
    "21-gutenberg/pg1.txt": 154,
    "24-emoji/tweets.txt": 400,
}
# Folders that hold commands: what comes of them, and the test that shows it.
COMMANDS = {
    "08-symlinked-folder": ("links are followed", "test_a_folder_as_people_have_them"),
    "10-folder-of-other-kinds": ("known kinds are read, the others named", "test_a_folder_as_people_have_them"),
    "16-punkt-hang": ("three words in one sentence, at once", "test_a_line_without_an_end_is_one_sentence"),
    "17-long-sentence": ("100,000 words in one sentence, at once", "test_a_line_without_an_end_is_one_sentence"),
    "22-readable": (
        "as a person would write it",
        "tests/inference/test_generation.py::test_what_a_person_wrote_comes_back_from_its_tokens",
    ),
    "24-emoji": ("printed with replacements", "tests/test_cli.py::test_a_terminal_of_another_encoding_gets_escapes"),
    "26-exp-temp": (
        "the missing text is named, and `dvc add` gives it to DVC",
        "tests/system/test_dvc_complaints.py::test_dvc_6465_9162_text_that_git_does_not_track",
    ),
    "30-autocrlf": (
        "the same bytes in every checkout",
        "tests/provenance/test_git.py::test_a_checkout_has_the_bytes_of_the_commit_whatever_git_is_set_to",
    ),
    "32-monorepo": (
        "rebuilt and retrained like any project",
        "tests/system/test_versions.py::test_a_project_in_a_folder_of_a_larger_repository_is_rebuilt_and_retrained",
    ),
    "38-folder-names": (
        "runs and models as anywhere, and nothing outside",
        "tests/tracking/test_store.py::test_a_project_folder_may_have_any_name",
    ),
    "39-deleted-experiment": (
        "the command that brings it back",
        "tests/tracking/test_store.py::test_of_a_deleted_experiment_the_command_is_named_that_brings_it_back",
    ),
    "41-missing-driver": ("one line", "tests/tracking/test_store.py::test_a_missing_driver_is_one_line"),
    "42-two-first-uses": ("one store", "tests/tracking/test_store.py::test_two_first_uses_at_once_make_one_store"),
    "44-newline-in-uri": (
        "no second database",
        "tests/tracking/test_store.py::test_blanks_around_the_address_are_no_part_of_it",
    ),
    "45-no-affinity": (
        "all processors count",
        "tests/runtime/test_processors.py::test_a_system_that_does_not_say_which_it_assigns_counts_all",
    ),
}
# What is said besides, of files that are read.
WARNINGS = {
    "13-not-the-data/page.txt": "HTML, whose markup",
    "21-gutenberg/pg1.txt": "running text in lines of one width",
}
# What `tokenize` says of the text, by its default and with the setting that it offers; and the sentences with that.
WITHOUT_SPACES = {"15-no-spaces/chinese.txt": 900, "15-no-spaces/thai.txt": 300}


@pytest.mark.parametrize("name", OUTCOMES)
def test_each_file_is_read_or_refused_in_one_line(name: str) -> None:
    if not CASES.is_dir():
        pytest.skip("shared/cases is not here")
    expected = OUTCOMES[name]

    remarks = Remarks()

    def read(path: Path) -> list[str]:
        params = download_params(txt_documents="auto")
        found = file_documents(path, "", SourceFile(url="x"), params, remarks=remarks)
        return [document.text for document in found]

    if isinstance(expected, int):
        texts = read(CASES / name)
        assert len(texts) == expected
        assert not [text for text in texts if "\ufeff" in text or "\0" in text]
        assert [WARNINGS.get(name, "") in told for told in remarks.warnings] == [True] * (name in WARNINGS)
    else:
        with pytest.raises(InputError, match=expected) as refused:
            read(CASES / name)
        assert "\n" not in str(refused.value)


def test_every_case_has_its_outcome() -> None:
    if not CASES.is_dir():
        pytest.skip("shared/cases is not here")
    assert {name.partition("/")[0] for name in OUTCOMES} | set(COMMANDS) == {path.name for path in CASES.iterdir()}
    for _, test in COMMANDS.values():
        file, _, name = test.rpartition("::")
        code = (PROJECT / file if file else Path(__file__)).read_text()
        assert f"\ndef {name}(" in code, test


def test_a_folder_as_people_have_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mix, elsewhere = tmp_path / "mix", tmp_path / "elsewhere"
    for folder, said in ((elsewhere, "Sentence number {} here.\n"), (mix, "Another line {} there.\n")):
        folder.mkdir()
        (folder / "a.txt").write_text("".join(said.format(number) for number in range(60)))
    (mix / "part").symlink_to(elsewhere)
    (mix / "more.ndjson").write_text('{"body": "one"}\n')
    (mix / "table.tsv").write_text("id\tbody\n1\ttwo\n")
    for name in ("old.zip", "y.txt.bz2"):
        (mix / name).touch()
    remarks = Remarks()
    assert len([*file_documents(mix, "", SourceFile(url="x"), download_params(), remarks=remarks)]) == 122
    assert remarks.sums["files"] == {"read": 4, "of another kind": 2}
    assert "not read" in capsys.readouterr().err
    assert remarks.warnings[0].endswith(": old.zip, y.txt.bz2")


@pytest.mark.parametrize(("line", "words"), [("swirley thing w" + "e" * 884_764, 3), ("word " * 100_000, 100_000)])
def test_a_line_without_an_end_is_one_sentence(line: str, words: int) -> None:
    (sentence,) = SentenceSplitter("english").split(line)
    assert len(Tokenizer(lowercase=True).tokenize(sentence)) == words


@pytest.mark.parametrize("name", WITHOUT_SPACES)
def test_the_setting_for_text_without_spaces_leaves_no_unknown_words(name: str, tmp_path: Path) -> None:
    if not CASES.is_dir():
        pytest.skip("shared/cases is not here")
    warned, unknown, perplexities = {}, {}, {}
    for language in ("english", "characters"):
        splits, remarks = SplitShares(train=80, valid=10, test=10), Remarks()
        params = TokenizeParams(language=language, lowercase=True, deduplicate=False, splits=splits)
        found = file_documents(CASES / name, "", SourceFile(url="x"), download_params())
        path, tokenizer = tmp_path / language, Tokenizer(True, params.by_character)
        write_tokens(found, SentenceSplitter(language), tokenizer, params, path, 1, Bar(), remarks)
        assert remarks.sums["sentences"].total() == (300 if language == "english" else WITHOUT_SPACES[name])
        counts = count_words(path, "train", tmp_path, 1, Bar())
        vocabulary = build_vocabulary(counts, None)
        encode_tokens(path, vocabulary, tmp_path / "encoded", 1, Bar(), remarks)
        warned[language], of_test = len(remarks.warnings), remarks.sums["tokens of test"]
        unknown[language] = of_test["unknown"] / of_test.total()
        train, test = (load_split(tmp_path / "encoded" / split, len(vocabulary)) for split in ("train", "test"))
        perplexities = {model: sums.sentences for model, _, sums in baseline_scores(train, test, vocabulary.counts)}
    assert unknown["characters"] < 0.05
    assert warned["characters"] == 0
    assert warned["english"] == 2
    assert perplexities["trigram"].nats.sum() < 0.6 * perplexities["unigram"].nats.sum()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("reddit-comments-sample.csv", {}),
        ("ptb/ptb.valid.txt", {"split": "valid", "tokenized": True}),
        ("nltk/brown.zip", {"format": "word/tag", "tokenized": True}),
    ],
)
def test_nothing_is_odd_about_the_corpora_of_params_yaml(
    name: str, settings: dict[str, object], shared_data: Path, tmp_path: Path
) -> None:
    remarks, source = Remarks(), SourceFile.model_validate({"url": "x", **settings})
    members = "zip://brown/ca0?" if name.endswith(".zip") else ""
    settings_of_all = download_params(txt_documents="auto")
    found = list(file_documents(shared_data / name, members, source, settings_of_all, remarks=remarks))
    found = [document._replace(split=SPLITS[number % 3]) for number, document in enumerate(found)]
    shares = SplitShares(train=1, valid=1, test=1)
    params = TokenizeParams(language="english", lowercase=True, deduplicate=True, splits=shares)
    write_tokens(found, SentenceSplitter("english"), Tokenizer(True), params, tmp_path / "tokens", 1, Bar(), remarks)
    assert remarks.warnings == []
    assert sum(became["documents"] for became in remarks.sums.values()) == len(found)
