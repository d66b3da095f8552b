"""N-gram language models with interpolated modified Kneser-Ney smoothing.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (1998), section 3.
For an n-gram h w (h the n - 1 words before w, h' the same without its first word):

    p(w | h)  = (c(h w) - D(c(h w))) / sum_v c(h v)  +  gamma(h) p(w | h')        p(w | h') alone where h was never seen
    gamma(h)  = sum_v D(c(h v)) / sum_v c(h v)                                    so that p(. | h) sums to one
    D(0) = 0,  D(1) = 1 - 2 Y n2 / n1,  D(2) = 2 - 3 Y n3 / n2,  D(3 and more) = 3 - 4 Y n4 / n3,  Y = n1 / (n1 + 2 n2)

n1 to n4 are the numbers of n-grams of that order whose count is exactly 1 to 4. Of the highest order c is how often an
n-gram occurs; of lower orders it is the number of different words seen before it. The recursion ends in the uniform
distribution over everything that can be predicted: all ids but SENTENCE_START.

SENTENCE_START comes once before a sentence, as in the encoded data. Nothing can come before it, so n-grams that begin
with it keep how often they occur as their count at every order; SRILM and KenLM do the same.

Arrays end in their size: C vocabulary, G n-grams of one order, H contexts (the n-grams one order below), N tokens
scored, P pairs of a token and a word that may be more probable than it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.evaluation.ngrams import Column, Grams, Space, count_ngrams, space_for
from pipeline.text.encoded import EncodedSplit
from pipeline.text.vocabulary import START_ID

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's, for corpora too small or too regular for the formula
BLOCK_PAIRS = 100_000  # pairs ranked at a time: they stay in the processor's cache
BLOCK_ROWS = 256  # places whose probabilities of all words exist at a time
BLOCK_GRAMS = 1 << 16  # n-grams told at a time
NEVER_SEEN = -1  # index of an n-gram that training lacks: arrays have their value for it at the end


class KneserNey:
    """An n-gram model fitted to the encoded training split; one of a long text is on disk (see ngrams.py).

    Args:
        train: sentences, each SENTENCE_START w1 .. wn SENTENCE_END.
        vocabulary_size: C, the special tokens included.
        order: words in the longest n-gram, at least 2; 3 makes a trigram model.
        told: of counting; see `count_ngrams`.
    """

    def __init__(
        self,
        train: EncodedSplit,
        vocabulary_size: int,
        order: int,
        told: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        self._size = vocabulary_size
        self._space = space_for(len(train.ids))
        grams = count_ngrams(train, vocabulary_size, order, told)
        self._unigram_C = _unigram(grams[0].counts.whole())
        by_unigram_C = np.argsort(-self._unigram_C, kind="stable")  # stable: ties in the order of ids
        self._rising_C = -self._unigram_C[by_unigram_C]  # negative, as searchsorted wants rising numbers
        self._place_C = np.empty_like(by_unigram_C)
        self._place_C[by_unigram_C] = np.arange(vocabulary_size)
        self._orders: list[_Order] = []  # from bigrams up
        for lower, higher in pairwise(grams):
            below = self._orders[-1].bigram_G if self._orders else None
            self._orders.append(_order(higher, len(lower.keys), below, vocabulary_size, self._space))
        self._bigram_word_G = self._orders[0].keys_G % vocabulary_size
        self._bigram_unigram_G = self._unigram_C[self._bigram_word_G]
        self._bigram_place_G = self._place_C[self._bigram_word_G]

    def score(self, split: EncodedSplit) -> tuple[np.ndarray, np.ndarray]:
        """Score every predicted token of a split, sentence after sentence, SENTENCE_END included.

        Returns:
            nats_N: float64, -ln p(word | the words before it in its sentence).
            ranks_N: int64, how many words the model puts before the right one, 0 where it would have guessed it.
                Equally probable words come in the order of their ids, so that five words are the first five.
        """
        words_N, contexts = self._places(split)
        return self._nats(words_N, contexts), self._ranks(words_N, contexts)

    def nats(self, split: EncodedSplit) -> np.ndarray:
        """As `score`, without the ranks, which take most of the time."""
        return self._nats(*self._places(split))

    def seen(self, split: EncodedSplit) -> np.ndarray:
        """How long an n-gram that ends in each predicted token training has, int64 (tokens,): 1 to the order."""
        words_N, contexts = self._places(split)
        seen_N = np.ones(len(words_N), np.int64)
        for order, context_N in zip(self._orders, contexts, strict=True):
            seen_N += order.find(context_N, words_N, self._size) != NEVER_SEEN
        return seen_N

    def likeliest(self, split: EncodedSplit, wanted_N: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the `count` likeliest words at each predicted token of `split` that is wanted; -ln p of each.

        Both are (wanted, count), the likeliest first; equally probable words come in the order of their ids. Where
        fewer words can be predicted, there are fewer columns.
        """
        count = min(count, self._size - 1)
        contexts = [context_N[wanted_N] for context_N in self._places(split)[1]]
        wanted = len(contexts[0])
        scales = self._scales(contexts, wanted)
        found_NK, p_NK = np.zeros((wanted, count), np.int32), np.ones((wanted, count))
        for start in range(0, wanted, BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            p_RC = self._probabilities(contexts, scales, rows)
            least_R1 = np.partition(p_RC, -count, axis=1)[:, -count, None]
            row_Q, word_Q = np.nonzero(p_RC >= least_R1)  # more than `count` where some are equal
            first_Q = np.lexsort((word_Q, -p_RC[row_Q, word_Q], row_Q))
            begins_R = np.searchsorted(row_Q, np.arange(len(p_RC)))
            best_RK = first_Q[begins_R[:, None] + np.arange(count)]
            found_NK[rows] = word_Q[best_RK]
            p_NK[rows] = p_RC[row_Q[best_RK], word_Q[best_RK]]
        return found_NK, -np.log(p_NK)

    def sizes(self) -> list[int]:
        """Numbers of different n-grams, from unigrams up; every id is one, SENTENCE_START too."""
        return [self._size, *(len(order.keys_G) for order in self._orders)]

    def tables(self) -> Iterator[Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray | None]]]:
        """All n-grams in blocks, order by order from unigrams up, each order sorted by its ids.

        Of a block: the ids of their first words, of their second words and so on; p(last word | those before); and
        gamma of the n-gram as a context, None in the highest order.
        """
        p_G = self._unigram_C
        for at, order in enumerate(self._orders):
            yield self._blocks(self._orders[:at], p_G, order.gamma_H)
            p_G = order.probabilities(p_G, self._size, self._space)
        yield self._blocks(self._orders, p_G, None)

    def _blocks(
        self, orders: list["_Order"], p_G: np.ndarray, gamma_G: np.ndarray | None
    ) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray | None]]:
        """The table of one order; `orders` are those from bigrams up to it."""
        for start in range(0, len(p_G), BLOCK_GRAMS):
            gram_B = np.arange(start, min(start + BLOCK_GRAMS, len(p_G)))
            last = slice(start, start + len(gram_B))
            ids: list[np.ndarray] = []
            for order in reversed(orders):
                gram_B, word_B = np.divmod(order.keys_G[gram_B], self._size)
                ids.insert(0, word_B)
            yield [gram_B, *ids], p_G[last], None if gamma_G is None else gamma_G[last]

    def distributions(self, split: EncodedSplit) -> Callable[[slice], np.ndarray]:
        """The probabilities of all words at some of the predicted tokens of `split`, by their slice: (R, C) float64."""
        contexts = self._places(split)[1]
        scales = self._scales(contexts, len(contexts[0]))
        return lambda rows: self._probabilities(contexts, scales, rows)

    def _probabilities(self, contexts: list[np.ndarray], scales: list[np.ndarray], rows: slice) -> np.ndarray:
        p_RC = self._unigram_C * scales[0][rows, None]
        for order, context_N, scale_N in zip(self._orders, contexts, scales[1:], strict=True):
            row_P, gram_P = _followers(order.first_H, context_N[rows])
            p_RC[row_P, order.keys_G[gram_P] % self._size] += order.own_G[gram_P] * scale_N[rows][row_P]
        return p_RC

    def _places(self, split: EncodedSplit) -> tuple[np.ndarray, list[np.ndarray]]:
        """The ids of all predicted tokens of a split, and their contexts."""
        ids, position = _positions(split)
        at = np.flatnonzero(position > 0)
        return ids[at], [context[at] for context in self._contexts(ids, position)]

    def _nats(self, words_N: np.ndarray, contexts: list[np.ndarray]) -> np.ndarray:
        probability_N = self._unigram_C[words_N]
        for order, context_N in zip(self._orders, contexts, strict=True):
            found_N = order.find(context_N, words_N, self._size)
            probability_N = order.own_G[found_N] + order.gamma_H[context_N] * probability_N
        return -np.log(probability_N)

    def _contexts(self, ids: np.ndarray, position: np.ndarray) -> list[np.ndarray]:
        """For bigrams up, at each place: the index of the words before it, NEVER_SEEN beyond the sentence too."""
        before = np.roll(ids, 1)
        contexts = [np.where(position > 0, before, NEVER_SEEN)]
        for order in self._orders[:-1]:
            longer = order.find(np.roll(contexts[-1], 1), before, self._size)
            contexts.append(np.where(position > 0, longer, NEVER_SEEN))
        return contexts

    def _ranks(self, words_N: np.ndarray, contexts: list[np.ndarray]) -> np.ndarray:
        scales = self._scales(contexts, len(words_N))
        first_H = self._orders[0].first_H
        block_N = np.cumsum(first_H[contexts[0] + 1] - first_H[contexts[0]]) // BLOCK_PAIRS
        blocks = np.split(np.arange(len(words_N)), np.flatnonzero(np.diff(block_N)) + 1)
        return np.concatenate(
            [self._block_ranks(words_N[b], [c[b] for c in contexts], [s[b] for s in scales]) for b in blocks]
        )

    def _scales(self, contexts: list[np.ndarray], rows: int) -> list[np.ndarray]:
        """`scales[k]`: at each place the product of all gammas above order k + 1."""
        scales = [np.ones(rows)]
        for order, context_N in zip(self._orders[::-1], contexts[::-1], strict=True):
            scales.insert(0, order.gamma_H[context_N] * scales[0])
        return scales

    def _block_ranks(self, words_N: np.ndarray, contexts: list[np.ndarray], scales: list[np.ndarray]) -> np.ndarray:
        """How many words stand before each of `words_N`, without ever making a table of N x C.

        What follows a longer context follows its last word too. So only the words seen after the last word need
        their own probability (the pairs P); all others are the unigram times the same product of gammas, and the
        number of them that stand before is known from the order of the unigrams.
        """
        bigrams = self._orders[0]
        row_P, gram_P = _followers(bigrams.first_H, contexts[0])
        pairs_N = np.bincount(row_P, minlength=len(words_N))
        shift_N = np.cumsum(pairs_N) - pairs_N - bigrams.first_H[contexts[0]]  # bigram g is pair g + shift_N[row]
        probability_P = self._bigram_unigram_G[gram_P] * scales[0][row_P] + bigrams.own_G[gram_P] * scales[1][row_P]
        for order, context_N, scale_N in zip(self._orders[1:], contexts[1:], scales[2:], strict=True):
            row_Q, gram_Q = _followers(order.first_H, context_N)
            probability_P[order.bigram_G[gram_Q] + shift_N[row_Q]] += order.own_G[gram_Q] * scale_N[row_Q]

        own_N = bigrams.find(contexts[0], words_N, self._size)
        seen_N = own_N != NEVER_SEEN
        target_N = self._unigram_C[words_N] * scales[0]
        target_N[seen_N] = probability_P[(own_N + shift_N)[seen_N]]
        level_P = target_N[row_P]
        before_P = (probability_P > level_P) | (
            (probability_P == level_P) & (self._bigram_word_G[gram_P] < words_N[row_P])
        )

        limit_N = np.where(seen_N, np.searchsorted(self._rising_C, -target_N / scales[0]), self._place_C[words_N])
        counted_P = self._bigram_place_G[gram_P] < limit_N[row_P]
        return limit_N + np.bincount(row_P, before_P.astype(np.int8) - counted_P, len(words_N)).astype(np.int64)


@dataclass(frozen=True)
class _Order:
    """The model of one order."""

    keys_G: np.ndarray  # as in Grams
    suffix_G: np.ndarray  # as in Grams
    first_H: np.ndarray  # (H + 1,) n-grams first_H[h] to first_H[h + 1] continue context h
    own_G: np.ndarray  # (G + 1,) (c - D) / sum c; 0 for NEVER_SEEN
    gamma_H: np.ndarray  # (H + 1,) 1 for NEVER_SEEN and for what nothing continues
    bigram_G: np.ndarray  # index of its last two words among the bigrams

    def find(self, context_N: np.ndarray, words_N: np.ndarray, vocabulary_size: int) -> np.ndarray:
        """Index of the n-grams made of a context and a word, or NEVER_SEEN."""
        if not len(self.keys_G):
            return np.full(len(words_N), NEVER_SEEN)
        wanted_N = context_N * vocabulary_size + words_N
        found_N = np.minimum(np.searchsorted(self.keys_G, wanted_N), len(self.keys_G) - 1)
        return np.where((context_N != NEVER_SEEN) & (self.keys_G[found_N] == wanted_N), found_N, NEVER_SEEN)

    def probabilities(self, lower_G: np.ndarray, vocabulary_size: int, space: Space) -> np.ndarray:
        """(G,) p of the last word of each n-gram after those before it; `lower_G` are those of one order below."""
        column = space.column(np.float64)
        for start in range(0, len(self.keys_G), space.block):
            block = slice(start, start + space.block)
            gamma_G = self.gamma_H[self.keys_G[block] // vocabulary_size]
            column.append(self.own_G[:-1][block] + gamma_G * lower_G[self.suffix_G[block]])
        return column.whole()


def _positions(split: EncodedSplit) -> tuple[np.ndarray, np.ndarray]:
    """Every id of a split, int64, and its place in its sentence, where SENTENCE_START has place 0."""
    ids = np.asarray(split.ids, np.int64)
    return ids, np.arange(len(ids)) - np.repeat(split.offsets[:-1], np.diff(split.offsets))


def _unigram(counts_C: np.ndarray) -> np.ndarray:
    """Order 1 interpolated with the uniform distribution over C - 1 words; SENTENCE_START has probability 0."""
    discount_C = _discounts([counts_C])[np.minimum(counts_C, 3)]
    probability_C = (counts_C - discount_C + discount_C.sum() / (len(counts_C) - 1)) / counts_C.sum()
    probability_C[START_ID] = 0.0
    return probability_C


def _order(grams: Grams, contexts: int, below: np.ndarray | None, vocabulary_size: int, space: Space) -> _Order:
    """The model of one order.

    Args:
        grams: the n-grams of this order.
        contexts: their number one order below.
        below: `bigram_G` one order below; None: these are bigrams.
        vocabulary_size: C.
        space: where columns are, and how many n-grams are looked at together.
    """
    size = len(grams.keys)
    blocks = ((start, min(start + space.block, size)) for start in range(0, size, space.block))
    discounts = _discounts(grams.counts.read(*block) for block in blocks)
    first, bigram = space.column(), space.column()
    own, gamma = space.column(np.float64), space.column(np.float64)
    for start, context_G, low, high in _whole_contexts(grams.keys, contexts, vocabulary_size, space.block):
        stop = start + len(context_G)
        counts_G = grams.counts.read(start, stop)
        discount_G = discounts[np.minimum(counts_G, 3)]
        total_H = np.bincount(context_G - low, counts_G, high - low)
        gamma_H = np.ones(high - low)
        np.divide(np.bincount(context_G - low, discount_G, high - low), total_H, out=gamma_H, where=total_H > 0)
        first.append(start + np.searchsorted(context_G, np.arange(low, high)))
        own.append((counts_G - discount_G) / total_H[context_G - low])
        gamma.append(gamma_H)
        bigram.append(np.arange(start, stop) if below is None else below[grams.suffix.read(start, stop)])
    first.append(np.array([size]))
    own.append(np.zeros(1))
    gamma.append(np.ones(1))
    columns = (grams.keys, grams.suffix, first, own, gamma, bigram)
    return _Order(*(column.whole() for column in columns))


def _whole_contexts(
    keys: Column, contexts: int, vocabulary_size: int, block: int
) -> Iterator[tuple[int, np.ndarray, int, int]]:
    """N-grams in blocks that cut no context: the first one's index, the context of each, and which contexts these are.

    Sums over a context are then the same, to the last bit, whatever the size of a block.
    """
    start = low = 0
    while low < contexts:
        read = keys.read(start, min(start + block + vocabulary_size, len(keys)))  # a context has fewer than C
        context_G, high = read // vocabulary_size, contexts
        if start + len(read) < len(keys):
            high = int(context_G[-1])
            context_G = context_G[: np.searchsorted(context_G, high)]
        yield start, context_G, low, high
        start, low = start + len(context_G), high


def _discounts(counts: Iterable[np.ndarray]) -> np.ndarray:
    """D(0), D(1), D(2) and D(3 and more) of one order, whose counts come in parts: (4,).

    FALLBACK_DISCOUNTS stand in where a number of n-grams to divide by is zero, or where a discount comes out at 0 or
    less (words never seen would have no probability) or above the count it is taken from.
    """
    of_count = sum(np.bincount(np.minimum(counts_G, 5), minlength=6) for counts_G in counts)
    n1, n2, n3, n4 = np.broadcast_to(of_count, 6)[1:5].tolist()  # a plain 0 where there are none
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 < discount <= count for count, discount in enumerate(discounts, 1)):
            return np.array([0.0, *discounts])
    return np.array([0.0, *FALLBACK_DISCOUNTS])


def _followers(first_H: np.ndarray, context_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All n-grams that continue each context: two arrays, the row of the context and the index of the n-gram."""
    row_N = np.flatnonzero(context_N != NEVER_SEEN)
    begin_N, end_N = first_H[context_N[row_N]], first_H[context_N[row_N] + 1]
    length_N = end_N - begin_N
    shift_P = np.repeat(begin_N - (np.cumsum(length_N) - length_N), length_N)
    return np.repeat(row_N, length_N), np.arange(len(shift_P)) + shift_P
