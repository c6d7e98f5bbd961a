"""Orchestration of searches and certifications, with Ray and Optuna."""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"


def _search_working_folder_last() -> None:
    """Find this project's packages beside this one, whatever lies in the working folder.

    `python -m` puts the working folder first on the path, and so does Ray in its workers: a file
    `results.py` there would be imported instead of the package of that name.
    """
    home, here = str(Path(__file__).parents[1]), os.getcwd()
    working = [entry for entry in sys.path if (entry or here) == here != home]
    others = [entry for entry in sys.path if entry not in working]
    sys.path[:] = [*others, *([] if home in others else [home]), *working]


_search_working_folder_last()
