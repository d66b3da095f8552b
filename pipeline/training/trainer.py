"""Training one language model: epochs of steps, a validation after each, the best epoch's weights in the end.

All that a training run is between two steps sits in one `TrainingState`, and so in a checkpoint. Batches, learning
rates, sampled words and dropout are functions of the seed and of what the state holds: there is no other state, least
of all a global one. So a run that was killed and resumes from a checkpoint ends in the same bytes.
"""

import copy
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import repeat

import numpy as np
import torch

from pipeline.model.activations import ActivationCosts
from pipeline.model.arithmetic import total
from pipeline.model.batches import Sentences, token_budget_batches
from pipeline.model.dropping import Dropping
from pipeline.model.language_model import LanguageModel
from pipeline.model.output import Sampler, uses_bf16
from pipeline.model.packed import PackedBatch
from pipeline.model.params import Context
from pipeline.model.streams import Carried, Windows, drawn_lengths, windows_in_all
from pipeline.runtime.errors import InputError
from pipeline.runtime.progress import Bar, progress_bar
from pipeline.runtime.settings import keep_freed_memory, quieten_cudnn
from pipeline.runtime.stopping import Stop
from pipeline.text.encoded import EncodedSplit
from pipeline.text.unknown import with_unknown_words
from pipeline.training import averaging
from pipeline.training.checkpoint import Checkpoints, TrainingState
from pipeline.training.history import EpochRecord, Listener, best_epoch
from pipeline.training.optimizers import build_optimizer, take_step
from pipeline.training.params import TrainParams, TrainSettings
from pipeline.training.schedules import learning_rate

# What the time of a training run is told from: so many steps at most, and as many batches of validation.
TRIAL_BATCHES = 30
TRIAL_SHARE = 0.05  # of all steps
TRIAL_SECONDS = 2.0
VALIDATION_STREAMS = 10  # as AWD-LSTM validates; the test split is one stream

Batches = Sentences | Windows


def is_over(history: Sequence[EpochRecord], params: TrainParams) -> bool:
    """Whether all epochs are done, or `patience` of them in a row brought no better validation loss."""
    if not history:
        return False
    return len(history) >= params.epochs or len(history) - best_epoch(history).epoch >= params.patience


def chosen_device(params: TrainSettings | TrainParams) -> torch.device:
    """Where a model is trained.

    Raises:
        InputError: `train.device` is cuda, and there is no GPU that torch can use.
    """
    there = torch.cuda.is_available()
    if params.device == "cuda" and not there:
        raise InputError("train.device is cuda, but torch finds no GPU that it can use; set it to auto or cpu")
    wanted = params.device != "cpu" and params.precision != "exact"
    return torch.device("cuda" if there and wanted else "cpu")


def training_batches(split: EncodedSplit, params: TrainParams, epoch: int) -> Batches:
    """The batches of one epoch, in order: a function of (seed, epoch)."""
    if params.context == "stream":
        return Windows(split, params.streams, drawn_lengths(params.bptt, params.seed, epoch))
    return Sentences(split, token_budget_batches(split, params.batch_tokens, params.seed, epoch))


def validation_batches(split: EncodedSplit, batch_tokens: int, context: Context) -> Batches:
    """The batches of a validation, of about so many predicted tokens."""
    if context == "stream":
        return Windows(split, VALIDATION_STREAMS, repeat(-(-batch_tokens // VALIDATION_STREAMS)))
    return Sentences(split, token_budget_batches(split, batch_tokens, seed=0, epoch=0))


def validation_nats(
    model: LanguageModel,
    split: EncodedSplit,
    batch_tokens: int,
    between: Callable[[], None] = lambda: None,
    context: Context = "sentence",
) -> float:
    """Mean nats per predicted token of `split`, by the full softmax and without dropout.

    `between` is called after every batch, which has about `batch_tokens` predicted tokens.
    """
    model.eval()
    nats, device = 0.0, model.output_weight.device
    carried = Carried() if context == "stream" else None
    for batch in validation_batches(split, batch_tokens, context):
        nats += float(total(model.nats(batch.to(device), carried).double()))
        between()
    return nats / split.tokens


class Trainer:
    """One training run.

    Args:
        model: a fresh model; it ends on the CPU.
        train_split: what it learns from.
        valid_split: what decides which epoch is best, and when to stop.
        vocabulary_counts: training counts by id, `(vocabulary,)`; the sampled softmax draws by them.
        params: section `train`.
        checkpoints: where the run is saved now and then, and resumes from if it was interrupted; None: nowhere.
        stop: checked after every step; when it asks, the run writes a checkpoint and ends.
    """

    def __init__(
        self,
        model: LanguageModel,
        train_split: EncodedSplit,
        valid_split: EncodedSplit,
        vocabulary_counts: Sequence[int],
        params: TrainParams,
        checkpoints: Checkpoints | None = None,
        stop: Stop | None = None,
    ) -> None:
        keep_freed_memory()
        self._device = chosen_device(params)
        if self._device.type == "cuda":
            quieten_cudnn()
        model.dropping = Dropping(
            inputs=params.locked_dropout_inputs,
            embedding=params.locked_dropout_embedding,
            outputs=params.locked_dropout_outputs,
            words=params.dropped_words,
            states=params.locked_dropout_states,
            recurrent_weights=params.dropped_recurrent_weights,
        )
        model.costs = ActivationCosts(params.activation_regularization, params.temporal_regularization)
        self._state = TrainingState(model.to(self._device), build_optimizer(model, params))
        self._sampler = None
        if params.sampled_words is not None:
            self._sampler = Sampler(vocabulary_counts, params.sampled_words, params.sampling_power, params.seed)
        self._train_split, self._valid_split, self._params = train_split, valid_split, params
        self._counts = vocabulary_counts
        self._checkpoints, self._stop = checkpoints, stop

    def fit(self, listener: Listener) -> list[EpochRecord]:
        """Train until the epochs are over or validation stops improving; leave the best epoch's weights in the model.

        Returns a record for each epoch. After an interruption, `listener` is told of those that were not over.

        Raises:
            InputError: a loss, gradient or weight is no longer finite; the model is then not worth saving.
            StoppedError: `stop` asked.
        """
        state, params, in_an_epoch = self._state, self._params, self._train_split.tokens
        _say(f"training on {self._device} with {torch.get_num_threads()} threads")
        if params.precision == "bf16" and not uses_bf16("auto", self._device):
            _say("warning: this processor emulates bf16, which takes 12 to 30 times as long as fp32")
        resumed = self._checkpoints is not None and self._checkpoints.restore(state)
        if resumed:
            _say(f"resuming from a checkpoint at step {state.step:,}")
        listener.started(state.model.parameter_count(), in_an_epoch, resumed)
        with progress_bar("train", params.epochs * in_an_epoch, "tokens") as bar:
            bar.advance(len(state.history) * in_an_epoch + state.tokens)
            while not is_over(state.history, params):
                tokens, start = state.tokens, time.perf_counter()
                self._train_epoch(bar)
                seconds = time.perf_counter() - start
                tokens_per_second = (state.tokens - tokens) / seconds
                record = self._end_epoch()
                _say(
                    f"epoch {record.epoch} of {params.epochs}: training loss {record.train_nats:.3f} nats/token, "
                    f"validation perplexity {record.valid_perplexity:.2f}, {tokens_per_second:,.0f} tokens/s"
                )
                listener.epoch_ended(record, seconds, tokens_per_second)
        done, best = len(state.history), best_epoch(state.history).epoch
        if done < params.epochs:
            _say(
                f"stopped after epoch {done} of {params.epochs}, as none was better than epoch {best} since "
                f"(train.patience {params.patience})"
            )
        state.model.load_state_dict(state.best_weights)
        state.model.cpu()
        return state.history

    def expected_seconds(self) -> float:
        """How long all epochs take, told from a few batches; a copy of the model is trained with these."""
        params, model = self._params, copy.deepcopy(self._state.model).train()
        trial = Trainer(model, self._train_split, self._valid_split, self._counts, params)
        batches = training_batches(self._train_split, params, epoch=1)
        held_out = validation_batches(self._valid_split, params.batch_tokens, params.context)

        def step(index: int) -> None:
            trial._step(batches[index].to(self._device), 0.0, "in a trial step")
            self._stop_if_asked()

        def validate(index: int) -> None:
            total(model.nats(held_out[index].to(self._device))).item()
            self._stop_if_asked()

        limit = min(TRIAL_BATCHES, math.ceil(TRIAL_SHARE * params.epochs * len(batches)))
        a_step = _seconds_each(step, range(min(limit, len(batches))))
        model.eval()
        a_batch = _seconds_each(validate, range(min(limit, len(held_out))))
        return params.epochs * (len(batches) * a_step + len(held_out) * a_batch)

    def _train_epoch(self, bar: Bar) -> None:
        """Take the steps that the epoch under way still lacks."""
        state, params = self._state, self._params
        epoch = len(state.history) + 1
        split = with_unknown_words(self._train_split, self._counts, params.seed, epoch)
        batches = training_batches(split, params, epoch)
        done = state.step - (state.history[-1].steps if state.history else 0)
        steps = self._steps_in_all(len(batches))
        state.model.train()
        for index in range(done, len(batches)):
            rate = learning_rate(params, state.step, steps, state.history)
            batch = batches[index].to(self._device)
            if params.context == "stream":
                rate *= len(batch.batch_sizes) / params.bptt
            where = f"in epoch {epoch}, step {state.step + 1} (batch {index + 1} of {len(batches)})"
            state.nats += self._step(batch, rate, where) * len(batch.y_N)
            state.tokens += len(batch.y_N)
            state.step += 1
            share = averaging.share_of_step(params, state.step, steps, state.history)
            if share is not None:
                averaging.update(state.average, state.model, share)
            bar.advance(len(batch.y_N), f"epoch {epoch} of {params.epochs}, loss {state.nats / state.tokens:.3f}")
            self._save_or_stop()

    def _steps_in_all(self, in_an_epoch: int) -> int:
        """Of a training run that is not stopped early."""
        params = self._params
        if params.context == "sentence":
            return params.epochs * in_an_epoch
        return windows_in_all(self._train_split.tokens, params.streams, params.bptt, params.seed, params.epochs)

    def _step(self, batch: PackedBatch, rate: float, where: str) -> float:
        """One step of the optimiser at learning rate `rate`; returns the loss before it, mean nats per token.

        A gradient is clipped by its norm (Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063), then number by number
        (Mikolov 2012, Statistical Language Models Based on Neural Networks).
        """
        state, params = self._state, self._params
        # torch looks at 32 bits of a generator's seed only, so seed and step are mixed into that many.
        mixed = int(np.random.SeedSequence([params.seed, state.step]).generate_state(1)[0])
        masks = torch.Generator(batch.x_N.device).manual_seed(mixed)
        carried = state.carried if params.context == "stream" else None
        mean_nats = state.model.loss(batch, self._sampler, state.step, params.precision, masks, carried)
        state.model.zero_grad()
        mean_nats.backward()
        gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        loss = mean_nats.item()
        self._require_finite(loss, "loss", where)
        self._require_finite(norm.item(), "gradient", where)
        if norm > params.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(state.model.parameters(), params.clip_norm, norm)
        if params.clip_value is not None:
            torch.nn.utils.clip_grad_value_(state.model.parameters(), params.clip_value)
        state.learning_rate = rate
        take_step(state.optimizer)
        return loss

    def _end_epoch(self) -> EpochRecord:
        """Validate, put the epoch on record and keep its weights if it is the best so far."""
        state, params = self._state, self._params
        epoch = len(state.history) + 1
        where = f"after epoch {epoch}"
        for name, weight in state.model.named_parameters():
            self._require_finite(weight.detach().abs().max().item(), f"weight {name}", where)
        model = averaging.with_weights(state.model, state.average)
        nats = validation_nats(model, self._valid_split, params.batch_tokens, self._save_or_stop, params.context)
        perplexity = math.exp(nats) if nats < 700 else math.inf
        self._require_finite(perplexity, "validation perplexity", where)
        record = EpochRecord(epoch, state.step, state.learning_rate, state.nats / state.tokens, nats, perplexity)
        state.history.append(record)
        state.nats, state.tokens, state.carried = 0.0, 0, Carried()
        if best_epoch(state.history) is record:
            state.best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}
        return record

    def _save_or_stop(self) -> None:
        """Between two steps, or two batches of a validation, which changes nothing in the state."""
        self._stop_if_asked()
        if self._checkpoints:
            self._checkpoints.save_if_due(self._state)

    def _stop_if_asked(self) -> None:
        if self._stop:
            self._stop.raise_if_asked(self._save)

    def _save(self) -> str:
        """Save at once; returns what to tell whoever stops the run."""
        if not self._checkpoints:
            return "not saved"
        self._checkpoints.save(self._state)
        return f"`dvc repro` resumes after step {self._state.step:,}"

    def _require_finite(self, value: float, name: str, where: str) -> None:
        if not math.isfinite(value):
            raise InputError(
                f"training diverged: {name} is {value} {where}; lower train.learning_rate "
                f"({self._params.learning_rate:g}) or train.clip_norm ({self._params.clip_norm:g}) and train again"
            )


def _seconds_each(work: Callable[[int], object], batches: Sequence[int]) -> float:
    """Mean seconds that `work` takes for a batch, from those that fit into the time of a trial."""
    work(batches[0])  # the first of all takes longer
    times: list[float] = []
    for batch in batches:
        start = time.perf_counter()
        work(batch)
        times.append(time.perf_counter() - start)
        if sum(times) > TRIAL_SECONDS:
            break
    return statistics.fmean(times)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
