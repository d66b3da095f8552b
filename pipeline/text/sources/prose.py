"""A docstring's English: paragraphs of prose, without the code, tables and parameter lists around them.

Docstrings are reStructuredText in the dialects of numpydoc, Google and Sphinx, written by thousands of people, so this
parses no grammar: it follows lines and indentation, drops whole what it recognises as something other than prose, and
keeps of the rest the paragraphs that `markup` finds to be English. A good paragraph lost costs little (there are
plenty), a bad one kept teaches a model to write markup: what is doubtful is dropped.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator

from pipeline.text.sources.markup import english

# Directives whose body is prose; all others (code, math, pictures, generated lists, links) are dropped with their body.
PROSE_DIRECTIVES = frozenset({"attention", "caution", "danger", "error", "hint", "important", "note", "tip", "warning"})
TITLED_DIRECTIVES = frozenset({"admonition", "topic"})

# Headings, underlined (numpydoc) or followed by a colon (Google), over lists of names or references.
LISTING_HEADINGS = frozenset(
    [
        *("arg", "args", "argument", "arguments", "key arguments", "keyword args", "keyword arguments", "keywords"),
        *("constructor arguments", "kwargs", "param", "params", "parameter", "parameters", "optional parameters"),
        *("other parameters", "required parameters", "options", "input", "inputs", "output", "outputs", "receives"),
        *("return", "returns", "return type", "return value", "yield", "yields", "raise", "raises", "throws", "warns"),
        *("attribute", "attributes", "class attributes", "properties", "variables", "method", "methods", "functions"),
        *("classes", "subclasses", "shape", "shapes", "signature", "usage", "contents", "author", "authors"),
        *("see also", "seealso", "reference", "references", "bibliography", "literature"),
    ]
)

UNDERLINE = re.compile(r"([=\-~^\"'*#+_.:])\1{2,}\s*")
TABLE_BORDER = re.compile(r"(?=.{3})[=\-+|][ =\-+|:]*")
DIRECTIVE = re.compile(r"\.\.\s+([A-Za-z][\w:.-]*?)::(?:\s+(.*))?$")
MARKUP_BLOCK = re.compile(r"\.\.(?:\s|$)|__\s")  # comments, footnotes, link targets
FIELD = re.compile(r":[A-Za-z][^:`]*:(?:\s|$)|@[a-z]+(?:\s[^:]*)?:")  # `:param x: ...`, `@param x: ...`
HEADING_WITH_COLON = re.compile(r"([A-Za-z][A-Za-z ]{2,30}?)\s*:(\s+\S|:?\s*$)")
BULLET = re.compile(r"(?:[*+•-]|\(?\d{1,2}[.)]|#\.)\s+(?=\S)")
# What names something and then explains it is an entry of a list: "``axis``: the axis ...", "name -- text", "x : int".
NAMED_ENTRY = re.compile(
    r"(?:``?[^`]+``?|\*\*?[^*]+\*\*?|:\w+:`[^`]+`|[\w.'\"-]+)\s*(?:\([^)]*\)\s*)?(?::|=|--?|–|—)(?:\s|$)|.* : "
)
CODE = re.compile(r">>>|\.\.\.(?: |$)|In \[\d+\]:|Out\[\d+\]:|[$#%]|@\w+(?:\(|$)")
BLOCK_START = re.compile("|".join(pattern.pattern for pattern in (DIRECTIVE, FIELD, CODE, BULLET)))


def prose(docstring: str) -> list[str]:
    """The English paragraphs of a docstring, in order, each on one line."""
    cleaned = (english(raw) for raw in _paragraphs(inspect.cleandoc(docstring).split("\n")))
    return [paragraph for paragraph in cleaned if paragraph]


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Walk one level of indentation; deeper levels are walked by recursion, dedented."""
    listing = False  # under an underlined heading whose section is dropped
    literal = False  # after a line that ends in "::"
    position = 0
    while position < len(lines):
        line = lines[position]
        if _underlined(lines, position):
            listing, literal = line.strip().lower() in LISTING_HEADINGS, False
            position += 2
        elif listing or not line.strip() or UNDERLINE.fullmatch(line):
            position += 1
        elif line[0] == " ":
            end = _end_of_indented(lines, position)
            if not literal:
                yield from _paragraphs(_dedent(lines[position:end]))
            position, literal = end, False
        else:
            position, found = _block(lines, position)
            literal = lines[position - 1].rstrip().endswith("::")
            yield from found


def _block(lines: list[str], start: int) -> tuple[int, list[str]]:
    """Where the block ends whose first line, not indented, is at `start`, and its paragraphs."""
    line = lines[start]
    if match := DIRECTIVE.match(line):
        end = _end_of_indented(lines, start + 1)
        body = [line for line in _dedent(lines[start + 1 : end]) if not FIELD.match(line)]
        if match[1] in PROSE_DIRECTIVES:
            return end, list(_paragraphs([match[2] or "", *body]))
        return end, list(_paragraphs(body)) if match[1] in TITLED_DIRECTIVES else []
    if MARKUP_BLOCK.match(line):
        return _end_of_indented(lines, start + 1), []
    heading = HEADING_WITH_COLON.match(line)
    if FIELD.match(line) or (heading and heading[1].lower() in LISTING_HEADINGS):
        return _end_of_indented(lines, _end_of_lines(lines, start)), []
    if CODE.match(line):
        return _end_of_lines(lines, start), []
    if match := BULLET.match(line):
        end = _end_of_indented(lines, start + 1)
        first = line[match.end() :]
        if NAMED_ENTRY.match(first):
            return end, []
        return end, list(_paragraphs([first, *_dedent(lines[start + 1 : end])]))
    return _paragraph(lines, start)


def _paragraph(lines: list[str], start: int) -> tuple[int, list[str]]:
    end = start + 1
    while end < len(lines) and lines[end].strip() and lines[end][0] != " ":
        if BLOCK_START.match(lines[end]) or _underlined(lines, end):  # another block, with no blank line before it
            break
        end += 1
    paragraph = lines[start:end]
    if end == start + 1 and end < len(lines) and lines[end].strip() and lines[end][0] == " ":
        # With deeper lines right below it, a line is a term over its definition, a parameter over its description,
        # or a heading ("Note:") over prose: never prose itself.
        line = lines[start].strip()
        entry = NAMED_ENTRY.match(line) or " " not in line
        heading = HEADING_WITH_COLON.match(line) and line[0].isupper()
        return (_end_of_indented(lines, end) if entry and not heading else end), []
    if any(TABLE_BORDER.fullmatch(line) for line in paragraph):
        return end, []
    return end, [" ".join(line.strip() for line in paragraph)]


def _underlined(lines: list[str], position: int) -> bool:
    if position + 1 == len(lines) or not lines[position].strip():
        return False
    return UNDERLINE.fullmatch(lines[position + 1]) is not None and len(lines[position]) < 80


def _end_of_lines(lines: list[str], position: int) -> int:
    return next((end for end in range(position, len(lines)) if not lines[end].strip()), len(lines))


def _end_of_indented(lines: list[str], position: int) -> int:
    return next((end for end in range(position, len(lines)) if lines[end].strip() and lines[end][0] != " "), len(lines))


def _dedent(lines: list[str]) -> list[str]:
    return textwrap.dedent("\n".join(lines)).split("\n")
