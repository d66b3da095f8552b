"""Training speed: output layer, recurrence, whole steps and epochs, each against what people use instead.

Rows `epoch_*` and `tutorial_step` read the encoded default corpus, so they need one `make repro` before; without it
they are left out. `python -m benchmarks.training --json FILE`; docs/performance.md explains the rows.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.harness import REPEATS, Result, compare, from_pairs, run, seconds
from benchmarks.peers import MogrifierLSTM, PlainModel, TutorialRNN, padded
from pipeline.model.batches import token_budget_batches
from pipeline.model.cells import GATES
from pipeline.model.language_model import LanguageModel
from pipeline.model.mogrifier import run_mogrifier
from pipeline.model.output import Precision, Sampler, cross_entropy, uses_bf16
from pipeline.model.packed import PackedBatch, pack
from pipeline.model.params import NEUTRAL_SHAPE, ModelParams
from pipeline.model.recurrence import run_layer
from pipeline.params import CellParams, load_params
from pipeline.runtime.paths import ENCODED, VOCABULARY
from pipeline.text.encoded import EncodedSplit, load_split
from pipeline.text.vocabulary import Vocabulary
from pipeline.training.automatic import in_numbers
from pipeline.training.checkpoint import CHECKPOINT_SECONDS, WRITING_SHARE, Checkpoints, TrainingState
from pipeline.training.optimizers import build_optimizer

DEFAULT_TOKENS = 1_500_000  # of training, about: decides what `auto` is
EPOCH_SHARE = 24  # rows `epoch_*` train on every 24th batch of an epoch
PLAIN_OUTPUT = "F.linear and F.cross_entropy, fp32"
MODULES: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def rows() -> Iterator[Result]:
    """All rows, in the order of the module's head."""
    torch.manual_seed(0)
    precisions: list[Precision] = ["fp32", "bf16"] if has_bf16() else ["fp32"]
    if not has_bf16():
        print("this processor only emulates bf16: no rows *_bf16", file=sys.stderr)
    for N, H, C in ((2048, 100, 8000), (700, 200, 10000)):
        for precision in precisions:
            yield output_layer(N, H, C, precision)
    for T, B, H in ((32, 64, 100), (35, 20, 200), (35, 128, 256)):
        for cell in GATES:
            yield recurrence(cell, T, B, H)
    for rounds in (2, 5):
        yield mogrifier(rounds, 35, 40, 352)
    yield from word_language_model()
    yield peak_share()
    yield checkpoint()
    if not (ENCODED / "train").is_dir():
        print(f"{ENCODED} is missing: no rows epoch_* and tutorial_step; run `make repro` first", file=sys.stderr)
        return
    split, vocabulary = load_split(ENCODED / "train"), Vocabulary.load(VOCABULARY)
    cells = load_params().cells
    for cell in cells.values():
        yield epoch(cell, split, vocabulary)
    yield tutorial_step(cells["rnn"], split, vocabulary)


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 in hardware."""
    return uses_bf16("auto", torch.device("cpu"))


def output_layer(N: int, H: int, C: int, precision: Precision) -> Result:
    """Loss and all gradients of the full softmax."""
    h_NH, V_CH, c_C = (torch.randn(shape, requires_grad=True) for shape in ((N, H), (C, H), (C,)))
    y_N = torch.randint(C, (N,))
    return compare(
        f"output_{N}x{H}x{C}_{precision}",
        PLAIN_OUTPUT,
        lambda: cross_entropy(h_NH, V_CH, c_C, y_N, precision).backward(),
        lambda: functional.cross_entropy(functional.linear(h_NH, V_CH, c_C), y_N).backward(),
    )


def recurrence(cell: str, T: int, B: int, H: int) -> Result:
    """One layer, in fp32."""
    module, G = MODULES[cell](H, H), len(GATES[cell]) * H
    return _layer(
        f"recurrence_{cell}_{T}x{B}x{H}",
        f"nn.{module.mode.partition('_')[0]}",
        (T, B, H),
        [(H, G), (H, G), (G,)],
        lambda x_NH, U, W, b: run_layer(cell, x_NH, (B,) * T, U, W, b, precision="fp32")[0],
        lambda x_TBH: module(x_TBH)[0],
    )


def mogrifier(rounds: int, T: int, B: int, H: int) -> Result:
    """One LSTM layer with a Mogrifier before each step."""
    return _layer(
        f"mogrifier_{rounds}_{T}x{B}x{H}",
        "nn.LSTMCell, nn.Linear",
        (T, B, H),
        [(H, 4 * H), (H, 4 * H), (4 * H,), *[(H, H)] * rounds],
        lambda x_NH, U, W, b, *matrices: run_mogrifier(x_NH, (B,) * T, U, W, b, [(matrix,) for matrix in matrices])[0],
        MogrifierLSTM(H, rounds),
    )


def _layer(
    name: str,
    peer: str,
    shape: tuple[int, int, int],
    weights: Sequence[tuple[int, ...]],
    ours: Callable[..., Tensor],
    theirs: Callable[[Tensor], Tensor],
) -> Result:
    """Forward and backward of a layer over B sequences of length T, as many inputs as units.

    Args:
        name: of the row.
        peer: what `theirs` is.
        shape: T, B and H.
        weights: the shapes of those that `ours` takes.
        ours: from inputs (T * B, H) and these weights to states of that shape.
        theirs: from inputs (T, B, H) to states of that shape.
    """
    bound = shape[-1] ** -0.5
    drawn = [torch.empty(of).uniform_(-bound, bound).requires_grad_() for of in weights]
    x_TBH, ds_TBH = torch.randn(shape, requires_grad=True), torch.randn(shape)
    x_NH, ds_NH = x_TBH.detach().flatten(0, 1).requires_grad_(), ds_TBH.flatten(0, 1)
    return compare(name, peer, lambda: ours(x_NH, *drawn).backward(ds_NH), lambda: theirs(x_TBH).backward(ds_TBH))


def word_language_model() -> Iterator[Result]:
    """A whole step in the shape of PyTorch's word_language_model: LSTM, 2 x 200, 10,000 words, 20 x 35 tokens."""
    C, H, B, T = 10_000, 200, 20, 35
    params = ModelParams(
        cell="lstm", hidden_size=H, embedding_dim=H, layers=2, bias=True, output_bias=True, tie_weights=False,
        dropout=0.2, lookup_init=0.1, **NEUTRAL_SHAPE,
    )  # fmt: skip
    # Zipf's law, as in text: the sampled softmax works on the distinct targets of a batch.
    chances = 1 / torch.arange(1, C + 1)
    words_TB = torch.multinomial(chances, (T + 1) * B, replacement=True).view(T + 1, B)
    batch = PackedBatch(words_TB[:-1].flatten(), words_TB[1:].flatten(), (B,) * T, np.arange(B))
    sampler = Sampler((1e6 * chances).long().tolist(), 1000, 0.5, seed=1)
    plain = PlainModel("lstm", C, H, H, layers=2, bias=True, output_bias=True, dropout=0.2)
    plain_step = _plain_step(plain, words_TB[:-1], words_TB[1:], "sgd")
    peer = "nn.Embedding, nn.LSTM, nn.Linear, fp32"
    sides: list[tuple[str, Precision, Sampler | None]] = [("fp32", "fp32", None), ("sampled", "auto", sampler)]
    if has_bf16():
        sides.insert(1, ("bf16", "bf16", None))
    for name, precision, chosen in sides:
        step = our_step(LanguageModel(params, C, torch.Generator().manual_seed(1)), batch, precision, chosen, "sgd")
        yield compare(f"step_wlm_{name}", peer, step, plain_step, T * B, "tokens/s")


def peak_share() -> Result:
    """Arithmetic of a step of the default LSTM with the full softmax, against a large product in the same precision.

    The precision is that of `auto`: the faster one on this processor.
    Counted are the products of the model: 6 operations a weight and token (forward, and backward by both sides); the
    look-up of one-hot words multiplies nothing.
    """
    cell = load_params().cells["lstm"]
    C, H, N, T = 8000, cell.model.hidden_size, 2048, 32
    batch = PackedBatch(torch.randint(C, (N,)), torch.randint(C, (N,)), (N // T,) * T, np.arange(N // T))
    model = LanguageModel(cell.model, C, torch.Generator().manual_seed(1))
    step = our_step(model, batch, "auto", None, "adamw")
    operations = 6 * N * (H * C + H * 4 * H)
    size = 2048
    precision, dtype = ("bf16", torch.bfloat16) if has_bf16() else ("fp32", torch.float32)
    a, b = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    product = compare("", "", step, lambda: a @ b)
    ours, theirs = operations / product.ours / 1e6, 2 * size**3 / product.theirs / 1e6
    return Result(
        "peak_share", f"a {precision} product of 2048 x 2048", ours, theirs, "GFLOP/s", ours / theirs, product.spread
    )


def checkpoint() -> Result:
    """Writing a checkpoint of the default LSTM, against the share of the time between two that it may take."""
    cell = load_params().cells["lstm"]
    train = in_numbers(cell.train, cell.model, DEFAULT_TOKENS)
    model = LanguageModel(cell.model, 8000, torch.Generator().manual_seed(1))
    state = TrainingState(model, build_optimizer(model, train), best_weights=model.state_dict())
    words = torch.randint(8000, (64,))
    _step(model, model.loss(PackedBatch(words, words, (64,), np.arange(64))), state.optimizer, train.clip_norm)
    with TemporaryDirectory(dir=".") as folder:  # on the disk that holds the project's own
        checkpoints = Checkpoints("lstm", "benchmark", Path(folder))
        written = [seconds(lambda: checkpoints.save(state)) for _ in range(REPEATS)]
    allowed = WRITING_SHARE * CHECKPOINT_SECONDS
    peer = f"{WRITING_SHARE:.0%} of the {CHECKPOINT_SECONDS:.0f} s between two"
    return from_pairs("checkpoint", peer, [(time, allowed) for time in written], 0, "ms")


def epoch(cell: CellParams, split: EncodedSplit, vocabulary: Vocabulary) -> Result:
    """The default configuration as it ships, over every 24th batch of an epoch, packing and optimiser included."""
    params = in_numbers(cell.train, cell.model, split.tokens)
    chosen = token_budget_batches(split, params.batch_tokens, params.seed, 1)[::EPOCH_SHARE]
    tokens = sum(int(split.lengths[sentences].sum()) for sentences in chosen)
    shape = cell.model
    plain = PlainModel(
        shape.cell, len(vocabulary), shape.embedding_dim or shape.hidden_size, shape.hidden_size, shape.layers,
        shape.bias, shape.output_bias, shape.dropout, one_hot=shape.embedding_dim is None,
    )  # fmt: skip
    plain_optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3)

    def theirs() -> None:
        for sentences in chosen:
            x_TB, y_TB = padded(split, sentences)
            _step(plain, plain.loss(x_TB, y_TB), plain_optimizer, cell.train.clip_norm)

    ours = our_epoch(cell, split, vocabulary, chosen)
    return compare(f"epoch_{cell.name}", f"{plain}, padded, fp32", ours, theirs, tokens, "tokens/s")


def tutorial_step(cell: CellParams, split: EncodedSplit, vocabulary: Vocabulary) -> Result:
    """The plain RNN as it ships, against the tutorial's NumPy network; both train on the same sentences.

    Ours takes a thousand sentences in its batches; eight of them are enough to time the tutorial's, which takes one
    after the other, so that its cost is by the token.
    """
    chosen = np.random.default_rng(0).choice(len(split), 1000, replace=False)
    rows = [np.asarray(split.ids[split.offsets[i] : split.offsets[i + 1]], np.int64) for i in chosen]
    some = EncodedSplit(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
    tutorial = TutorialRNN(len(vocabulary), cell.model.hidden_size)

    def theirs() -> None:
        for row in rows[:8]:
            tutorial.sgd_step(row[:-1], row[1:], 0.005)

    params = in_numbers(cell.train, cell.model, split.tokens)
    batches = token_budget_batches(some, params.batch_tokens, params.seed, 1)
    timed = compare("", "", our_epoch(cell, some, vocabulary, batches), theirs)
    ours = 1e3 * some.tokens / timed.ours
    peer = 1e3 * sum(len(row) - 1 for row in rows[:8]) / timed.theirs
    return Result("tutorial_step", "the tutorial's NumPy RNN", ours, peer, "tokens/s", ours / peer, timed.spread)


def our_epoch(
    cell: CellParams, split: EncodedSplit, vocabulary: Vocabulary, batches: Sequence[np.ndarray]
) -> Callable[[], None]:
    """The steps of the shipped configuration over some batches, packing and optimiser included."""
    train = in_numbers(cell.train, cell.model, split.tokens)
    model = LanguageModel(cell.model, len(vocabulary), torch.Generator().manual_seed(train.seed))
    sampler = train.sampled_words and Sampler(vocabulary.counts, train.sampled_words, train.sampling_power, train.seed)
    optimizer = build_optimizer(model, train)

    def steps() -> None:
        for step, sentences in enumerate(batches):
            batch = pack(split, sentences)
            _step(model, model.loss(batch, sampler or None, step, train.precision), optimizer, train.clip_norm)

    return steps


def our_step(
    model: LanguageModel, batch: PackedBatch, precision: Precision, sampler: Sampler | None, optimizer: str
) -> Callable[[], None]:
    """A whole step of our training on one batch, again and again."""
    cell = load_params().cells["lstm"]
    train = in_numbers(cell.train.model_copy(update={"optimizer": optimizer}), cell.model, DEFAULT_TOKENS)
    updates = build_optimizer(model, train)
    return lambda: _step(model, model.loss(batch, sampler, 0, precision), updates, 1.0)


def _plain_step(model: PlainModel, x_TB: Tensor, y_TB: Tensor, optimizer: str):
    updates = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer](model.parameters(), lr=1e-3)
    return lambda: _step(model, model.loss(x_TB, y_TB), updates, 1.0)


def _step(model: nn.Module, loss: Tensor, optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()


if __name__ == "__main__":
    run(rows)
