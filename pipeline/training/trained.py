"""Models of a recipe that are trained, so that one seed more trains only that one, and a kill loses none of them.

DVC deletes the outputs of a stage before it runs it, so they lie outside, as checkpoints do, and in a folder named by a
key made of code, data and parameters, so those of another recipe are never found. DVC could leave the outputs there
(`persist`), but then it keeps no run cache for the stage.
"""

import shutil
from pathlib import Path

from pipeline.model.folder import load_model
from pipeline.runtime.errors import InputError
from pipeline.runtime.files import scratch_folder, write_text
from pipeline.training.checkpoint import KEPT_TRAININGS
from pipeline.training.history import HISTORY_FILE, read_history

TRAINED = Path(".rnnlm/trained")


class Trained:
    """The models of one recipe, by seed: of the cell `name`, with the `training_key` `key` of all but the seed."""

    def __init__(self, name: str, key: str, folder: Path = TRAINED) -> None:
        self._cell = folder / name
        self._folder = self._cell / key
        self._whole = self._folder / "seeds.txt"  # how many the stage had when it last ended

    def begin(self, seeds: int) -> None:
        """Forget them if a stage has ended with as many `seeds`: who runs it again wants to see it trained again."""
        if self._whole.exists() and self._whole.read_text(encoding="utf-8") == f"{seeds}\n":
            shutil.rmtree(self._folder)

    def restore(self, seed: int, destination: Path) -> bool:
        """Copy the model of a seed, and its history, to `destination`; False where it is not there, or damaged."""
        kept = self._folder / str(seed)
        if not kept.is_dir():
            return False
        try:
            load_model(kept)
            read_history(kept / HISTORY_FILE)
        except InputError:
            shutil.rmtree(kept)
            return False
        shutil.copytree(kept, destination, dirs_exist_ok=True)
        return True

    def keep(self, seed: int, source: Path) -> None:
        """Copy the model of a seed, whole or not at all, from the folder that it was saved to."""
        kept = self._folder / str(seed)
        shutil.rmtree(kept, ignore_errors=True)
        with scratch_folder(kept) as scratch:
            for path in source.iterdir():
                if path.is_file():
                    shutil.copyfile(path, scratch / path.name)
            scratch.replace(kept)

    def end(self, seeds: int) -> None:
        """The stage has all of its `seeds`; of other recipes of the cell the newest are kept."""
        write_text(self._whole, f"{seeds}\n")
        recipes = sorted(self._cell.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in recipes[KEPT_TRAININGS:]:
            shutil.rmtree(path, ignore_errors=True)
