"""What a sweep draws, and the entry of `cells` in params.yaml that drawn values make.

Keys are those of an entry of `cells`, but for `embedding`, which stands for two that hang together: where a word's
vector comes from, and whether the output layer shares it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from pipeline.model.params import ModelParams
from pipeline.params import Range
from pipeline.runtime.errors import InputError
from pipeline.runtime.section import Section
from pipeline.training.params import TrainSettings

EMBEDDING = "embedding"
ONE_HOT, OWN, TIED = "one-hot", "own", "tied"
DIGITS = 2  # of drawn numbers that count, so that params.yaml says 0.0087 and not 0.008713922
NOT_SEARCHED = {
    "embedding_dim": f"search `{EMBEDDING}`, a list of {ONE_HOT}, {OWN} and {TIED}",
    "tie_weights": f"search `{EMBEDDING}`, a list of {ONE_HOT}, {OWN} and {TIED}",
    "seed": "another seed is no better recipe; `seeds: 5` in an entry of `cells` shows what seeds do",
}

Space = Mapping[str, Sequence[Any] | Range]


class Ranges(NamedTuple):
    """What `auto` is; keys are those of `cells`."""

    hidden_size: Range
    batch_tokens: Range


# From so many training tokens (SENTENCE_END counted) on, as in pipeline/training/automatic.py, around whose numbers and
# the 100 units of the default cells they lie: wider models than these learn little from so few words, or take too long.
RANGES = {
    0: Ranges(Range(low=32, high=200), Range(low=64, high=512)),
    60_000: Ranges(Range(low=50, high=300), Range(low=128, high=1024)),
    600_000: Ranges(Range(low=64, high=400), Range(low=512, high=4096)),
}


def search_space(search: Mapping[str, Any], tokens: int) -> Space:
    """`tune.search` of params.yaml with ranges instead of `auto`, for a training split of so many predicted tokens.

    Raises:
        InputError: a key cannot be searched, or not so.
    """
    auto = RANGES[max(size for size in RANGES if size <= tokens)]._asdict()
    known = [
        EMBEDDING,
        *(key for key in (*ModelParams.model_fields, *TrainSettings.model_fields) if key not in NOT_SEARCHED),
    ]
    space: dict[str, Sequence[Any] | Range] = {}
    for key, values in search.items():
        where = f"params.yaml: tune.search.{key}"
        if key in NOT_SEARCHED:
            raise InputError(f"{where}: {NOT_SEARCHED[key]}")
        if key not in known:
            raise InputError(f"{where}: unknown key; there are: {', '.join(known)}")
        if values == "auto" and key not in auto:
            raise InputError(f"{where}: `auto` is known for {', '.join(auto)} only; give a list, or low and high")
        if key == EMBEDDING and (isinstance(values, Range) or not {ONE_HOT, OWN, TIED}.issuperset(values)):
            raise InputError(f"{where}: must be a list of {ONE_HOT}, {OWN} and {TIED}, got {values!r}")
        if key == "epochs" and (isinstance(values, Range) or len(values) > 1):
            raise InputError(f"{where}: give a list of one number: trials are compared after equal epochs")
        space[key] = auto[key] if values == "auto" else values
        if key != EMBEDDING:
            _check_values(key, space[key], where)
    return space


def _check_values(key: str, values: Sequence[Any] | Range, where: str) -> None:
    """Raise InputError where the key cannot have one of the values, or an end of the range."""
    field = (ModelParams.model_fields | TrainSettings.model_fields)[key]
    kind: Any = Annotated[field.annotation, field]  # pyrefly: ignore[not-a-type]
    check = TypeAdapter(kind, config=Section.model_config)
    for value in (values.low, values.high) if isinstance(values, Range) else values:
        try:
            check.validate_python(value)
        except ValidationError as error:
            raise InputError(f"{where}: {error.errors()[0]['msg']}, got {value!r}") from None


def rounded(value: float, within: Range) -> float:
    """A drawn number to `DIGITS` significant digits; whole where it was."""
    near = type(value)(float(f"{value:.{DIGITS}g}"))
    return min(max(near, within.low), within.high)


def entry_of(drawn: Mapping[str, Any], hidden_size: int, embedding_dim: int | None) -> dict[str, Any]:
    """The entry of `cells` that drawn values make; the other two are those of the section `model`."""
    entry = {key: value for key, value in drawn.items() if key != EMBEDDING}
    width = entry.get("hidden_size", hidden_size)
    if embedding := drawn.get(EMBEDDING):
        embedding_dim = None if embedding == ONE_HOT else width
        entry |= {"embedding_dim": embedding_dim, "tie_weights": embedding == TIED}
    if embedding_dim is None and "dropped_words" in entry:
        entry["dropped_words"] = 0.0  # it needs an embedding
    return entry


def drawn_of(recipe: Mapping[str, Mapping[str, Any]], space: Space) -> dict[str, Any]:
    """What of the space a recipe, sections `model` and `train` in numbers, might have been drawn as.

    Keys whose value the space does not have are left out.
    """
    model, train = recipe["model"], recipe["train"]
    values = {**model, **train, EMBEDDING: _embedding(model)}
    return {key: values[key] for key, choice in space.items() if key in values and _holds(choice, values[key])}


def _embedding(model: Mapping[str, Any]) -> str | None:
    if model["embedding_dim"] is None:
        return ONE_HOT
    if model["embedding_dim"] != model["hidden_size"]:
        return None
    return TIED if model["tie_weights"] else OWN


def _holds(choice: Sequence[Any] | Range, value: Any) -> bool:
    if isinstance(choice, Range):
        return isinstance(value, int | float) and choice.low <= value <= choice.high
    return value in choice
