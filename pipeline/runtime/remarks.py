"""What a stage says of the corpus: sums that balance, and warnings.

Both are printed, and kept in data/remarks/STAGE.json, from which the report and the pages of runs repeat them. So they
are about the text alone: what depends on the machine or the moment is printed and no more.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pipeline.runtime.errors import InputError
from pipeline.runtime.files import write_text
from pipeline.runtime.paths import REMARKS

NAMED = 5  # files that a warning names


class Remarks:
    """What one stage says.

    Attributes:
        sums: for each unit (`rows`), into what how many of it were turned (`documents`), or why they were skipped.
        bytes_held: what the files to be read hold in all, infinite where only reading tells; it is not said.
        bytes_read: of that, so far.
    """

    def __init__(self, sums: Mapping[str, Mapping[str, int]] | None = None, warnings: Sequence[str] = ()) -> None:
        self.sums = defaultdict(Counter[str], {unit: Counter(became) for unit, became in (sums or {}).items()})
        self.bytes_held = self.bytes_read = 0.0
        self._about: dict[str, list[str]] = {told: [] for told in warnings}  # the files that each is about, if any

    def count(self, unit: str, became: str, number: int = 1) -> None:
        """Note that so many of `unit` became something, or why they were skipped."""
        self.sums[unit][became] += number

    def warn(self, told: str, file: str = "") -> None:
        """Keep a warning, and print it at its first time; it may be about a file, or in the end about many."""
        if told not in self._about:
            print(f"warning: {file and f'{file}: '}{told}", file=sys.stderr, flush=True)
        files = self._about.setdefault(told, [])
        if file and file not in files:
            files.append(file)

    @property
    def warnings(self) -> list[str]:
        """What was warned of, in the order of its coming."""
        return [f"{named(files)}: {told}" if files else told for told, files in self._about.items()]

    def lines(self) -> Iterator[str]:
        """The sums in words, such as `rows: 2,000 = 1,990 documents + 10 blank`."""
        for unit, became in self.sums.items():
            parts = " + ".join(f"{number:,} {what}" for what, number in became.most_common())
            yield f"{unit}: {became.total():,} = {parts}"

    def end(self, stage: str) -> None:
        """Print the sums, and write all that was said to the stage's file."""
        for line in self.lines():
            print(f"{stage}: {line}", flush=True)
        content = {"sums": self.sums, "warnings": self.warnings}
        write_text(REMARKS / f"{stage}.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def named(files: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED:,} more" if files[NAMED:] else "")


def read_remarks() -> dict[str, Remarks]:
    """What each stage said, by its name; nothing of a stage that has not run, as in a project of an earlier version.

    Raises:
        InputError: a file is damaged.
    """
    found = {}
    for stage in ("download", "tokenize", "encode"):
        path = REMARKS / f"{stage}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found[stage] = Remarks(content["sums"], content["warnings"])
        except FileNotFoundError:
            continue
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(f"{path} is damaged; delete it and run `dvc repro {stage}`") from None
    return found
