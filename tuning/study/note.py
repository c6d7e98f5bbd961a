"""The note of a study, which optuna-dashboard shows above everything else."""

from __future__ import annotations

from optuna.storages import BaseStorage

# The dashboard keeps a note in system attributes of the study: a version, and the text in pieces.
# This is what `optuna_dashboard.save_note` writes; the dashboard itself need not be installed.
VERSION, PIECE = "dashboard:note_ver", "dashboard:note_str:"
PIECE_LENGTH = 2045
# The latest text from here: a different one is by a user, and stays.
WRITTEN = "decrop:note"


def set_note(storage: BaseStorage, name: str, text: str) -> None:
    """Give the study `name` a note in Markdown, unless a user has changed the one it has."""
    study = storage.get_study_id_from_name(name)
    kept = storage.get_study_system_attrs(study)
    before = [value for key, value in kept.items() if key.startswith(PIECE)]
    shown = "".join(str(kept[f"{PIECE}{i}"]) for i in range(len(before)))
    if shown not in {"", kept.get(WRITTEN, "")} or shown == text:
        return
    starts = range(0, len(text), PIECE_LENGTH)
    pieces = [text[start : start + PIECE_LENGTH] for start in starts]
    pieces += [""] * (len(before) - len(pieces))
    storage.set_study_system_attr(study, WRITTEN, text)
    for i, piece in enumerate(pieces):
        storage.set_study_system_attr(study, f"{PIECE}{i}", piece)
    storage.set_study_system_attr(study, VERSION, int(str(kept.get(VERSION, 0))) + 1)
