"""Section `train` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.runtime.section import Section

Auto = Literal["auto"]


class _Training(Section):
    """What does not depend on the size of the corpus."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    optimizer: Literal["adamw", "sgd"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(gt=0)]
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


class TrainSettings(_Training):
    """How one language model is trained, as params.yaml says it; automatic.py turns `auto` into numbers."""

    epochs: Annotated[int, Field(ge=1)] | Auto
    batch_tokens: Annotated[int, Field(ge=1)] | Auto
    learning_rate: Annotated[float, Field(gt=0)] | Auto


class TrainParams(_Training):
    """How one language model is trained."""

    epochs: Annotated[int, Field(ge=1)]
    batch_tokens: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
