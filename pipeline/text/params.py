"""The sections of params.yaml that the text path reads."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.runtime.section import Section

Delimiter = Annotated[str, Field(pattern=r'^[^"\r\n]$')]


class SourceFile(Section):
    """One line of a corpus in `download.sources`; what is left out is None or false."""

    url: Annotated[str, Field(min_length=1)]
    checksum: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|git:[0-9a-f]{40})$")] | None = None
    format: Literal["txt", "csv", "jsonl", "parquet", "word/tag"] | None = None
    text_column: Annotated[str, Field(min_length=1)] | None = None
    delimiter: Delimiter | None = None
    group_column: Annotated[str, Field(min_length=1)] | None = None
    split: Literal["train", "valid", "test"] | None = None
    tokenized: bool = False


BY_CHARACTER = "characters"  # a value of tokenize.language: by character where a script has no spaces


Source = Annotated[list[SourceFile], Field(min_length=1)]


class DownloadParams(Section):
    """Section `download`: where the text comes from."""

    source: Annotated[str, Field(min_length=1)]
    path: Annotated[str, Field(min_length=1)]
    text_column: Annotated[str, Field(min_length=1)]
    delimiter: Literal["auto"] | Delimiter
    group_column: Annotated[str, Field(min_length=1)] | None
    group_by_folder: bool
    txt_documents: Literal["auto", "line", "blank-line"]
    max_bytes: Annotated[int, Field(gt=0)]
    packages: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]], Field(min_length=1)]
    sources: dict[str, Source]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = ("installed-docs", "files", *self.sources)
        if self.source not in known:
            raise ValueError(f"source: there is no {self.source!r}; there are {', '.join(known)}")
        for name, files in self.sources.items():
            if name in known[:2]:
                raise ValueError(f"sources: {name} is built in; take another name")
            splits = {file.split for file in files}
            if splits != {None} and splits != {"train", "valid", "test"}:
                raise ValueError(
                    f"sources.{name}: give every file a split, and each of train, valid, test one; or none"
                )
        if self.group_column is not None and self.source == "installed-docs":
            raise ValueError(
                "group_column: the documents of installed-docs are modules and have no columns; use group_by_folder"
            )
        return self

    @property
    def together(self) -> str | None:
        """What counts as one document because it hangs together, in a sentence; None: each document by itself."""
        files = self.sources.get(self.source, ())
        columns = {file.group_column or self.group_column for file in files} if files else {self.group_column}
        kinds = [f"rows of a table with the same {column!r}" for column in sorted(filter(None, columns))]
        if self.group_by_folder:
            kinds.append("modules of one package" if self.source == "installed-docs" else "texts of one folder")
        return f"Groups: {' and '.join(kinds)} count as one document here." if kinds else None


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

    @property
    def by_character(self) -> bool:
        """Whether characters of scripts without spaces are tokens."""
        return self.language == BY_CHARACTER


class VocabularyParams(Section):
    """Section `vocabulary`: how many words the models know, the three special tokens included."""

    size: Annotated[int, Field(ge=4, lt=2**31)] | None
