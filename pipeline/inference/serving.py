"""The model as MLflow serves it: logged as this file's code ("models from code"), so nothing is pickled.

MLflow runs this file when it loads the model; the project itself never imports it.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from torch.nn.functional import cross_entropy

from pipeline.inference.generation import generate_each, readable, suggest_each
from pipeline.inference.request import Options, check_request, put_gate_before_server
from pipeline.model.batches import token_budget_batches
from pipeline.model.language_model import load_model
from pipeline.model.packed import PackedBatch, pack, steps_and_sequences
from pipeline.runtime.errors import InputError
from pipeline.text.encoded import EncodedSplit
from pipeline.text.tokenizer import Tokenizer
from pipeline.text.vocabulary import Vocabulary

SCORED_TOKENS = 8192  # in one forward pass
LOGIT_ROWS = 128  # of them, whose logits exist at a time
MOST_LOGITS = 1 << 23  # that suggesting and generating hold at a time: 64 MB


class ServedLanguageModel(PythonModel):
    """Texts in, a row of answers for each; the texts of a request share forward passes.

    `task` decides which: `score` gives ln P(sentence) in nats and its number of tokens, SENTENCE_END included;
    `suggest` the `count` likeliest next words after the text and their probabilities; `generate` `count` sentences that
    begin with the text, drawn with `temperature`, `top_k` (0: all words), `max_length` and `seed`.
    """

    def load_context(self, context: Any) -> None:
        """Load weights, vocabulary and text settings from the model's artifacts."""
        files = {name: Path(path) for name, path in context.artifacts.items()}
        self._model = load_model(files["model"])
        # Suggests and generates in float64, so that what a text is answered does not depend on the texts it shares a
        # pass with: in float32 the last bits do, and now and then a drawn word becomes another.
        self._exact = copy.deepcopy(self._model).double()
        self._vocabulary = Vocabulary.load(files["vocabulary"])
        self._tokenizer = Tokenizer(**json.loads(files["text"].read_text(encoding="utf-8")))
        put_gate_before_server()

    def predict(self, context: Any, model_input: list[str], params: dict[str, Any] | None = None):
        """Answer a request.

        Args:
            context: of no use here; `load_context` has read it.
            model_input: texts; MLflow checks that they are what this type hint says.
            params: fields of `Options`; MLflow fills in defaults.

        Returns:
            A data frame with a row for each text.

        Raises:
            MlflowException: the request is wrong; INVALID_PARAMETER_VALUE, which a server answers with status 400.
        """
        try:
            options = check_request(model_input, params or {}).params
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        tokens = [self._tokenizer.tokenize(text) for text in model_input]
        answers = {"score": self._score, "suggest": self._suggest, "generate": self._generate}
        return answers[options.task](tokens, options)

    @torch.no_grad()
    def _score(self, sentences: list[list[str]], options: Options) -> pd.DataFrame:
        nats = np.zeros(len(sentences))
        for split, together in self._batches(sentences, SCORED_TOKENS):
            batch = pack(split.ids, split.offsets, together)
            row_N = batch.order[steps_and_sequences(batch.batch_sizes)[1]]
            np.add.at(nats, row_N, self._nats(batch).numpy().astype(np.float64))
        counts = np.array([len(tokens) + 1 for tokens in sentences], np.int64)
        return pd.DataFrame({"log_probability": -nats, "tokens": counts})

    def _nats(self, batch: PackedBatch) -> torch.Tensor:
        """As `LanguageModel.score`, without the ranks of the targets, which take a third of the time."""
        model, nats = self._model, []
        h_NH, _ = model.hidden(batch.x_N, batch.batch_sizes)
        buffer_RC = h_NH.new_empty(LOGIT_ROWS, model.vocabulary_size)
        for h_RH, y_R in zip(h_NH.split(LOGIT_ROWS), batch.y_N.split(LOGIT_ROWS), strict=True):
            logits_RC = torch.mm(h_RH, model.output_weight.t(), out=buffer_RC[: len(h_RH)])
            if model.c is not None:
                logits_RC += model.c
            nats.append(cross_entropy(logits_RC, y_R, reduction="none"))
        return torch.cat(nats)

    def _suggest(self, prefixes: list[list[str]], options: Options) -> pd.DataFrame:
        rows: list[list[tuple[str, float]]] = [[]] * len(prefixes)
        for _, together in self._batches(prefixes, MOST_LOGITS // len(self._vocabulary)):
            found = suggest_each(self._exact, self._vocabulary, [prefixes[i] for i in together], options.count)
            for i, row in zip(together, found, strict=True):
                rows[i] = row
        return pd.DataFrame(
            {
                "words": [[word for word, _ in row] for row in rows],
                "probabilities": [[probability for _, probability in row] for row in rows],
            }
        )

    def _generate(self, prompts: list[list[str]], options: Options) -> pd.DataFrame:
        rows: list[list[str]] = [[]] * len(prompts)
        for _, together in self._batches(prompts, MOST_LOGITS // len(self._vocabulary) // options.count):
            drawn = generate_each(
                self._exact,
                self._vocabulary,
                [prompts[i] for i in together],
                options.count,
                temperature=options.temperature,
                top_k=options.top_k or None,
                max_length=options.max_length,
                seed=options.seed,
            )
            for i, sentences in zip(together, drawn, strict=True):
                rows[i] = [readable(tokens) for tokens in sentences]
        return pd.DataFrame({"sentences": rows})

    def _batches(self, texts: list[list[str]], tokens: int) -> Iterator[tuple[EncodedSplit, np.ndarray]]:
        """The texts as ids, and which of them share a forward pass: of similar length, `tokens` in all or one text."""
        if not texts:
            return
        ids = [self._vocabulary.sentence_ids(text) for text in texts]
        split = EncodedSplit(np.concatenate(ids), np.cumsum([0, *map(len, ids)]))
        for together in token_budget_batches(split, tokens, seed=0, epoch=0):
            yield split, together


set_model(ServedLanguageModel())
