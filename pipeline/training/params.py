"""Section `train` of params.yaml."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pipeline.model.params import FEWEST_STEPS, Context
from pipeline.runtime.section import Section

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, lt=1)]
ONLY_STREAM = ("context", "streams", "bptt")  # what a model that reads sentences does without
# Values by which an option does nothing, or as it did before it was one.
NEUTRAL: dict[str, Any] = {
    "betas": [0.9, 0.999],
    "schedule": "auto",
    "decay_after": None,
    "decay_factor": None,
    "clip_value": None,
    "locked_dropout_inputs": 0.0,
    "locked_dropout_outputs": 0.0,
    "locked_dropout_embedding": None,
    "locked_dropout_states": 0.0,
    "dropped_words": 0.0,
    "dropped_recurrent_weights": 0.0,
    "activation_regularization": 0.0,
    "temporal_regularization": 0.0,
    "average": None,
    "average_patience": None,
    "average_share": None,
    "average_decay": None,
}
# Numbers that one value of another option needs, and that say nothing without it: then they are null.
ONLY_WITH = {
    "decay_after": ("schedule", "step"),
    "decay_factor": ("schedule", "step"),
    "average_patience": ("average", "triggered"),
    "average_share": ("average", "last"),
    "average_decay": ("average", "exponential"),
}


class _Training(Section):
    """What params.yaml always gives a value."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    context: Context
    streams: Annotated[int, Field(ge=1, le=65536)]
    bptt: Annotated[int, Field(ge=FEWEST_STEPS, le=65536)]
    optimizer: Literal["adamw", "sgd"]
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    schedule: Literal["auto", "cosine", "linear", "step", "constant", "halving"]
    warmup: Share
    decay_after: Annotated[int, Field(ge=0)] | None
    decay_factor: Annotated[float, Field(gt=0)] | None
    clip_norm: Annotated[float, Field(gt=0)]
    clip_value: Annotated[float, Field(gt=0)] | None
    locked_dropout_inputs: Share
    locked_dropout_embedding: Share | None
    locked_dropout_outputs: Share
    locked_dropout_states: Share
    dropped_words: Share
    dropped_recurrent_weights: Share
    activation_regularization: Annotated[float, Field(ge=0)]
    temporal_regularization: Annotated[float, Field(ge=0)]
    average: Literal["triggered", "last", "exponential"] | None
    average_patience: Annotated[int, Field(ge=1)] | None
    average_share: Annotated[float, Field(gt=0, le=1)] | None
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None
    patience: Annotated[int, Field(ge=1)]
    sampled_words: Annotated[int, Field(ge=1)] | None
    sampling_power: Annotated[float, Field(ge=0, le=1)]
    precision: Literal["exact", "auto", "fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]

    @model_validator(mode="after")
    def _exact_runs_on_the_processor(self) -> Self:
        if self.precision == "exact" and self.device == "cuda":
            raise ValueError(
                "precision exact runs on the processor: set device to cpu or auto, or precision to fp32, bf16 or auto"
            )
        return self

    @model_validator(mode="after")
    def _numbers_stand_with_what_reads_them(self) -> Self:
        for key, (option, value) in ONLY_WITH.items():
            given, chosen = getattr(self, key) is not None, getattr(self, option)
            needed = chosen == value
            if given and not needed:
                raise ValueError(f"{key} counts with {option} {value} alone, not with {chosen}: set it to null")
            if needed and not given:
                raise ValueError(f"{option} {value} needs {key}: give it a number")
        return self

    @model_validator(mode="after")
    def _training_lasts_until_averaging_is_triggered(self) -> Self:
        if self.average_patience is not None and self.patience <= self.average_patience + 1:
            raise ValueError(
                f"patience {self.patience} stops training before average_patience {self.average_patience} can begin to "
                f"average: set patience to {self.average_patience + 2} or more"
            )
        return self

    @property
    def schedule_in_use(self) -> str:
        """Of the learning rate; `auto` is each optimiser's own."""
        if self.schedule != "auto":
            return self.schedule
        return "cosine" if self.optimizer == "adamw" else "halving"

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a new option leaves the config.json, and so the bytes, of models that do without it alone."""
        unused = ONLY_STREAM if self.context == "sentence" else ()
        dumped = dump(self)
        unused += tuple(key for key, value in NEUTRAL.items() if dumped.get(key) == value)
        return {key: value for key, value in dumped.items() if key not in unused}


class TrainSettings(_Training):
    """How one language model is trained, as params.yaml says it; automatic.py turns `auto` into numbers."""

    epochs: Annotated[int, Field(ge=1)] | Auto
    batch_tokens: Annotated[int, Field(ge=1)] | Auto
    learning_rate: Annotated[float, Field(gt=0)] | Auto
    weight_decay: Annotated[float, Field(ge=0)] | Auto


class TrainParams(_Training):
    """How one language model is trained."""

    epochs: Annotated[int, Field(ge=1)]
    batch_tokens: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
