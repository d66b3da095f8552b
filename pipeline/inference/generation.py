"""What a model writes: whole sentences, and the next word of one that somebody began."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.model.cells import State
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack
from pipeline.runtime.settings import nltk_alone
from pipeline.text.encoded import EncodedSplit
from pipeline.text.scripts import without_blanks
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary

# What NLTK's detokenizer, which knows ASCII quotes, leaves to do, in this order.
REJOINED = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([“„«‹‘¿¡]) ", r"\1"),
        (r" (\.?) ?([”»›])", r"\1\2"),
        (r"„([^„“”]*?) ?“", r"„\1“ "),  # German quotes, whose closing mark opens English ones
        (r"(?<!’ )\b([dljmoyDLJMOY]|[Qq]u) ’ (?=[^\W\d_])", r"\1’"),  # O’Brien, d’être, y’all
        (r"(?<=\w) ’ (s|t|re|ve|ll|d|m)\b", r"’\1"),
        (r"(?<![^\s“‘«(])’ ([Nn]) ’ ", r"’\1’ "),  # rock ’n’ roll
        (r"(?i)(?<![^\s“‘«(])’ (?=(?:tis|twas|til|em|cause|\d\ds)\b)", "’"),
        (r" ’(?!\w)", r"’"),
        (r"(?<=[”“»›’\"]) (?=[.,;:!?)\]])", ""),
        (r"([(\[]) (?=[“„«‹‘])", r"\1"),
        (r"\b([b-hj-zB-HJ-Z]) \((?=[^\s()]{1,9}\))", r"\1("),  # f(x), but not `a (b)`
        (r"(?<=\w) \(\)", "()"),
        (r"\b(https?|ftp): //", r"\1://"),
        (r"(?<=\w)\"'(?!\w)", "'\""),
    )
]
COMPARED = {"<": "\ue000", ">": "\ue001"}  # in a text of their own, as NLTK takes these for brackets


@dataclass(frozen=True)
class Decoding:
    """How sentences are drawn."""

    temperature: float  # divides the logits; below 1 likelier words, duller sentences
    top_k: int | None  # draw from the k likeliest words only; None draws from all
    max_length: int  # words drawn before a sentence is cut
    seed: int  # of each prompt; equal seeds give equal sentences on one kind of machine
    top_p: float | None = None  # and only from the likeliest that together have this probability; None draws from all


@torch.no_grad()
def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompts: Sequence[Sequence[str]],
    count: int,
    decoding: Decoding,
    start: int = START_ID,
) -> list[list[list[str]]]:
    """Draw sentences word by word from the model's distribution; UNKNOWN_TOKEN and SENTENCE_START are never drawn.

    All sentences of all prompts go through the model together, a word at a time. What a prompt's sentences draw does
    not depend on the other prompts.

    Args:
        model: in evaluation mode.
        vocabulary: the one it was trained with.
        prompts: tokens that sentences begin with; the model reads words it does not know as UNKNOWN_TOKEN.
        count: sentences of each prompt.
        decoding: how they are drawn.
        start: what the first word follows: START_ID or, of a model of running text, END_ID.

    Returns:
        For each prompt `count` lists of tokens, the prompt first. None is empty: a sentence cannot end before its
        first word.
    """
    sentences = [[list(prompt) for _ in range(count)] for prompt in prompts]
    generators = [torch.Generator().manual_seed(decoding.seed) for _ in prompts]
    unfinished = [set(range(count)) for _ in prompts]
    running = [index for index, rows in enumerate(unfinished) if rows]
    if not running:
        return sentences
    logits_BC, state = _read(model, vocabulary, prompts, count, start)
    for step in range(decoding.max_length):
        logits_BC[:, [START_ID, vocabulary.unknown_id]] = -torch.inf
        drawn = []
        for index, rows_BC in zip(running, logits_BC.split(count), strict=True):
            if step == 0 and not prompts[index]:
                rows_BC[:, END_ID] = -torch.inf
            drawn.append(_draw(rows_BC, decoding, generators[index]))
            for row, word in enumerate(drawn[-1].tolist()):
                if row in unfinished[index] and word == END_ID:
                    unfinished[index].remove(row)
                elif row in unfinished[index]:
                    sentences[index][row].append(vocabulary.tokens[word])
        # A prompt's finished sentences run on unread as long as one of it does not end: so what it draws does not
        # depend on their lengths.
        left = [place for place, index in enumerate(running) if unfinished[index]]
        if not left:
            break
        drawn_B = torch.cat(drawn).to(logits_BC.device)
        if len(left) < len(running):
            kept = torch.tensor([place * count + row for place in left for row in range(count)], device=drawn_B.device)
            drawn_B, state = drawn_B[kept], _each(state, lambda part_BH, kept=kept: part_BH[kept])
            running = [running[place] for place in left]
        logits_BC, state = model.next_logits(drawn_B, state)
    return sentences


@torch.no_grad()
def suggest(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prefixes: Sequence[Sequence[str]],
    count: int,
    start: int = START_ID,
) -> list[list[tuple[str, float]]]:
    """The `count` likeliest words after each prefix, likeliest first, with their probabilities under the whole model.

    Only words are suggested: no special token is, though their share of the probability is not handed out to others.
    All prefixes go through the model together; `start` as in `generate`.
    """
    logits_BC, _ = _read(model, vocabulary, prefixes, 1, start)
    probability_BC = logits_BC.double().softmax(1).cpu()
    probability_BC[:, [START_ID, END_ID, vocabulary.unknown_id]] = -1
    best = probability_BC.topk(min(count, len(vocabulary) - 3))
    return [
        [(vocabulary.tokens[word], p) for p, word in zip(ps, words, strict=True)]
        for ps, words in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def readable(tokens: Sequence[str]) -> str:
    """Tokens as a person would write them: `do n't go .` becomes `don't go.`, on one line."""
    with nltk_alone():
        from nltk.tokenize.treebank import TreebankWordDetokenizer

    words: list[str] = []
    for place, token in enumerate(tokens):
        if token == "..." and words:
            words[-1] += token
        elif token in COMPARED and not _is_bracket(tokens, place):
            words.append(COMPARED[token])
        else:
            words.append(token)
    text = " ".join(TreebankWordDetokenizer().detokenize(words).split())
    for pattern, replacement in REJOINED:
        text = pattern.sub(replacement, text)
    for token, other in COMPARED.items():
        text = text.replace(other, token)
    return without_blanks(" ".join(text.split()))


def _is_bracket(tokens: Sequence[str], place: int) -> bool:
    """Whether this `<` or `>` is one of two around a word."""
    first = place if tokens[place] == "<" else place - 2
    return first >= 0 and [*tokens[first : first + 3 : 2]] == ["<", ">"]


def _read(
    model: LanguageModel, vocabulary: Vocabulary, texts: Sequence[Sequence[str]], count: int, start: int
) -> tuple[Tensor, list[State]]:
    """Logits `(texts * count, C)` of the word after `start` and each text, and the states there.

    The rows of a text stand together and are equal. All but the last word is read in one packed pass.
    """
    device = next(model.parameters()).device
    ids = [[start, *vocabulary.encode(text)] for text in texts]
    state = None
    if any(texts):
        batch = pack(EncodedSplit.of(ids), range(len(ids))).to(device)
        _, read = model.hidden(batch.x_N, batch.batch_sizes)
        # Empty texts come last in the batch and have no step in it: their state is zero.
        rows = torch.from_numpy(np.repeat(np.argsort(batch.order), count)).to(device)
        empty = len(ids) - batch.batch_sizes[0]
        state = _each(read, lambda part_BH: pad(part_BH, (0, 0, 0, empty))[rows])
    last_B = torch.tensor([row[-1] for row in ids], device=device).repeat_interleave(count)
    return model.next_logits(last_B, state)


def _each(state: Sequence[State], change: Callable[[Tensor], Tensor]) -> list[State]:
    """`change` of every tensor of every layer's state."""
    return [(change(layer[0]), change(layer[1])) if isinstance(layer, tuple) else change(layer) for layer in state]


def _draw(logits_BC: Tensor, decoding: Decoding, generator: torch.Generator) -> Tensor:
    """One word id a row `(B,)`, in proportion to exp(logits / temperature) among those that `decoding` admits.

    `top_p` is the nucleus of Holtzman et al. 2020, of what temperature and `top_k` leave: the fewest of the likeliest
    words that together reach it, so that how many there are follows from how sure the model is.
    """
    # On the CPU and in float64: the same draws whatever the device, and no overflow at small temperatures.
    logits_BC = logits_BC.double().cpu()
    allowed = int((logits_BC[0] > -torch.inf).sum())
    logits_BC, ids_BC = logits_BC.topk(min(decoding.top_k or allowed, allowed))
    weights_BC = ((logits_BC - logits_BC[:, :1]) / decoding.temperature).softmax(1)
    if decoding.top_p is not None:
        weights_BC[weights_BC.cumsum(1) - weights_BC >= decoding.top_p] = 0.0
    return ids_BC.gather(1, torch.multinomial(weights_BC, 1, generator=generator))[:, 0]
