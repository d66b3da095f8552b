"""How a stage or a command ends: quietly, or with one clear line and a status that is not 0."""

import errno
import sys
from collections.abc import Callable

OUT_OF_MEMORY = "out of memory; use a smaller corpus, vocabulary, batch or hidden size, or a larger machine"


def run(work: Callable[[], None]) -> None:
    """Call `work`; turn what the user can mend into one line on standard error and exit status 1."""
    from pipeline.errors import InputError

    try:
        work()
    except InputError as error:
        sys.exit(f"error: {error}")
    except MemoryError:
        sys.exit(f"error: {OUT_OF_MEMORY}")
    except RuntimeError as error:
        # torch's own: "can't allocate memory" of its CPU allocator, "out of memory" of CUDA's
        if "allocate memory" in str(error) or "out of memory" in str(error):
            sys.exit(f"error: {OUT_OF_MEMORY}")
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE):
            sys.exit(f"error: {error}; free space or mend the permissions, then run again")
        raise
