"""Inline markup to plain words, and whether what comes out is a paragraph of English."""

import re

MINIMUM_WORDS = 5
PLAIN_SHARE = 0.75  # of a paragraph's words: nothing but letters, and punctuation around them
FUNCTION_SHARE = 0.1  # of a paragraph's words; running English has 0.3 to 0.5, lists of names next to none
FUNCTION_WORDS = frozenset(
    [
        *("a", "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because", "been"),
        *("before", "between", "both", "but", "by", "can", "could", "do", "does", "each", "for", "from", "has"),
        *("have", "how", "if", "in", "into", "is", "it", "its", "may", "more", "most", "must", "no", "not", "of"),
        *("on", "only", "or", "other", "same", "should", "so", "some", "such", "than", "that", "the", "their"),
        *("then", "there", "these", "they", "this", "those", "to", "under", "use", "used", "using", "was", "we"),
        *("were", "what", "when", "where", "whether", "which", "while", "will", "with", "within", "without", "would"),
        *("you", "your"),
    ]
)
INLINE = re.compile(
    r"""
      (?: :math:`(?P<math>[^`]*)` | \$(?P<dollars>[^$]*)\$ )
    | ``(?P<literal>.+?)``
    | (?: :[A-Za-z][\w:+.-]*: )? `(?P<titled>[^`<]+?)\s*<[^`>]*>`_{0,2}    # `text <target>`, with or without a role
    | (?: :[A-Za-z][\w:+.-]*: )? `(?P<name>[^`]+)`_{0,2}
    | (?<![\w*])\*\*(?P<strong>[^\s*](?:[^*]*[^\s*])?)\*\*(?![\w*])
    | (?<![\w*])\*(?P<emphasis>[^\s*](?:[^*]*[^\s*])?)\*(?![\w*])
    | (?<![\w|])\|(?P<substitution>[^\s|](?:[^|]*[^\s|])?)\|_{0,2}(?![\w|])
    | (?P<note>\s?\[[\w.*#-]+\]_(?:,?\s(?:and\s)?\[[\w.*#-]+\]_)*)          # [1]_, or [1]_, [2]_ and [3]_
    | (?P<nothing>\\\s)
    | \\(?P<escaped>[^\w\s])
    """,
    re.VERBOSE,
)
MARKUP = re.compile(r"[`*$|\\]|\]_")  # nothing in `INLINE` matches without one of these
# What no prose holds: markup that stayed (it was unbalanced), templates, code, formulas, links. But "x < 1" is prose.
REFUSED = re.compile(r"[`{}|\\^~$@\x00-\x1f\ud800-\udfff]|(?<! )[<>]|[<>](?!=? )|\*\*|==|%[(\w]|::|://|\w\(|\d=")
FORMULA = "\x00"  # stands for a formula, so that its paragraph is refused
SYMBOL = re.compile(r"[A-Za-z0-9]{1,12}")  # a formula that is a word
PREPOSITION = re.compile(r"\b(?:at|by|following|from|in|of|on|per|see|to|with|ref|refs|and|or|also)\.?$", re.IGNORECASE)
ENDS_SENTENCE = re.compile(r"[.!?:][\"')\]]*$")
STARTS_LOWER = re.compile(r"[\"'(\[]*[a-z]")
PLAIN_WORD = re.compile(r"[\"'(\[]*[A-Za-z]+(?:['’/–—-]+[A-Za-z]+)*[.,;:!?)\]\"']*|-{1,3}|–|—|\d+[.,;:]?")


def plain_text(raw: str) -> str:
    """Replace inline markup by the words that a reader of the rendered page sees; white space becomes single spaces."""
    text = raw.removesuffix(":") if raw.endswith("::") else raw
    if MARKUP.search(text):
        text = INLINE.sub(_replace, text)
    text = re.sub(r"(?<=\w)\(\)", "", text)  # `fit()` is the name `fit`
    return re.sub(r" (?=[.,;](?: |$))", "", " ".join(text.split()))


def english(raw: str) -> str | None:
    """The plain text of a paragraph, or None where it is not a whole paragraph of English prose."""
    raw = raw.strip()
    # Lower case begins the rest of a sentence that a formula or code interrupted; markup may begin one with a name.
    if STARTS_LOWER.match(raw):
        return None
    text = plain_text(raw)
    words = text.split()
    if len(words) < MINIMUM_WORDS or REFUSED.search(text) or not ENDS_SENTENCE.search(words[-1]):
        return None
    if text.count("(") != text.count(")") or text.count('"') % 2:
        return None
    plain = sum(map(bool, map(PLAIN_WORD.fullmatch, words)))
    function = sum(word.lower().strip(".,;:()") in FUNCTION_WORDS for word in words)
    if plain < PLAIN_SHARE * len(words) or function < FUNCTION_SHARE * len(words):
        return None
    return text


def _replace(match: re.Match[str]) -> str:
    kind, found = str(match.lastgroup), match[str(match.lastgroup)]
    match kind:
        case "math" | "dollars":
            return found if SYMBOL.fullmatch(found) else FORMULA
        case "name":
            return _shown_name(found)
        case "note":
            # "as shown in [1]" needs its object, "is stable [1]" does not.
            return found.replace("]_", "]") if PREPOSITION.search(match.string[: match.start()].rstrip()) else ""
        case "nothing":
            return ""
    return found


def _shown_name(target: str) -> str:
    """What Sphinx shows of a name: `~a.b.c` is `c`; `!a`, `.a` and SQLAlchemy's `_package.a` are `a`."""
    if target.startswith("~"):
        return target.rpartition(".")[2].lstrip("~")
    return re.sub(r"^(?:!|\.+|_\w+\.(?=[A-Za-z]))+", "", target)
