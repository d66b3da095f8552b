"""The model as MLflow serves it: logged as this file's code ("models from code"), so nothing is pickled.

MLflow runs this file when it loads the model; the project itself never imports it.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from pipeline.errors import InputError
from pipeline.evaluation.generation import generate, readable, suggest
from pipeline.model.language_model import load_model
from pipeline.model.packed import pack, steps_and_sequences
from pipeline.text.encoded import EncodedSplit
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.batches import token_budget_batches

BATCH_TOKENS = 8192  # scored in one forward pass
LONGEST_TEXT = 100_000  # characters; keeps one request from taking the server's memory
MOST_TEXTS = 10_000  # of a request
# Every parameter of a request: what it must be, in words, and the test of it.
PARAMETERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "task": ("score, suggest or generate", lambda value: value in ("score", "suggest", "generate")),
    "count": ("a whole number from 1 to 100", lambda value: 1 <= value <= 100),
    "temperature": ("a number above 0", lambda value: 0 < value < math.inf),
    "top_k": ("a whole number, 0 for all words", lambda value: value >= 0),
    "max_length": ("a whole number from 1 to 1000", lambda value: 1 <= value <= 1000),
    "seed": ("a whole number, not negative", lambda value: value >= 0),
}


class ServedLanguageModel(PythonModel):
    """Texts in, a row of answers for each.

    `task` decides which: `score` gives ln P(sentence) in nats and its number of tokens, SENTENCE_END included;
    `suggest` the `count` likeliest next words after the text and their probabilities; `generate` `count` sentences that
    begin with the text, drawn with `temperature`, `top_k` (0: all words), `max_length` and `seed`.
    """

    def load_context(self, context: Any) -> None:
        """Load weights, vocabulary and text settings from the model's artifacts."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        self._model = load_model(files["model"])
        self._vocabulary = Vocabulary.load(files["vocabulary"])
        self._tokenizer = Tokenizer(**json.loads(files["text"].read_text(encoding="utf-8")))

    def predict(self, context: Any, model_input: list[str], params: dict[str, Any] | None = None):
        """Answer a request.

        Args:
            context: of no use here; `load_context` has read it.
            model_input: texts; MLflow checks that they are what this type hint says.
            params: all of `PARAMETERS`; MLflow fills in those of the input example where the request has none.

        Returns:
            A data frame with a row for each text.

        Raises:
            MlflowException: the request is wrong; INVALID_PARAMETER_VALUE, which a server answers with status 400.
        """
        try:
            options = _checked(params or {})
            tokens = [self._tokenizer.tokenize(text) for text in _checked_texts(model_input)]
            tasks: dict[str, Callable[..., Any]] = {
                "score": self._score,
                "suggest": self._suggest,
                "generate": self._generate,
            }
            return tasks[options["task"]](tokens, options)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def _score(self, sentences: list[list[str]], options: dict[str, Any]) -> pd.DataFrame:
        rows = [self._vocabulary.sentence_ids(tokens) for tokens in sentences]
        nats = np.zeros(len(rows))
        if rows:
            split = EncodedSplit(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
            for together in token_budget_batches(split, BATCH_TOKENS, seed=0, epoch=0):
                batch = pack(split.ids, split.offsets, together)
                row_N = batch.order[steps_and_sequences(batch.batch_sizes)[1]]
                np.add.at(nats, row_N, self._model.score(batch).nats_N.numpy().astype(np.float64))
        return pd.DataFrame({"log_probability": -nats, "tokens": np.array([len(row) - 1 for row in rows], np.int64)})

    def _suggest(self, prefixes: list[list[str]], options: dict[str, Any]) -> pd.DataFrame:
        found = [suggest(self._model, self._vocabulary, tokens, options["count"]) for tokens in prefixes]
        return pd.DataFrame(
            {
                "words": [[word for word, _ in row] for row in found],
                "probabilities": [[probability for _, probability in row] for row in found],
            }
        )

    def _generate(self, prompts: list[list[str]], options: dict[str, Any]) -> pd.DataFrame:
        drawn = [
            generate(
                self._model,
                self._vocabulary,
                options["count"],
                temperature=options["temperature"],
                top_k=options["top_k"] or None,
                max_length=options["max_length"],
                seed=options["seed"],
                prompt=tokens,
            )
            for tokens in prompts
        ]
        return pd.DataFrame({"sentences": [[readable(tokens) for tokens in row] for row in drawn]})


def _checked(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, all of them there (the signature fills in defaults), each of a sensible value."""
    for name, (expected, fits) in PARAMETERS.items():
        value = params.get(name)
        if value is None or not fits(value):
            raise InputError(f"parameter {name} must be {expected}, got {value!r}")
    return params


def _checked_texts(texts: list[str]) -> list[str]:
    """The texts of a request, none too many and none too long."""
    if len(texts) > MOST_TEXTS:
        raise InputError(f"a request has at most {MOST_TEXTS} texts, got {len(texts)}; send several")
    for number, text in enumerate(texts):
        if len(text) > LONGEST_TEXT:
            raise InputError(f"text {number} has {len(text)} characters; at most {LONGEST_TEXT} are read")
    return texts


set_model(ServedLanguageModel())
