"""What a model writes: whole sentences, and the next word of one that somebody began."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.model.language_model import LanguageModel
from pipeline.text.vocabulary import END_ID, START_ID, Vocabulary


@torch.no_grad()
def generate(
    model: LanguageModel,
    vocabulary: Vocabulary,
    count: int,
    *,
    temperature: float,
    top_k: int | None,
    max_length: int,
    seed: int,
    prompt: Sequence[str] = (),
) -> list[list[str]]:
    """Draw sentences word by word from the model's distribution; UNKNOWN_TOKEN and SENTENCE_START are never drawn.

    Args:
        model: in evaluation mode.
        vocabulary: the one it was trained with.
        count: of sentences.
        temperature: divides the logits; below 1 likelier words, duller sentences.
        top_k: draw from the k likeliest words only; None draws from all.
        max_length: words drawn before a sentence is cut.
        seed: equal seeds give equal sentences on one kind of machine.
        prompt: tokens that every sentence begins with; the model reads words it does not know as UNKNOWN_TOKEN.

    Returns:
        `count` lists of tokens, the prompt first. None is empty: a sentence cannot end before its first word.
    """
    sentences = [list(prompt) for _ in range(count)]
    generator = torch.Generator().manual_seed(seed)
    unfinished = set(range(count))
    logits_BC, state = _read(model, vocabulary, prompt, count)
    for _ in range(max_length):
        if not unfinished:
            break
        logits_BC[:, [START_ID, vocabulary.unknown_id]] = -torch.inf
        if not sentences[0]:  # so none has a word yet
            logits_BC[:, END_ID] = -torch.inf
        drawn_B = _draw(logits_BC, temperature, top_k, generator)
        for row, word in enumerate(drawn_B.tolist()):
            if row in unfinished and word == END_ID:
                unfinished.remove(row)
            elif row in unfinished:
                sentences[row].append(vocabulary.tokens[word])
        # Rows of finished sentences run on unread, so that what a row draws does not depend on the others' lengths.
        logits_BC, state = model.next_logits(drawn_B.to(logits_BC.device), state)
    return sentences


@torch.no_grad()
def suggest(model: LanguageModel, vocabulary: Vocabulary, prefix: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The `count` likeliest words after `prefix`, likeliest first, with their probabilities under the whole model.

    Only words are suggested: no special token is, though their share of the probability is not handed out to others.
    """
    logits_BC, _ = _read(model, vocabulary, prefix, 1)
    probability_C = logits_BC[0].double().softmax(0).cpu()
    probability_C[[START_ID, END_ID, vocabulary.unknown_id]] = -1
    best = probability_C.topk(min(count, len(vocabulary) - 3))
    return [(vocabulary.tokens[word], p) for p, word in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def readable(tokens: Sequence[str]) -> str:
    """Tokens as a person would write them: `do n't go .` becomes `don't go.`, on one line."""
    from nltk.tokenize.treebank import TreebankWordDetokenizer

    return " ".join(TreebankWordDetokenizer().detokenize(list(tokens)).split())


def _read(model: LanguageModel, vocabulary: Vocabulary, tokens: Sequence[str], rows: int) -> tuple[Tensor, list]:
    """Logits `(rows, C)` of the word after SENTENCE_START and `tokens`, and the state there, the same in every row."""
    device = next(model.parameters()).device
    logits_BC, state = model.next_logits(torch.full((rows,), START_ID, device=device), None)
    for word in vocabulary.encode(tokens):
        logits_BC, state = model.next_logits(torch.full((rows,), word, device=device), state)
    return logits_BC, state


def _draw(logits_BC: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """One word id a row `(B,)`, in proportion to exp(logits / temperature) among the `top_k` largest."""
    # On the CPU and in float64: the same draws whatever the device, and no overflow at small temperatures.
    logits_BC = logits_BC.double().cpu()
    allowed = int((logits_BC[0] > -torch.inf).sum())
    logits_BC, ids_BC = logits_BC.topk(min(top_k or allowed, allowed))
    weights_BC = ((logits_BC - logits_BC[:, :1]) / temperature).softmax(1)
    return ids_BC.gather(1, torch.multinomial(weights_BC, 1, generator=generator))[:, 0]
