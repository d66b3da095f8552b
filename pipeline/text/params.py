"""The sections of params.yaml that the text path reads."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.section import Section


class DownloadParams(Section):
    """Section `download`: where the text comes from."""

    source: Literal["installed-docs", "files"]
    path: Annotated[str, Field(min_length=1)]
    text_column: Annotated[str, Field(min_length=1)]
    txt_documents: Literal["line", "blank-line"]
    packages: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]], Field(min_length=1)]


class SplitShares(Section):
    """Shares of the documents, in any unit: 92/4/4 and 0.92/0.04/0.04 mean the same."""

    train: Annotated[float, Field(gt=0)]
    valid: Annotated[float, Field(gt=0)]
    test: Annotated[float, Field(gt=0)]


class TokenizeParams(Section):
    """Section `tokenize`: documents to sentences to tokens."""

    language: Annotated[str, Field(min_length=1)]
    lowercase: bool
    deduplicate: bool
    splits: SplitShares


class VocabularyParams(Section):
    """Section `vocabulary`: how many words the models know, the three special tokens included."""

    size: Annotated[int, Field(ge=4, lt=2**31)] | None
