"""Damaged files and hostile text: one clear line or the right result, never a traceback, never a wrong output.

`make soak` does the same with many more files and documents.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer

from pipeline.evaluation.report import write_report
from pipeline.evaluation.results import comparison_table
from pipeline.model.folder import load_model
from pipeline.model.language_model import LanguageModel
from pipeline.params import load_params
from pipeline.provenance.warm_start_file import read_digests
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import scratch_folder
from pipeline.runtime.pins import read_constraints
from pipeline.runtime.progress import Bar
from pipeline.text.counting import build_vocabulary, count_words
from pipeline.text.documents import Document, read_documents, write_documents
from pipeline.text.encoded import load_documents, load_seen, load_split
from pipeline.text.encoding import encode_tokens
from pipeline.text.params import SplitShares, TokenizeParams
from pipeline.text.sentences import SentenceSplitter
from pipeline.text.splits import SPLITS
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.tokens import write_tokens
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from pipeline.training.checkpoint import Checkpoints, TrainingState
from pipeline.training.history import read_history
from pipeline.training.optimizers import build_optimizer
from tests.conftest import PROJECT, SOAK
from tests.system.conftest import CELLS, Clone

MUTATIONS = 2000 if SOAK else 20  # of each kind of file
REPORTS = 100 if SOAK else 4  # figures take their time
DOCUMENTS = 10_000 if SOAK else 250
A_TIME = 25  # documents


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Cut off, overwritten, stretched, emptied or mixed up somewhere."""
    place = chance.randrange(len(content))
    length = min(chance.choice([1, 1, 2, 8, 64, 1000]), len(content) - place)
    noise = chance.randbytes(length)
    return chance.choice(
        [
            content[:place],
            content[:place] + content[place + length :],
            content[:place] + noise + content[place + length :],
            content[:place] + bytes(length) + content[place + length :],
            content[:place] + noise + content[place:],
            content[:place] + content[place : place + length] * 2 + content[place + length :],
            content[place:] + content[:place],
            b"",
        ]
    )


def read_tokens_to_the_end(path: Path, folder: Path) -> None:
    counts = count_words(path, "train", folder, 1, Bar())
    encode_tokens(path, build_vocabulary(counts, None), folder, 1, Bar())


def restore(path: Path, folder: Path) -> None:
    """A checkpoint that changed is set aside, whatever changed in it."""
    params = load_params(folder.parent / "params.yaml").cells["lstm"]
    model = LanguageModel(params.model, 80)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = TrainingState(model, build_optimizer(model, in_numbers(params.train, params.model, 1)))
    assert not Checkpoints("lstm", path.parent.name, path.parents[2]).restore(state)
    assert all((weight == before[name]).all() for name, weight in model.state_dict().items())
    for aside in path.parent.glob("*.damaged"):
        aside.unlink()


def refusal_of(work: Callable[[], object]) -> str | None:
    """What an InputError says, or None where there is none."""
    try:
        work()
    except InputError as error:
        return str(error)
    return None


Loader = Callable[[Path, Path], object]
# What reads each kind of file: its path, and a folder to write to.
LOADERS: dict[str, Loader] = {
    "params.yaml": lambda path, _: load_params(path),
    "constraints.txt": lambda path, _: read_constraints(path),
    "warm_start.json": lambda path, _: read_digests(path),
    "data/raw/documents.parquet": lambda path, _: list(read_documents(path)),
    "data/tokens/sentences.parquet": read_tokens_to_the_end,
    "data/vocabulary.tsv": lambda path, _: Vocabulary.load(path),
    "data/encoded/train/ids.npy": lambda path, _: load_split(path.parent, 80),
    "data/encoded/train/offsets.npy": lambda path, _: load_split(path.parent, 80),
    "data/encoded/test/documents.npy": lambda path, _: load_documents(path.parent, len(load_split(path.parent, 80))),
    "data/encoded/test/seen.npy": lambda path, _: load_seen(path.parent, len(load_split(path.parent, 80))),
    "data/models/lstm/model.safetensors": lambda path, _: load_model(path.parent),
    "data/models/lstm/config.json": lambda path, _: load_model(path.parent),
    "data/models/lstm/vocabulary.tsv": lambda path, _: load_model(path.parent),
    "data/models/lstm/history.csv": lambda path, _: read_history(path),
    "data/evaluation/lstm/metrics.json": lambda path, _: comparison_table(
        path.parents[1], path.parents[2] / "models", CELLS
    ),
    ".rnnlm/checkpoints/lstm/key/checkpoint": restore,
}
REPORTED = (
    "lstm/gradient_flow.csv",
    "lstm/samples.txt",
    "lstm/sentences.parquet",
    "baselines/sentences/trigram.parquet",
    "baselines/metrics.json",
)


@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_refused_on_one_line_or_read(name: str, plain: Clone, tmp_path: Path) -> None:
    shutil.copytree(plain.folder / "data", tmp_path / "data", symlinks=False)
    for file in ("params.yaml", "constraints.txt", "warm_start.json"):
        shutil.copy(plain.folder / file, tmp_path)
    path = tmp_path / name
    if name.endswith("checkpoint"):
        params = load_params(tmp_path / "params.yaml").cells["lstm"]
        model = LanguageModel(params.model, 80)
        Checkpoints("lstm", "key", tmp_path / ".rnnlm/checkpoints").save(
            TrainingState(model, build_optimizer(model, in_numbers(params.train, params.model, 1)), step=3)
        )
        (path,) = path.parent.iterdir()
    content, chance, refused = path.read_bytes(), random.Random(name), 0
    (tmp_path / "out").mkdir()
    for number in range(MUTATIONS):
        damaged = mutated(content, chance)
        if damaged == content:
            continue
        path.write_bytes(damaged)
        refusal = refusal_of(lambda: LOADERS[name](path, tmp_path / "out"))
        if refusal is not None:
            refused += 1
            assert "\n" not in refusal, number
            assert path.name in refusal, number
    assert refused or name.endswith("checkpoint")  # which is set aside, so that the one before it is used
    print(f"{name}: {MUTATIONS} damaged files, {refused} refused on one line, the rest read")


@pytest.mark.parametrize("name", REPORTED)
def test_a_damaged_file_of_an_evaluation_makes_no_traceback(name: str, plain: Clone, tmp_path: Path) -> None:
    shutil.copytree(plain.folder / "data", tmp_path / "data")
    path = tmp_path / "data/evaluation" / name
    content, chance = path.read_bytes(), random.Random(name)
    for number in range(REPORTS):
        path.write_bytes(mutated(content, chance))
        refusal = refusal_of(
            lambda: write_report(
                tmp_path / "data/evaluation", tmp_path / "data/models", CELLS, tmp_path / "report", 100, 1
            )
        )
        if refusal is not None:
            assert "\n" not in refusal, number
            assert path.name in refusal, number


# Control characters, marks of direction, white space of all kinds, joiners, halves of letters, formulas, specials.
ODD = [*"\x00\x01\x08\x0b\x1b\x1c\x1f\x7f\x85\xa0\u200b\u200e\u202e\u2028\u2029\u2066\ufeff\ufffd\uffff\U0010ffff"]
ODD += ["SENTENCE_START", "SENTENCE_END", "UNKNOWN_TOKEN", "<unk>", "=1+1", "@SUM(A1)", "-2+3", "\t", "\r\n", "\n\n"]
ODD += ["../../etc/passwd", "${HOME}", "{{7*7}}", "%s%n", "<script>", "'; DROP TABLE", "a\u0301\u0302", "null", "nan"]
PIECES = st.sampled_from(ODD) | st.sampled_from(["word", "it's", "Dr.", "end.", "!", '"', " ", " ", " "])
TEXT = st.lists(PIECES, max_size=30).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=DOCUMENTS // A_TIME, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(TEXT, min_size=A_TIME, max_size=A_TIME))
def test_any_text_goes_through_the_text_stages_unchanged(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any", numbered=True)
    # One plain document for each split, which must not be empty.
    texts = [*texts, "One plain sentence."]
    texts += texts[-1:] * 2
    documents = [Document(str(number), text, SPLITS[number % 3]) for number, text in enumerate(texts)]
    shares = SplitShares(train=1.0, valid=1.0, test=1.0)
    params = TokenizeParams(language="english", lowercase=False, deduplicate=False, splits=shares)
    write_documents(documents, folder / "documents.parquet")
    assert list(read_documents(folder / "documents.parquet")) == documents
    stored, tokenizer = read_documents(folder / "documents.parquet"), Tokenizer(params.lowercase)
    write_tokens(stored, SPLITTER, tokenizer, params, folder / "tokens.parquet", 1, Bar())
    with scratch_folder(folder / "vocabulary") as scratch:
        vocabulary = build_vocabulary(count_words(folder / "tokens.parquet", "train", scratch, 1, Bar()), None)
    vocabulary.save(folder / "vocabulary.tsv")
    vocabulary = Vocabulary.load(folder / "vocabulary.tsv")
    encode_tokens(folder / "tokens.parquet", vocabulary, folder, 1, Bar())
    train = load_split(folder / "train", len(vocabulary))
    found = [
        [vocabulary.tokens[word] for word in train.ids[start + 1 : end - 1]]
        for start, end in zip(train.offsets, train.offsets[1:], strict=False)
    ]
    assert found == list(expected_sentences(document.text for document in documents if document.split == "train"))
    shutil.rmtree(folder)


SPLITTER, NLTK = SentenceSplitter("english"), NLTKWordTokenizer()


def expected_sentences(texts: Iterator[str]) -> Iterator[list[str]]:
    for text in texts:
        for sentence in SPLITTER.split(text):
            if tokens := NLTK.tokenize(sentence):
                yield tokens


def test_a_lone_surrogate_never_gets_that_far(tmp_path: Path) -> None:
    """Files that hold one are read with U+FFFD in its place (test_text_files.py); Parquet itself refuses the rest."""
    with pytest.raises(UnicodeEncodeError):
        write_documents([Document("id", "\ud800")], tmp_path / "documents.parquet")
    assert list(tmp_path.iterdir()) == []


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    for name in ("../x", "/etc/x", "a/b", ".", "..", "a\x00b", ""):
        content["cells"] = {name: {"cell": "rnn"}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(InputError, match="is not a usable name"):
            load_params(tmp_path / "params.yaml")


def test_arrays_with_objects_in_them_are_never_unpickled(tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploited",))

    (tmp_path / "split").mkdir()
    np.save(tmp_path / "split/ids.npy", np.array([Exploit()], object), allow_pickle=True)
    np.save(tmp_path / "split/offsets.npy", np.array([0, 1]))
    with pytest.raises(InputError, match=r"ids\.npy is damaged"):
        load_split(tmp_path / "split")
    assert not (tmp_path / "exploited").exists()
