import inspect

from hypothesis import given
from hypothesis import strategies as st

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


@given(st.text(alphabet=" \n\t:.-=*`>_|[]()ab1\\$+", max_size=200))
def test_no_docstring_is_too_odd(docstring: str) -> None:
    for paragraph in prose(docstring):
        assert paragraph == " ".join(paragraph.split())
        assert "`" not in paragraph
