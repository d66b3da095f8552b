"""Section `evaluate` of params.yaml."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.runtime.section import Section

# What an adaptation may join, in the order of its name; adaptation.py says what each is.
ADAPTABLE = ENSEMBLE, DYNAMIC, TEMPERATURE, CACHE, INTERPOLATION = (
    *("ensemble", "dynamic", "temperature"),
    *("cache", "interpolation"),
)
JOINT = " + "  # between them


def parts_of(adaptation: str) -> list[str]:
    """The parts that an adaptation joins."""
    return [part.strip() for part in adaptation.split("+")]


def _adaptations(written: Sequence[str]) -> list[str]:
    """Each with its parts in the order of `ADAPTABLE`."""
    found: list[str] = []
    for adaptation in written:
        parts = parts_of(adaptation)
        if unknown := [part for part in parts if part not in ADAPTABLE]:
            raise ValueError(f"there is no {unknown[0]!r}; join, with +, some of: {', '.join(ADAPTABLE)}")
        if len(set(parts)) < len(parts):
            raise ValueError(f"{adaptation!r} names a part twice")
        found.append(JOINT.join(part for part in ADAPTABLE if part in parts))
    if len(set(found)) < len(found):
        raise ValueError("an adaptation stands there twice")
    return found


class EvaluateParams(Section):
    """How models are measured and what they are asked to write."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    bootstrap_samples: Annotated[int, Field(ge=100)]
    adaptation: Annotated[list[str], AfterValidator(_adaptations)]
    generated_sentences: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]
    top_k: Annotated[int, Field(ge=1)] | None
    max_length: Annotated[int, Field(ge=1)]
