"""Section `retrain` of params.yaml."""

from typing import Annotated

from pydantic import Field

from pipeline.section import Section


class RetrainParams(Section):
    """How a challenger comes about, and what it has to be to become champion without a person."""

    confidence: Annotated[float, Field(ge=0.5, le=1)]
    worst_perplexity: Annotated[float, Field(gt=1)]
    largest_unknown_share: Annotated[float, Field(ge=0, le=1)]
    slowest_scoring: Annotated[float, Field(ge=0)]
    old_sentences: bool
    warm_start: bool
