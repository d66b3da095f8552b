"""A network's scores on a whole split."""

from pipeline.evaluation.scores import ScoreSums
from pipeline.model.batches import token_budget_batches
from pipeline.model.language_model import LanguageModel
from pipeline.model.packed import pack, steps_and_sequences
from pipeline.runtime.progress import progress_bar
from pipeline.text.encoded import EncodedSplit

BATCH_TOKENS = 8192  # enough to keep the processor busy; the model never holds all their logits at once


def score_split(model: LanguageModel, split: EncodedSplit, task: str) -> ScoreSums:
    """Sums over every target of `split`, by sentence and by frequency band, under the full softmax.

    Args:
        model: in evaluation mode, of the vocabulary the split is encoded with.
        split: sentences in the order in which the sums will stand.
        task: what the progress bar calls this.
    """
    sums = ScoreSums(len(split), model.vocabulary_size)
    device = model.output_weight.device
    with progress_bar(task, split.tokens, "tokens") as bar:
        for sentences in token_budget_batches(split, BATCH_TOKENS, seed=0, epoch=0):
            batch = pack(split.ids, split.offsets, sentences)
            scores = model.score(batch.to(device))
            sentence_N = batch.order[steps_and_sequences(batch.batch_sizes)[1]]
            sums.add(sentence_N, batch.y_N.numpy(), scores.nats_N.cpu().numpy(), scores.rank_N.cpu().numpy())
            bar.advance(len(sentence_N))
    return sums
