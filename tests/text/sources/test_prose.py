import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.sources.markup import english, plain_text
from pipeline.text.sources.prose import prose

NUMPYDOC = inspect.cleandoc(
    """
    Return the first element of a sequence that is long enough.

    A paragraph may run over more than
    one line, and is joined by a space.

    Parameters
    ----------
    x : array_like
        The array that this parameter description is about.
    y : int, optional
        This is a sentence of the description of a parameter.

        Even a second paragraph of it is part of the list.

    Returns
    -------
    out : ndarray
        The result is what the function returns to the caller.

    See Also
    --------
    other : This is a sentence about another function.

    This is a sentence in a section of links.

    Notes
    -----
    The notes are prose, and so they are kept as they are.

    .. versionadded:: 1.2
       This is the sentence of a version that nobody reads.

    .. note:: The body of a note is prose,
       and so is kept.

    .. math:: this is a sentence in a formula.

    .. code-block:: python

       print("This is a sentence in the code.")

    .. This is a sentence in a comment of the source.

    The values are the following, and this is a literal block::

        This is a sentence within a literal block.

    Whatever follows it is prose again:

      This is a quotation, indented, and prose as well.

    # This is a comment, which only code has, not prose.

    - An item of a list that is a whole sentence
      of two lines is kept.
    - ``axis``: an entry that explains a name is not for us.

    ======  ===============================
    Name    This is a sentence in a table.

    Other   This is another sentence in a table.
    ======  ===============================

    Examples
    --------
    The example is explained with a sentence before the code:

    >>> print("This is a sentence.")
    This is the sentence that the code prints.

    And the code is explained with a sentence after it.
    """
)


def test_paragraphs_of_a_numpydoc_docstring() -> None:
    assert prose(NUMPYDOC) == [
        "Return the first element of a sequence that is long enough.",
        "A paragraph may run over more than one line, and is joined by a space.",
        "The notes are prose, and so they are kept as they are.",
        "The body of a note is prose, and so is kept.",
        "The values are the following, and this is a literal block:",
        "Whatever follows it is prose again:",
        "This is a quotation, indented, and prose as well.",
        "An item of a list that is a whole sentence of two lines is kept.",
        "The example is explained with a sentence before the code:",
        "And the code is explained with a sentence after it.",
    ]


def test_paragraphs_of_google_and_sphinx_docstrings() -> None:
    docstring = """Do the thing that the name of this function says.

        Args:
            x (int): This is a sentence about an argument of the function.
                It continues here and is a sentence too.

            y: This is a sentence after a blank line.

        Returns:
            This is a sentence about what the function returns.

        Note:
            This is a sentence of a note that is worth keeping.

        Example::

            This is a sentence in a literal block.

        :param z: This is a sentence about a field
         that goes on in the next line.

         And this is its second paragraph, of the field.
        :return: This is a sentence about the value.

        Where the fields end, the prose may go on.
    """
    assert prose(docstring) == [
        "Do the thing that the name of this function says.",
        "This is a sentence of a note that is worth keeping.",
        "Where the fields end, the prose may go on.",
    ]


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


@given(st.text(alphabet=" \n\t:.-=*`>_|[]()ab1\\$+", max_size=200))
def test_no_docstring_is_too_odd(docstring: str) -> None:
    for paragraph in prose(docstring):
        assert paragraph == " ".join(paragraph.split())
        assert "`" not in paragraph
