"""The one exception that means "the user can mend this"."""


class InputError(Exception):
    """Bad input: says on one line what is wrong, where, and what to do about it.

    Commands and stages print it without a traceback and exit with status 1.
    """
