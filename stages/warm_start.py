"""warm_start: warm_start.json -> data/warm_start/: the model that training runs begin with, if not with random weights.

A copy of warm_start.json lies in the folder, as DVC warns of folders that are empty.
"""

import shutil

from pipeline.provenance.dvc import restore
from pipeline.provenance.warm_start_file import read_digests, write_digests
from pipeline.runtime.files import scratch_folder
from pipeline.runtime.paths import WARM_START, WARM_START_REQUEST
from pipeline.runtime.stage import run_stage


def warm_start() -> None:
    """Bring the files that warm_start.json names out of DVC's cache or remote, and copy it beside them."""
    digests = read_digests()
    with scratch_folder(WARM_START) as scratch:
        write_digests(digests, scratch)
        for name, digest in digests.items():
            restore(f"{name} of {WARM_START_REQUEST}", digest, scratch / name)
        shutil.rmtree(WARM_START, ignore_errors=True)
        scratch.rename(WARM_START)


if __name__ == "__main__":
    run_stage(warm_start)
