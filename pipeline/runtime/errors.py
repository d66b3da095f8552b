"""The exceptions that a command or stage ends with on one line, without a traceback."""


class InputError(Exception):
    """Bad input: says on one line what is wrong, where, and what to do about it.

    Commands and stages print it without a traceback and exit with status 1. A name in it that is not UTF-8 is shown
    with backslashes, so that it can be printed and written anywhere.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.encode(errors="backslashreplace").decode())


def is_of_the_machine(error: Exception) -> bool:
    """Whether reading failed for lack of memory, a permission or the like, which says nothing against the file."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) is not None


def one_line(text: object) -> str:
    """What an error says, its line ends and runs of spaces become single spaces."""
    return " ".join(str(text).split())


class StoppedError(Exception):
    """The process was asked to end by a `signal`, and was ready to; the exit status is 128 more, as in a shell."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
