"""Runs first in every process of a server, as its sitecustomize.py: it has what the model requires, and no pickle.

What is not in the closure of the model's requirements cannot be imported, as in an environment that holds nothing else,
and a pickle that names a class or function is refused.
"""

import importlib.metadata
import os
import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path

from packaging.requirements import Requirement


def canonical(name):
    return re.sub("[-_.]+", "-", name).lower()


allowed, waiting = set(), Path(os.environ["REQUIREMENTS"]).read_text().splitlines()
while waiting:
    requirement = Requirement(waiting.pop())
    name = canonical(requirement.name)
    if name not in allowed and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
        allowed.add(name)
        waiting += importlib.metadata.requires(name) or []
owners = importlib.metadata.packages_distributions()


class OnlyRequired(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline":  # the model's own copy, not that of the project
            copies = [entry for entry in sys.path if entry.startswith(os.environ["MODEL"])]
            if found := PathFinder.find_spec(name, copies):
                return found
        if name in owners and not any(canonical(owner) in allowed for owner in owners[name]):
            raise ModuleNotFoundError(f"{name} is not among the requirements", name=name)


sys.meta_path.insert(0, OnlyRequired())


def no_pickle(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"a pickle asks for {arguments}")


sys.addaudithook(no_pickle)
