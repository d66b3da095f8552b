"""All figures of a model on a whole split; a served model needs none of them, nor the packages that they need."""

from pipeline.evaluation.scores import ScoreSums
from pipeline.inference.predictor import Predictor
from pipeline.runtime.progress import progress_bar
from pipeline.text.encoded import EncodedSplit


def score_split(predictor: Predictor, split: EncodedSplit, task: str) -> ScoreSums:
    """Sums over every target of `split`, by sentence and by frequency band, under the full softmax.

    The split is encoded with the model's vocabulary, and its order is that of the sums; `task` names the progress bar.
    """
    sums = ScoreSums(len(split), len(predictor.vocabulary))
    with progress_bar(task, split.tokens, "tokens") as bar:
        for batch, sentence_N in predictor.passes(split):
            scores = predictor.model.score(batch)
            target_N, nats_N, rank_N = (part.cpu().numpy() for part in (batch.y_N, scores.nats_N, scores.rank_N))
            sums.add(sentence_N, target_N, nats_N, rank_N)
            bar.advance(len(sentence_N))
    return sums
