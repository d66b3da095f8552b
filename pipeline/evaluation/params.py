"""Section `evaluate` of params.yaml."""

from typing import Annotated

from pydantic import Field

from pipeline.runtime.section import Section


class EvaluateParams(Section):
    """How models are measured and what they are asked to write."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    bootstrap_samples: Annotated[int, Field(ge=100)]
    generated_sentences: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]
    top_k: Annotated[int, Field(ge=1)] | None
    max_length: Annotated[int, Field(ge=1)]
