"""What every section of params.yaml has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml: every key required, no key unknown, no value silently converted, numbers finite.

    No field has a default, so params.yaml is the one place where a value can be read or changed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
