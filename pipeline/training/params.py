"""Section `train` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.runtime.section import Section


class TrainParams(Section):
    """How one language model is trained."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    epochs: Annotated[int, Field(ge=1)]
    batch_tokens: Annotated[int, Field(ge=1)]
    optimizer: Literal["adamw", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
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
