"""Section `model` of params.yaml; imports no torch, as stages that read text or count words know it too."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from pipeline.runtime.section import Section

CellName = Literal["rnn", "lstm", "gru"]
Width = Annotated[int, Field(ge=1, le=16384)]
Context = Literal["sentence", "stream"]  # what a model reads before a word

FEWEST_STEPS = 5  # of a window of a stream that is drawn
# Values by which an option does nothing: those of every model that was saved before it was one.
NEUTRAL_SHAPE: dict[str, Any] = {
    "lower_sizes": None,
    "mogrifier_rounds": 0,
    "mogrifier_rank": None,
    "weight_init": None,
}


class ModelParams(Section):
    """Shape and initialisation of one language model."""

    cell: CellName
    hidden_size: Width
    embedding_dim: Width | None
    layers: Annotated[int, Field(ge=1, le=16)]
    lower_sizes: list[Width] | None
    mogrifier_rounds: Annotated[int, Field(ge=0, le=16)]
    mogrifier_rank: Width | None
    bias: bool
    output_bias: bool
    tie_weights: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    lookup_init: Annotated[float, Field(gt=0)] | Literal["incoming"] | None
    weight_init: Annotated[float, Field(gt=0)] | None

    @model_validator(mode="after")
    def _tied_shapes_agree(self) -> Self:
        if self.tie_weights and self.embedding_dim != self.hidden_size:
            raise ValueError(
                "tie_weights shares E with V, so embedding_dim must equal hidden_size "
                f"({self.hidden_size}), not {self.embedding_dim}"
            )
        return self

    @model_validator(mode="after")
    def _every_layer_has_one_width(self) -> Self:
        if self.lower_sizes is not None and len(self.lower_sizes) != self.layers - 1:
            raise ValueError(
                f"lower_sizes has the units of the layers below the last, which has hidden_size: {self.layers - 1} of "
                f"them with layers {self.layers}, not {len(self.lower_sizes)}; null gives all hidden_size"
            )
        return self

    @model_validator(mode="after")
    def _an_lstm_with_an_embedding_is_mogrified(self) -> Self:
        if self.mogrifier_rounds and (self.cell != "lstm" or self.embedding_dim is None):
            raise ValueError("mogrifier_rounds needs an LSTM with an embedding: set cell and embedding_dim, or it to 0")
        if self.mogrifier_rank is not None and not self.mogrifier_rounds:
            raise ValueError("mogrifier_rank counts with mogrifier_rounds alone: set it to null")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """So that a new option leaves the config.json, and so the bytes, of models that do without it alone."""
        return {
            key: value for key, value in dump(self).items() if key not in NEUTRAL_SHAPE or value != NEUTRAL_SHAPE[key]
        }

    @property
    def sizes(self) -> list[int]:
        """The units of each layer, the first one's first."""
        lower = self.lower_sizes or [self.hidden_size] * (self.layers - 1)
        return [*lower, self.hidden_size]
