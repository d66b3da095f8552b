"""What a trained model gains where it is adapted to the text that it reads: rows of their own, beside its static one.

An adaptation joins some parts, as `cache + interpolation`:

    ensemble       the mean of the probabilities of all seeds of a cell
    dynamic        dynamic evaluation (reading.py)
    temperature    P(w) in proportion to exp(logit / temperature); with an ensemble, of each model
    cache          the neural cache (neural_cache.py); with an ensemble, the mean of those of all models
    interpolation  with the 5-gram of the baselines

What is joined is one mixture, its weights not below 0 and their sum 1:

    P(w) = weight_model P_model(w) + weight_cache P_cache(w) + weight_interpolation P_5-gram(w)

The split is read in its order, by a model of sentences too: what was read of one sentence is in the cache, and in the
weights of dynamic evaluation, when the next one begins, whatever document that is of. No word is predicted by anything
that depends on it or on what follows it.

All of it is chosen on the validation split by what it costs there: the weights, the temperature, the cache's window and
theta, the rate of dynamic evaluation. The test split is read with these once. So that choosing takes little longer than
reading, at most `TUNED` tokens of validation are read, `TUNED_DYNAMICALLY` where the model learns, as each rate reads
them anew; of each token the probability of the target is kept, by the model at each temperature and by the cache at
each place of its grid, and no weight needs another reading. The rate is the one that is best without other parts.

Shape suffixes: R rows of a block, C words of the vocabulary, N tokens read.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as pairs
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pipeline.evaluation.kneser_ney import KneserNey
from pipeline.evaluation.mixture import mean_nats, mixed, mixture_weights
from pipeline.evaluation.neural_cache import Memory, Recalled
from pipeline.evaluation.params import CACHE, DYNAMIC, INTERPOLATION, TEMPERATURE, parts_of
from pipeline.evaluation.reading import Block, read, read_dynamically
from pipeline.evaluation.scores import ScoreSums
from pipeline.model.language_model import LanguageModel
from pipeline.model.params import Context
from pipeline.runtime.progress import progress_bar
from pipeline.text.encoded import EncodedSplit

TUNED, TUNED_DYNAMICALLY = 100_000, 10_000  # tokens of validation
TUNING_STREAMS = 10  # parts of a text that are read in parallel there, where the model does not learn
TEMPERATURES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
WINDOWS, THETAS = (100, 500, 2000), (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
FIRST_RATE, RATE_FACTOR, MOST_RATES = 0.4, 2.0, 8  # a rate that is tried is so many times the one before, or a part


Numbers = TypeVar("Numbers", Tensor, np.ndarray)


class Place(NamedTuple):
    """What a cache is asked with."""

    window: int
    theta: float


@dataclass(frozen=True)
class Chosen:
    """What validation chose for an adaptation."""

    parts: Sequence[str]
    rate: float | None = None  # of dynamic evaluation; None: the model stays as it is
    temperature: float = 1.0
    place: Place | None = None
    weights: Sequence[float] = (1.0,)  # of the model, the cache and the 5-gram, as far as there are such parts
    valid_perplexity: float = math.nan  # over the tokens that this was chosen on

    def figures(self) -> dict[str, float]:
        """What metrics.json says of it."""
        found: dict[str, float] = {"valid_perplexity": round(self.valid_perplexity, 6)}
        if self.rate is not None:
            found["dynamic_rate"] = self.rate
        if TEMPERATURE in self.parts:
            found["softmax_temperature"] = self.temperature
        if self.place is not None:
            found |= {"cache_window": self.place.window, "cache_theta": self.place.theta}
        mixed_in = [part for part in (CACHE, INTERPOLATION) if part in self.parts]
        return found | {f"{part}_weight": weight for part, weight in zip(mixed_in, self.weights[1:], strict=True)}


@dataclass(frozen=True)
class Reader:
    """The models that read together, one or an ensemble, and what they may be mixed with.

    The models are in evaluation mode, read as `context` says and have one vocabulary, with which `fivegram`, too, was
    fitted to the training split; None: no adaptation interpolates. `name` stands before their progress bars.
    """

    models: Sequence[LanguageModel]
    context: Context
    fivegram: KneserNey | None = None
    name: str = "model"

    def choose(self, valid: EncodedSplit, adaptations: Sequence[str]) -> dict[str, Chosen]:
        """What is best for each adaptation on the validation split."""
        chosen = {}
        for learns in (False, True):
            wanted = {name: parts for name in adaptations if (DYNAMIC in (parts := parts_of(name))) == learns}
            if not wanted:
                continue
            split = beginning(valid, TUNED_DYNAMICALLY if learns else TUNED)
            joined = {part for parts in wanted.values() for part in parts}
            rate, measured = self._best_rate(split, joined) if learns else (None, self._measure(split, None, joined))
            chosen |= {name: _choose(parts, rate, measured) for name, parts in wanted.items()}
        return {name: chosen[name] for name in adaptations}

    def score(self, split: EncodedSplit, chosen: Mapping[str, Chosen]) -> dict[str, ScoreSums]:
        """The sums over every target of a split, by adaptation."""
        size, sentence_N = self.models[0].vocabulary_size, np.repeat(np.arange(len(split)), split.lengths)
        sums = {name: ScoreSums(len(split), size) for name in chosen}
        for rate in dict.fromkeys(one.rate for one in chosen.values()):
            rows = {name: one for name, one in chosen.items() if one.rate == rate}
            for name, start, target_R, nats_R, rank_R in self.predictions(split, rate, rows):
                sums[name].add(sentence_N[start : start + len(target_R)], target_R, nats_R, rank_R)
        return sums

    @torch.no_grad()
    def predictions(
        self, split: EncodedSplit, rate: float | None, chosen: Mapping[str, Chosen]
    ) -> Iterator[tuple[str, int, np.ndarray, np.ndarray, np.ndarray]]:
        """Block by block of a split, once read at `rate`, and for each adaptation, which has that rate.

        Its name; which predicted token the block begins with; and of each the target, nats and rank, as `ScoreSums`
        takes them.
        """
        memories = _memories(self.models, [one.place.window for one in chosen.values() if one.place])
        counted = None
        if any(INTERPOLATION in one.parts for one in chosen.values()):
            assert self.fivegram is not None
            counted = self.fivegram.distributions(split)
        start = 0
        for blocks in self._read(split, rate):
            y_R = blocks[0].y_R
            recalled = [memory.read(block) for memory, block in zip(memories, blocks, strict=True)] if memories else []
            rows = slice(start, start + len(y_R))
            p_5_RC = None if counted is None else torch.from_numpy(counted(rows)).to(y_R.device)
            for name, one in chosen.items():
                nats_R, rank_R = _mixed_block(one, blocks, recalled, p_5_RC, start == 0)
                yield name, start, y_R.cpu().numpy(), nats_R, rank_R
            start += len(y_R)

    def _read(self, split: EncodedSplit, rate: float | None, streams: int = 1) -> Iterator[Sequence[Block]]:
        """Each block as every model reads it."""
        if rate is None:
            task, texts = f"adapt {self.name}", [read(model, split, self.context, streams) for model in self.models]
        else:
            task = f"adapt {self.name}, rate {rate:g}"
            texts = [read_dynamically(model, split, self.context, rate) for model in self.models]
        with progress_bar(task, split.tokens, "tokens") as bar:
            for blocks in zip(*texts, strict=True):
                yield blocks
                bar.advance(len(blocks[0].y_R))

    def _best_rate(self, split: EncodedSplit, parts: set[str]) -> tuple[float, "Measured"]:
        """The rate of dynamic evaluation that is best by itself, and what is measured with it."""
        tried = {FIRST_RATE: self._measure(split, FIRST_RATE, parts)}
        best = rate = FIRST_RATE
        for factor in (RATE_FACTOR, 1 / RATE_FACTOR):
            while len(tried) < MOST_RATES:
                rate = best * factor
                found = self._measure(split, rate, parts)
                better = found.cost < tried[best].cost
                tried[rate] = found
                if not better:
                    break
                best = rate
            if best != FIRST_RATE:
                break
        return best, tried[best]

    @torch.no_grad()
    def _measure(self, split: EncodedSplit, rate: float | None, parts: set[str]) -> "Measured":
        """The probabilities of the targets of a split by all that parts may be chosen from."""
        temperatures = TEMPERATURES if TEMPERATURE in parts else (1.0,)
        memories = _memories(self.models, WINDOWS if CACHE in parts else ())
        model, cache = [], []
        for blocks in self._read(split, rate, TUNING_STREAMS):
            y_R = blocks[0].y_R
            model.append([_of_targets(blocks, temperature) for temperature in temperatures])
            if memories:
                recalled = [memory.read(block) for memory, block in zip(memories, blocks, strict=True)]
                cache.append([_mean([of.within(w).of_targets(y_R, THETAS) for of in recalled]) for w in WINDOWS])
        model_TN = dict(zip(temperatures, np.concatenate(model, 1), strict=True))
        places = [Place(*both) for both in pairs(WINDOWS, THETAS)] if memories else []
        cache_PN = np.concatenate(cache, 2).reshape(len(places), -1) if places else []
        fivegram_N = None
        if INTERPOLATION in parts:
            assert self.fivegram is not None
            fivegram_N = np.exp(-self.fivegram.nats(split))
        return Measured(model_TN, dict(zip(places, cache_PN, strict=True)), fivegram_N)


@dataclass(frozen=True)
class Measured:
    """The probability of each target of a split, (N,) float64 each."""

    model: Mapping[float, np.ndarray]  # by temperature
    cache: Mapping[Place, np.ndarray]
    fivegram: np.ndarray | None

    @property
    def cost(self) -> float:
        """Mean nats of the model as it is."""
        return mean_nats([1.0], [self.model[1.0]])

    def best(self, temperature: float, place: Place | None, interpolates: bool) -> tuple[float, list[float]]:
        """What a token costs with the best weights, and these."""
        p_KN = [self.model[temperature]]
        if place is not None:
            cache_N = self.cache[place].copy()
            cache_N[0] = p_KN[0][0]  # nothing was read yet
            p_KN.append(cache_N)
        if interpolates:
            assert self.fivegram is not None
            p_KN.append(self.fivegram)
        weights = mixture_weights(p_KN)
        return mean_nats(weights, p_KN), weights


def _choose(parts: Sequence[str], rate: float | None, measured: Measured) -> Chosen:
    interpolates = INTERPOLATION in parts
    places = list(measured.cache) if CACHE in parts else [None]
    place = min(places, key=lambda place: measured.best(1.0, place, interpolates)[0])
    temperatures = TEMPERATURES if TEMPERATURE in parts else [1.0]
    temperature = min(temperatures, key=lambda temperature: measured.best(temperature, place, interpolates)[0])
    nats, weights = measured.best(temperature, place, interpolates)
    return Chosen(parts, rate, temperature, place, weights, float(np.exp(nats)))


def _mixed_block(
    chosen: Chosen, blocks: Sequence[Block], recalled: Sequence[Recalled], p_5_RC: Tensor | None, first: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Nats and ranks of the targets of a block; `first`: that of a split, at whose first token no cache has a word."""
    y_R, size = blocks[0].y_R, blocks[0].logits_RC.shape[1]
    all_words = [_mean([torch.softmax(block.logits_RC / chosen.temperature, 1) for block in blocks])]
    targets = [_of_targets(blocks, chosen.temperature)]
    if chosen.place is not None:
        window, theta = chosen.place
        within = [one.within(window) for one in recalled]
        all_words.append(_mean([one.of_all_words(theta, size) for one in within]))
        targets.append(_mean([one.of_targets(y_R, (theta,))[0] for one in within]))
        if first:
            all_words[1][0], targets[1][0] = all_words[0][0], targets[0][0]
    if INTERPOLATION in chosen.parts:
        assert p_5_RC is not None
        all_words.append(p_5_RC.to(all_words[0]))
        targets.append(p_5_RC.gather(1, y_R.unsqueeze(1))[:, 0].cpu().numpy())
    p_RC = all_words[0] * chosen.weights[0]
    for weight, part_RC in zip(chosen.weights[1:], all_words[1:], strict=True):
        p_RC.add_(part_RC, alpha=weight)
    rank_R = (p_RC > p_RC.gather(1, y_R.unsqueeze(1))).sum(1)
    return -np.log(mixed(chosen.weights, targets)), rank_R.cpu().numpy()


def _of_targets(blocks: Sequence[Block], temperature: float) -> np.ndarray:
    """The mean probability of each target by all models: (R,) float64."""
    nats = [cross_entropy(block.logits_RC / temperature, block.y_R, reduction="none") for block in blocks]
    return _mean([np.exp(-nats_R.double().cpu().numpy()) for nats_R in nats])


def _memories(models: Sequence[LanguageModel], windows: Sequence[int]) -> list[Memory]:
    """Of each model, if there is any window."""
    return [Memory(max(windows)) for _ in models] if windows else []


def _mean(values: Sequence[Numbers]) -> Numbers:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values)  # pyrefly: ignore[bad-return]


def beginning(split: EncodedSplit, tokens: int) -> EncodedSplit:
    """The first sentences of a split, of at most so many predicted tokens, and one at least."""
    sentences = max(1, int(np.searchsorted(np.cumsum(split.lengths), tokens, side="right")))
    return EncodedSplit(split.ids[: split.offsets[sentences]], split.offsets[: sentences + 1])
