"""Section `model` of params.yaml; imports no torch, as stages that read text or count words know it too."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.runtime.section import Section

CellName = Literal["rnn", "lstm", "gru"]
Context = Literal["sentence", "stream"]  # what a model reads before a word

FEWEST_STEPS = 5  # of a window of a stream that is drawn


class ModelParams(Section):
    """Shape and initialisation of one language model."""

    cell: CellName
    hidden_size: Annotated[int, Field(ge=1, le=16384)]
    embedding_dim: Annotated[int, Field(ge=1, le=16384)] | None
    layers: Annotated[int, Field(ge=1, le=16)]
    bias: bool
    output_bias: bool
    tie_weights: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    lookup_init: Annotated[float, Field(gt=0)] | Literal["incoming"] | None

    @model_validator(mode="after")
    def _tied_shapes_agree(self) -> Self:
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise ValueError(
                "tie_weights shares E with V, so embedding_dim must equal hidden_size "
                f"({self.hidden_size}), not {self.embedding_dim}"
            )
        return self
