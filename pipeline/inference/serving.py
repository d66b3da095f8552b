"""The model as MLflow serves it: logged as this file's code ("models from code"), so nothing is pickled.

MLflow runs this file when it loads the model; the project itself never imports it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from pipeline.evaluation.paired import nats_over_types
from pipeline.inference.generation import Decoding, readable
from pipeline.inference.predictor import Predictor
from pipeline.inference.request import Options, check_request, check_tokens, put_gate_before_server
from pipeline.inference.word_types import unknown_types_with
from pipeline.model.batches import token_budget_batches
from pipeline.runtime.errors import InputError
from pipeline.runtime.exactness import warn_if_not_exact
from pipeline.runtime.settings import compute_the_same_everywhere

WITHOUT_TYPES = (
    "params.over_types: the words of a corpus are not at hand here; they are taken from data/tokens of the project "
    "when `rnnlm serve` starts, and when a model is logged for `mlflow models serve`"
)
MOST_LOGITS = 1 << 23  # that suggesting and generating hold at a time: 64 MB


class ServedLanguageModel(PythonModel):
    """Texts in, a row of answers for each; the texts of a request share forward passes.

    `task` decides which: `score` gives ln P(sentence) in nats, its number of tokens, SENTENCE_END included, and how
    many of these the model does not know, whose probability `over_types` shares among all words of the corpus and the
    request that it does not know; `suggest` the `count` likeliest next words after the text and their
    probabilities; `generate` `count` sentences that begin with the text, drawn with `temperature`, `top_k` (0: all
    words), `max_length` and `seed`. Texts that are `tokenized` have spaces between their tokens.
    """

    def load_context(self, context: Any) -> None:
        """Load the model from its folder, its only artifact."""
        # MLflow's process may have NumPy at work already, but nothing here depends on its functions.
        compute_the_same_everywhere()
        warn_if_not_exact(numpy=False)
        self._predictor = Predictor.load(Path(context.artifacts["model"]))
        path = context.artifacts.get("unknown_types")
        self._unknown_types = None if path is None else np.load(path, mmap_mode="r")
        put_gate_before_server(self._predictor.tokens)

    def predict(self, context: Any, model_input: list[str], params: dict[str, Any] | None = None):  # pyrefly: ignore[bad-override]
        """Answer a request with a row for each text.

        MLflow checks that `model_input` is what its type hint says; `params` are fields of `Options`, and MLflow fills
        in defaults.

        Raises:
            MlflowException: the request is wrong; INVALID_PARAMETER_VALUE, which a server answers with status 400.
        """
        try:
            options = check_request(model_input, params or {}).params
            tokens = self._predictor.tokens(model_input, options.tokenized)
            check_tokens(tokens, options)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        answers = {"score": self._score, "suggest": self._suggest, "generate": self._generate}
        return answers[options.task](tokens, options)

    def _score(self, sentences: list[list[str]], options: Options) -> pd.DataFrame:
        split = self._predictor.encode(sentences)
        unknown = split.count(self._predictor.vocabulary.unknown_id)
        nats = self._predictor.nats(split)
        if options.over_types:
            if self._unknown_types is None:
                raise MlflowException.invalid_parameter_value(WITHOUT_TYPES)
            types = unknown_types_with(self._unknown_types, self._predictor.vocabulary, sentences)
            nats = nats_over_types(nats, unknown, types)
        return pd.DataFrame({"log_probability": -nats, "tokens": split.lengths, "unknown": unknown})

    def _suggest(self, prefixes: list[list[str]], options: Options) -> pd.DataFrame:
        rows = self._in_parts(prefixes, 1, lambda part: self._predictor.suggest(part, options.count))
        return pd.DataFrame(
            {
                "words": [[word for word, _ in row] for row in rows],
                "probabilities": [[probability for _, probability in row] for row in rows],
            }
        )

    def _generate(self, prompts: list[list[str]], options: Options) -> pd.DataFrame:
        decoding = Decoding(options.temperature, options.top_k or None, options.max_length, options.seed)
        rows = self._in_parts(
            prompts, options.count, lambda part: self._predictor.generate(part, options.count, decoding)
        )
        return pd.DataFrame({"sentences": [[readable(tokens) for tokens in sentences] for sentences in rows]})

    def _in_parts(
        self, texts: list[list[str]], count: int, answer: Callable[[list[list[str]]], Sequence[Any]]
    ) -> list[Any]:
        """An answer for each text, from passes of texts of similar length that hold `MOST_LOGITS`, or one text.

        `count` is the rows of logits for a token; `answer` is what answers the texts that share a pass.
        """
        rows: list[Any] = [None] * len(texts)
        if texts:
            budget = MOST_LOGITS // len(self._predictor.vocabulary) // count
            for together in token_budget_batches(self._predictor.encode(texts), budget, seed=0, epoch=0):
                for index, row in zip(together, answer([texts[index] for index in together]), strict=True):
                    rows[index] = row
        return rows


set_model(ServedLanguageModel())
