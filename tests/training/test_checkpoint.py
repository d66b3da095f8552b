"""A training run interrupted at any step and resumed ends in the bytes of one that never was."""

from collections.abc import Callable
from itertools import cycle, pairwise
from pathlib import Path

import pytest
import torch

from pipeline.model.language_model import LanguageModel
from pipeline.model.output import Sampler
from pipeline.model.streams import Carried
from pipeline.runtime.errors import StoppedError
from pipeline.runtime.stopping import Stop
from pipeline.training import checkpoint
from pipeline.training.checkpoint import KEPT_CHECKPOINTS, KEPT_TRAININGS, Checkpoints, TrainingState, training_key
from pipeline.training.history import EpochRecord
from pipeline.training.optimizers import build_optimizer
from pipeline.training.params import TrainParams
from pipeline.training.trainer import Trainer
from tests.training.conftest import SIZE, Remembers, counting, noise, train_params

MakeModel = Callable[..., LanguageModel]
COUNTS = [5] * SIZE


class Interrupting(Checkpoints):
    """Looked at `steps` times, then the process dies, or is asked to end, there and then."""

    def __init__(self, folder: Path, steps: int, stop: Stop | None = None, every: int = 1) -> None:
        super().__init__("gru", "key", folder)
        self._left, self._stop, self._every = steps, stop, every

    def save_if_due(self, state: TrainingState) -> None:
        self._left -= 1
        if self._left % self._every == 0:
            self.save(state)
        if self._left == 0:
            if self._stop is None:
                raise KeyboardInterrupt  # nothing else gets to run, as after a SIGKILL
            self._stop.signal = 15


def result(model: LanguageModel, history: list[EpochRecord]) -> tuple[dict[str, bytes], list[EpochRecord]]:
    return {name: weight.numpy().tobytes() for name, weight in model.state_dict().items()}, history


def run(model: LanguageModel, params: TrainParams, checkpoints: Checkpoints | None, stop: Stop | None = None):
    split, valid = noise(40, seed=1), counting(30, seed=2)
    return result(model, Trainer(model, split, valid, COUNTS, params, checkpoints, stop).fit(Remembers()))


VARIANTS = [
    ({}, {"dropout": 0.3, "layers": 2}),
    ({"sampled_words": 6}, {"tie_weights": True, "embedding_dim": 8}),
    ({"optimizer": "sgd", "learning_rate": 0.5}, {}),
    ({"patience": 1, "learning_rate": 0.5}, {}),
    ({"context": "stream", "sampled_words": 6}, {"cell": "lstm", "layers": 2}),
    ({"context": "stream"}, {}),
    (
        {"locked_dropout_states": 0.2, "dropped_recurrent_weights": 0.2, "clip_value": 0.1, "schedule": "linear"},
        {"layers": 2, "lower_sizes": [5]},
    ),
    ({"average": "triggered", "average_patience": 1, "epochs": 6, "patience": 6, "learning_rate": 0.5}, {}),
    (
        {"context": "stream", "average": "exponential", "average_decay": 0.9},
        {"cell": "lstm", "embedding_dim": 4, "mogrifier_rounds": 3},
    ),
]


@pytest.mark.parametrize(("train_changes", "model_changes"), VARIANTS)
def test_interrupted_anywhere_it_ends_in_the_same_bytes(
    train_changes: dict, model_changes: dict, make_model: MakeModel, tmp_path: Path
) -> None:
    params = train_params(**train_changes)
    expected = run(make_model(**model_changes), params, None)
    # Each process dies between two steps, or two batches of a validation, and the next resumes from what it saved.
    for died, steps in enumerate(cycle((1, 2, 3, 4, 9))):
        try:
            assert run(make_model(**model_changes), params, Interrupting(tmp_path, steps)) == expected
        except KeyboardInterrupt:
            assert died < 100
        else:
            assert died > 4
            break
    checkpoints = Checkpoints("gru", "key", tmp_path)
    checkpoints.discard()
    assert not checkpoints.folder.exists()


def resumed(make_model: MakeModel, params: TrainParams, folder: Path, threads: int = 1, **shape):
    """What comes of a run that dies after ten steps, in its second epoch, and is resumed with so many threads."""
    with pytest.raises(KeyboardInterrupt):
        run(make_model(**shape), params, Interrupting(folder, 10))
    torch.set_num_threads(threads)
    return run(make_model(**shape), params, Checkpoints("gru", "key", folder))


@pytest.mark.parametrize("threads", [3, 16])
def test_resumed_with_other_threads_it_ends_in_the_same_bytes(
    threads: int, make_model: MakeModel, tmp_path: Path
) -> None:
    shape = {"cell": "lstm", "hidden_size": 70, "layers": 2}
    whole = run(make_model(**shape), train_params(), None)
    assert resumed(make_model, train_params(), tmp_path, threads, **shape) == whole


def no_optimizer(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    state.optimizer.state.clear()


def no_position(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    state.step -= 1


def no_step_of_the_sampler(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, lost = Sampler.draw, state.step
    monkeypatch.setattr(Sampler, "draw", lambda self, step: draw(self, step - lost))


def no_state_of_the_text(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    state.carried = Carried()


def no_average(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    state.average = {}


def nothing(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> None:
    pass


LOST = [(lose, "sentence") for lose in (no_optimizer, no_position, no_step_of_the_sampler, no_average, nothing)]


@pytest.mark.parametrize(("lose", "context"), [*LOST, (no_state_of_the_text, "stream"), (nothing, "stream")])
def test_what_a_checkpoint_loses_is_seen_in_the_bytes(
    lose: Callable, context: str, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = {"average": "exponential", "average_decay": 0.9} if lose is no_average else {}
    params = train_params(sampled_words=6, context=context, streams=2, **averaged)
    whole, restore = run(make_model(), params, None), Checkpoints.restore

    def losing(self: Checkpoints, state: TrainingState) -> bool:
        found = restore(self, state)
        if found:
            lose(state, monkeypatch)
        return found

    monkeypatch.setattr(Checkpoints, "restore", losing)
    assert (resumed(make_model, params, tmp_path) == whole) is (lose is nothing)


def test_steps_after_the_last_checkpoint_are_taken_again(make_model: MakeModel, tmp_path: Path) -> None:
    params = train_params()
    for steps in (7, 9, 6):
        with pytest.raises(KeyboardInterrupt):
            run(make_model(), params, Interrupting(tmp_path, steps, every=4))
    assert run(make_model(), params, Checkpoints("gru", "key", tmp_path)) == run(make_model(), params, None)


def test_when_asked_to_stop_it_saves_first(make_model: MakeModel, tmp_path: Path) -> None:
    params, stop = train_params(), Stop()
    checkpoints = Interrupting(tmp_path, 5, stop, every=1000)
    with pytest.raises(StoppedError, match="stopped by SIGTERM; `dvc repro` resumes after step 6") as error:
        run(make_model(), params, checkpoints, stop)
    assert error.value.signal == 15
    listener = Remembers()
    model = make_model()
    checkpoints = Checkpoints("gru", "key", tmp_path)
    history = Trainer(model, noise(40, seed=1), counting(30, seed=2), COUNTS, params, checkpoints).fit(listener)
    assert listener.told[0][-1] is True  # it goes on
    assert result(model, history) == run(make_model(), params, None)


def saved_state(model: LanguageModel, step: int) -> TrainingState:
    return TrainingState(model, build_optimizer(model, train_params()), step=step)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints("gru", "key", tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(saved_state(make_model(), step))
    saved = sorted(checkpoints.folder.iterdir())
    assert len(saved) == KEPT_CHECKPOINTS
    whole = saved[1].read_bytes()
    for damaged in (whole[:-1], b"", whole[:500] + b"\x00" * 8 + whole[508:], whole + b"\x00"):
        saved[1].write_bytes(damaged)
        state = saved_state(make_model(), 0)
        assert checkpoints.restore(state)
        assert state.step == 2
        assert f"a checkpoint is damaged and now called {saved[1].with_suffix('.damaged')}" in capsys.readouterr().err
    saved[0].write_bytes(b"")
    state = saved_state(make_model(), 0)
    assert not checkpoints.restore(state)
    assert state.step == 0


def test_what_was_half_written_is_no_checkpoint(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints("gru", "key", tmp_path)
    checkpoints.save(saved_state(make_model(), 1))

    def full(_: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(saved_state(make_model(), 2))
    state = saved_state(make_model(), 0)
    assert checkpoints.restore(state)
    assert state.step == 1


def test_a_checkpoint_of_another_training_is_never_used(make_model: MakeModel, tmp_path: Path) -> None:
    data = tmp_path / "ids.npy"
    data.write_text("b")
    keys = [training_key(["a.py 1"], [data], {"epochs": 3}), training_key(["a.py 1"], [data], {"epochs": 4})]
    assert keys[0] == training_key(["a.py 1"], [data], {"epochs": 3})
    keys.append(training_key(["a.py 2"], [data], {"epochs": 3}))
    data.write_text("d")
    keys.append(training_key(["a.py 1"], [data], {"epochs": 3}))
    assert len(set(keys)) == 4
    Checkpoints("gru", keys[0], tmp_path).save(saved_state(make_model(), 1))
    for name, key in (("gru", keys[1]), ("lstm", keys[0])):
        assert not Checkpoints(name, key, tmp_path).restore(saved_state(make_model(), 0))
    assert Checkpoints("gru", keys[0], tmp_path).restore(saved_state(make_model(), 0))


def test_few_unfinished_trainings_are_kept(make_model: MakeModel, tmp_path: Path) -> None:
    for number in range(6):
        checkpoints = Checkpoints("gru", str(number), tmp_path)
        checkpoints.restore(saved_state(make_model(), 0))
        checkpoints.save(saved_state(make_model(), 1))
    assert len(list((tmp_path / "gru").iterdir())) == KEPT_TRAININGS
    assert Checkpoints("gru", "5", tmp_path).restore(saved_state(make_model(), 0))


def test_what_a_checkpoint_costs_decides_when_the_next_is_due(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, cost = 0.0, 0.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)

    written: list[int] = []

    class Slow(Checkpoints):
        def save(self, state: TrainingState) -> None:
            nonlocal now
            now += cost
            written.append(round(now))

    checkpoints = Slow("gru", "key", tmp_path)
    state = saved_state(make_model(), 0)
    for seconds in (0.1, 3.0):
        cost = seconds
        for _ in range(200):
            now += 1.0
            checkpoints.save_if_due(state)
    gaps = [after - before for before, after in pairwise(written)]
    assert set(gaps[:5]) <= {30, 31}
    assert gaps[-1] == 150 + 3  # three seconds are two percent of so many


def test_time_spent_before_counts(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    first = Checkpoints("gru", "key", tmp_path)
    now = 107.0
    first.save(saved_state(make_model(), 1))
    second = Checkpoints("gru", "key", tmp_path)
    second.restore(saved_state(make_model(), 0))
    now = 110.0
    assert second.seconds == 10.0
