import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.packed import last_rows, pack, previous_rows, steps_and_sequences
from pipeline.text.encoded import EncodedSplit

lengths_of_sentences = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def encoded(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Sentences of START, distinct ids, END: id 100 * sentence + position says where a row came from."""
    sentences = [[0, *range(100 * i + 2, 100 * i + 1 + n), 1] for i, n in enumerate(lengths)]
    offsets = np.cumsum([0, *map(len, sentences)])
    return np.concatenate([np.array(s, dtype=np.uint16) for s in sentences]), offsets


@given(lengths_of_sentences, st.randoms(use_true_random=False))
def test_every_sentence_is_there_once_and_whole(lengths, random):
    ids, offsets = encoded(lengths)
    wanted = list(range(len(lengths)))
    random.shuffle(wanted)
    batch = pack(EncodedSplit(ids, offsets), wanted)
    assert sorted(batch.order.tolist()) == sorted(wanted)
    assert sum(batch.batch_sizes) == len(batch.x_N) == len(batch.y_N)
    assert list(batch.batch_sizes) == sorted(batch.batch_sizes, reverse=True)
    _, sequence_N = steps_and_sequences(batch.batch_sizes)
    for b, sentence in enumerate(batch.order):
        words = ids[offsets[sentence] : offsets[sentence + 1]]
        assert batch.x_N[sequence_N == b].tolist() == words[:-1].tolist()
        assert batch.y_N[sequence_N == b].tolist() == words[1:].tolist()


def test_longest_first_and_equal_lengths_in_the_order_given():
    ids, offsets = encoded([2, 4, 4, 1, 4])
    batch = pack(EncodedSplit(ids, offsets), [4, 3, 2, 1, 0])
    assert batch.order.tolist() == [4, 2, 1, 0, 3]
    assert batch.batch_sizes == (5, 4, 3, 3)


@given(lengths_of_sentences)
def test_rows_before_and_last_rows(lengths):
    sizes = [sum(n > t for n in lengths) for t in range(max(lengths))]
    step_N, sequence_N = steps_and_sequences(sizes)
    row = {(t, b): n for n, (t, b) in enumerate(zip(step_N.tolist(), sequence_N.tolist(), strict=True))}
    later = [(t, b) for t, b in row if t > 0]
    assert previous_rows(sizes).tolist() == [row[t - 1, b] for t, b in later]
    longest_first = sorted(lengths, reverse=True)
    assert last_rows(sizes).tolist() == [row[n - 1, b] for b, n in enumerate(longest_first)]


def test_nothing_to_pack_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        pack(EncodedSplit(np.array([0, 1]), np.array([0, 2])), [])
