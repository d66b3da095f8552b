import pytest

from pipeline.text.sources.markup import english, plain_text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("``fit`` and `transform` and ``a * b``", "fit and transform and a * b"),
        (":func:`numpy.linalg.norm` of :class:`~numpy.ndarray`", "numpy.linalg.norm of ndarray"),
        (":py:meth:`!run` or `~a.b.c` or :class:`_engine.Row` or :attr:`.Row.t`", "run or c or Row or Row.t"),
        ("the :ref:`User Guide <guide>`, `a page <https://a.org>`_, a `Part`_.", "the User Guide, a page, a Part."),
        ("*emphasis*, **strong** words; 2 * 3 * 4", "emphasis, strong words; 2 * 3 * 4"),
        ("is stable [1]_, shown in [2]_, and by [Knu97]_, [3]_.", "is stable, shown in [2], and by [Knu97], [3]."),
        ("call ``fit()`` or run() at once", "call fit or run at once"),
        ("of :math:`n` and $k$ steps", "of n and k steps"),
        ("the |Axes| of it\\ s \\*args", "the Axes of its *args"),
        ("as follows::", "as follows:"),
        ("two\n   spaces ,  and a dot .", "two spaces, and a dot."),
    ],
)  # fmt: skip
def test_inline_markup_becomes_what_a_reader_sees(raw: str, shown: str) -> None:
    assert plain_text(raw) == shown


@pytest.mark.parametrize(
    "raw",
    [
        "This sentence of a paragraph does not end",
        "and this is the rest of a sentence.",
        "Too short to keep.",
        "This has the value :math:`\\frac{1}{2}` in it, which is a formula.",
        "This has an `unbalanced backtick that is markup.",
        "This is for %(name)s, which is a template.",
        "This is for {name}, which is also a template.",
        "This calls the function f(x) in the middle of it.",
        "See the page at https://example.org for more on this.",
        "This has a bracket (that is never closed again.",
        "Alpha beta gamma delta epsilon zeta eta theta.",
        "The a_1 b_2 c_3 d_4 e_5 f_6 g_7 h_8 of it.",
        "This has a lone surrogate \ud800 in the middle.",
    ],
)
def test_what_is_no_prose_is_dropped(raw: str) -> None:
    assert english(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        "This is a sentence that is kept!",
        "Is this one of the questions that are kept?",
        "``fit`` is a name, and may begin a sentence in lower case.",
        "(All of it stands in brackets.)",
        "If it is given and x < 1, this is an error.",
        "It does not fit the data's shape, or so we've been told.",
    ],
)
def test_prose_is_kept(raw: str) -> None:
    assert english(raw) == raw.replace("`", "")
