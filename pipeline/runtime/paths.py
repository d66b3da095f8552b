"""Where the pipeline keeps its files, from the project's folder. dvc.yaml says it too; a test compares the two.

All in one module that imports nothing: a command that needs a path must not wait for torch or matplotlib.
"""

from pathlib import Path

DATA = Path("data")
PINS = DATA / "pins"  # STAGE.txt of each stage, and corpus.txt
DOCUMENTS = DATA / "raw/documents.parquet"
TOKENS = DATA / "tokens/sentences.parquet"
VOCABULARY = DATA / "vocabulary.tsv"
REMARKS = DATA / "remarks"  # STAGE.json of each stage that reads text
ENCODED = DATA / "encoded"  # holds a folder for each split
WARM_START = DATA / "warm_start"  # a model's files, or none where the first weights are random; and the request
MODELS = DATA / "models"  # holds a folder for each cell
EVALUATION = DATA / "evaluation"  # likewise, and one for the baselines
REPORT = DATA / "report"
LEARNING_CURVES = DATA / "curves"  # the histories of all cells in one table

WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE = MODEL_FILES = ("model.safetensors", "config.json", "vocabulary.tsv")
WARM_START_REQUEST = Path("warm_start.json")
LOCK = Path("dvc.lock")
TIMINGS = Path(".rnnlm/timings")  # of training runs on this machine

# In a cell's folders: what belongs to its further seeds, and a row for each of all its seeds.
SEEDS_FOLDER, SEEDS_FILE = "seeds", "seeds.csv"


def seed_folders(folder: Path) -> list[Path]:
    """The folders of all seeds of a cell, from its folder in data/models or data/evaluation, which is the first's."""
    return [folder, *sorted((folder / SEEDS_FOLDER).glob("[0-9]*"), key=lambda path: int(path.name))]
