"""Files of text: one, every file of a known kind below a folder, or members of a zip or tar archive.

Everything is read as a stream (except `.parquet.gz`, which has to be unpacked whole), so memory does not grow with the
corpus. A document, and the row or line that it stands in, have a limit; what all of a file unpacks to has another
(`unpacking`). An error names the file and, where there is one, the line. What became of each file and row is counted.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path, PurePath, PurePosixPath

from pipeline.runtime.errors import InputError
from pipeline.runtime.remarks import Remarks, named
from pipeline.text.documents import Document
from pipeline.text.params import DownloadParams, SourceFile
from pipeline.text.sources.table_files import Grouped, csv_texts, jsonl_texts, parquet_texts
from pipeline.text.sources.text_lines import MARK, first_lines, is_wrapped, joined, looks_wrapped, text_lines
from pipeline.text.sources.unpacking import KINDS, Room, TextFile, archive_kind, archive_members, kind_of

KNOWN = f"{', '.join(KINDS)}, or one of these and .gz"
SURROGATE = re.compile("[\ud800-\udfff]")
README = PurePosixPath("README.md")  # as the folder corpus/ has


def file_documents(
    path: Path,
    members: str,
    source: SourceFile,
    params: DownloadParams,
    name: str | None = None,
    remarks: Remarks | None = None,
) -> Iterator[Document]:
    """Yield a document for every text that is not blank, file by file in the order of their paths, as in the files.

    The id is the hash of the text: a row has no other name that survives an edit above it. Equal texts share an id.
    Each file of a corpus of `word/tag` files is a document, and its path the id. Texts that belong together share an
    id: rows of one group (`group_column`; where it is empty a row is on its own), or else all texts of a folder, if
    `group_by_folder` says so. A lone surrogate (`"\\ud800"` in JSON), which is not a character and cannot be stored,
    becomes U+FFFD, and byte order marks go, which files that were put together have anywhere. Nothing else is changed.

    Args:
        path: a file, a folder or an archive, which errors call `name`.
        members: fsspec's notation for members of an archive (`zip://folder/*.txt`), or empty: all of a known kind.
        source: settings of this file; `params` has those of all files.
        remarks: where files, and the rows in them, are counted: read or a document, or why they were skipped.

    Raises:
        InputError: a path is missing, of an unknown kind, damaged, too large, not UTF-8, or lacks the column; a value
            is not text.
    """
    remarks = remarks or Remarks()
    files = _files(path, name or str(path), members, source, params.max_bytes, remarks)
    remarks.bytes_held += sum(file.size for file in files)
    for file in files:
        unit, reader = _reader(file, source, params)
        for text, group in reader(file):
            text = text and text.replace(MARK, "")
            if text and "\0" in text:
                raise InputError(
                    f"{file}: a text has NUL characters, as UTF-16 read as UTF-8 has; convert it, say with "
                    "iconv -f UTF-16LE -t UTF-8"
                )
            if not text or text.isspace():
                remarks.count(unit, "blank")
                continue
            text = SURROGATE.sub("\ufffd", text)
            if group and not group.isspace():
                # A hash: names of people need not stand in every file. No text has the same one.
                id_ = text_id("\0" + SURROGATE.sub("\ufffd", group))
            elif params.group_by_folder:
                id_ = str(file.path.parent)
            else:
                id_ = str(file.path) if source.format == "word/tag" else text_id(text)
            remarks.count(unit, "documents")
            yield Document(id_, text, source.split, source.tokenized)


def text_id(text: str) -> str:
    """The id of a text without a name: the first 64 bits of its SHA-256, in hexadecimal."""
    return sha256(text.encode("utf-8")).hexdigest()[:16]


def _files(path: Path, name: str, members: str, source: SourceFile, max_bytes: int, remarks: Remarks) -> list[TextFile]:
    if not path.exists():
        raise InputError(f"{name} does not exist; section download of params.yaml names the file or folder to read")
    if members or archive_kind(path):
        system, found = archive_members(path, name, members)
        room = Room(name, max_bytes)
        files = [
            TextFile(
                f"{name}: {member}",
                member,
                partial(system.open, str(member), "rb"),
                room,
                remarks,
                system.size(str(member)),
            )
            for member in _wanted(found, source, name, remarks)
        ]
        if not files:
            wanted = f"is {members}" if members else f"ends in {KNOWN}"
            raise InputError(f"empty corpus: nothing in {name} {wanted}; correct section download of params.yaml")
        return files
    if path.is_dir():
        files = [
            TextFile(
                str(path / file),
                file,
                partial(_checked(path / file).open, "rb"),
                Room(str(path / file), max_bytes),
                remarks,
                (path / file).stat().st_size,
            )
            for file in _wanted(_below(path), source, str(path), remarks)
        ]
        if not files:
            raise InputError(f"empty corpus: no file below {path} ends in {KNOWN}; put text there, or change "
                             "download.path or download.source in params.yaml")  # fmt: skip
        return files
    if not source.format and kind_of(path) not in KINDS:
        raise InputError(f"{name} is of an unknown kind; expected a name that ends in {KNOWN}")
    remarks.count("files", "read")
    room = Room(name, max_bytes)
    return [TextFile(name, PurePosixPath(path.name), partial(path.open, "rb"), room, remarks, path.stat().st_size)]


def _below(folder: Path) -> Iterator[PurePosixPath]:
    """Every file below a folder, links followed, each folder once: links may lead back, or several to one place."""
    seen = {os.path.realpath(folder)}
    for where, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        # A folder that lies here comes before a link to it.
        folders.sort(key=lambda name: ((Path(where) / name).is_symlink(), name))
        folders[:] = [name for name in folders if not _seen_before(Path(where) / name, seen)]
        yield from (PurePosixPath((Path(where) / name).relative_to(folder)) for name in names)


def _seen_before(folder: Path, seen: set[str]) -> bool:
    real = os.path.realpath(folder)
    known = real in seen
    seen.add(real)
    return known


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {error.strerror}; make it readable, or take it out") from None


def _checked(path: Path) -> Path:
    """A file of a folder that is to be read.

    Raises:
        InputError: its name is not UTF-8, or it is a pipe, or a link to nothing.
    """
    if not path.is_file():
        raise InputError(f"{_shown(path)} is neither a file nor a link to one; take it out of the folder")
    if _shown(path) != str(path):
        raise InputError(f"the name of the file {_shown(path)} is not UTF-8; rename it")
    return path


def _shown(path: PurePath) -> str:
    """A path as text that can be printed and written: bytes that are not UTF-8 as `\\xe9`."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _wanted(found: Iterable[PurePosixPath], source: SourceFile, where: str, remarks: Remarks) -> list[PurePosixPath]:
    """Those of a known kind, in order; hidden files (`._comments.csv`, `.ipynb_checkpoints/`) and DVC's are tools'."""
    kinds: dict[str, list[PurePosixPath]] = {"read": [], "of another kind": [], "of tools": []}
    for path in sorted(found):
        is_known = source.format or kind_of(path) in KINDS
        of_tools = any(part.startswith(".") for part in path.parts) or path.suffix == ".dvc" or path == README
        kinds["of tools" if of_tools else "read" if is_known else "of another kind"].append(path)
    for became, paths in kinds.items():
        if paths:
            remarks.count("files", became, len(paths))
    if others := kinds["of another kind"]:
        remarks.warn(
            f"in {where} these are not read, as their names do not end in {KNOWN}: {named([*map(_shown, others)])}"
        )
    return kinds["read"]


def _reader(
    file: TextFile, source: SourceFile, params: DownloadParams
) -> tuple[str, Callable[[TextFile], Iterator[Grouped]]]:
    """What texts of this file are called, and what yields them."""
    column, group = source.text_column or params.text_column, source.group_column or params.group_column
    match source.format or file.kind.removeprefix("."):
        case "txt":
            if _is_by_line(file, source, params):
                return "lines", partial(_alone, _lines)
            return "paragraphs", partial(_alone, _blocks)
        case "csv" | "tsv":
            delimiter = source.delimiter or params.delimiter
            return "rows", partial(csv_texts, column=column, group=group, delimiter=delimiter)
        case "jsonl" | "ndjson":
            return "rows", partial(jsonl_texts, column=column, group=group)
        case "word/tag":
            return "texts", partial(_alone, _tagged)
        case _:
            return "rows", partial(parquet_texts, column=column, group=group)


def _is_by_line(file: TextFile, source: SourceFile, params: DownloadParams) -> bool:
    """Whether each line of a text file is a document; otherwise blank lines separate them."""
    if source.split:  # such a corpus has a sentence, or a paragraph, a line
        return True
    if params.txt_documents == "blank-line":
        return False
    lines = [] if source.tokenized else first_lines(file)
    if not is_wrapped(lines):
        if looks_wrapped(lines):
            file.remarks.warn(
                "it looks like running text whose lines were broken, but each line is read as a document, so sentences "
                "are cut; join the lines of a paragraph, or put blank lines between paragraphs alone and set "
                "download.txt_documents to `blank-line`",
                str(file),
            )
        return True
    if params.txt_documents == "line":
        file.remarks.warn(
            "it looks like running text in lines of one width, but each line is read as a document, so sentences are "
            "cut; set download.txt_documents to `auto` or `blank-line`",
            str(file),
        )
        return True
    file.remarks.warn(
        "running text in lines of one width, so its paragraphs are the documents (download.txt_documents); as they "
        "hang together, error bars come out too narrow (docs/corpus.md)",
        str(file),
    )
    return False


def _alone(reader: Callable[[TextFile], Iterator[str]], file: TextFile) -> Iterator[Grouped]:
    return ((text, None) for text in reader(file))


def _lines(file: TextFile) -> Iterator[str]:
    for line in text_lines(file):
        yield line.removesuffix("\n")


def _blocks(file: TextFile) -> Iterator[str]:
    for has_text, lines in groupby(text_lines(file), lambda line: bool(line.strip())):
        if has_text:
            yield joined(lines, file).removesuffix("\n")


def _tagged(file: TextFile) -> Iterator[str]:
    """The words of a file of `word/tag` pairs, a sentence a line, as one text."""
    lines = (line for line in text_lines(file) if line.strip())
    sentences = (" ".join(pair.rpartition("/")[0] or pair for pair in line.split()) + "\n" for line in lines)
    yield joined(sentences, file).removesuffix("\n")
