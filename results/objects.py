"""A finished run as Python objects, for notebooks and scripts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from results import files
from results.run import Run, load_run
from results.sentences import details, headline, sentence
from results.verdict import Verdict, judge_all


class RunResults:
    """What a run has found, read from its folder.

        run = RunResults("runs/digits")
        print(run)                                    # what was proved, setting by setting
        run.summary.to_pandas()                       # a row for each setting and variant
        run.table("trials", "digits-10shot").to_pandas()
        run.curves("digits-10shot")                   # a picture, in a notebook

    Raises:
        StoreError: if the folder is not a readable run.
        ValueError: if its variants were certified on different images.
    """

    def __init__(self, folder: Path | str) -> None:
        self._run: Run = load_run(Path(folder))
        self.folder, self.report = self._run.folder, self._run.folder / files.REPORT
        self.settings = [setting.name for setting in self._run.settings]
        self.verdicts: Mapping[str, Verdict] = judge_all(self._run)

    @property
    def summary(self) -> pa.Table:
        """summary.parquet: a row for each setting and variant."""
        return pq.read_table(self.folder / files.SUMMARY)

    def table(self, name: str, setting: str | None = None) -> pa.Table:
        """A table of a setting, such as trials, confirmation, certificates or classes.

        The setting need not be named if there is only one.

        Raises:
            ValueError: if the run has no such setting or table.
        """
        path = self.folder / self._setting(setting) / f"{name}.parquet"
        if not path.is_file():
            known = sorted(other.stem for other in path.parent.glob("*.parquet"))
            raise ValueError(f"there is no table {name!r}; there are {', '.join(known)}")
        return pq.read_table(path)

    def curves(self, setting: str | None = None) -> Picture:
        """Certified accuracy against radius, a line for each variant; `setting` as in `table`.

        Raises:
            ValueError: if nothing of the setting is certified, or the run has no such setting.
        """
        # Matplotlib takes a second to import.
        from results.figures import curves_figure

        name = self._setting(setting)
        (found,) = (each for each in self._run.settings if each.name == name)
        if not found.certificates:
            raise ValueError(f"nothing of {name} is certified yet")
        return Picture(curves_figure(found.certificates, found.labels))

    def export(self, setting: str | None = None) -> Path:
        """The folder of the exported classifier, for `SmoothedClassifier.load`."""
        return self.folder / self._setting(setting) / files.EXPORT

    def _setting(self, name: str | None) -> str:
        if name is None and len(self.settings) == 1:
            return self.settings[0]
        if name not in self.settings:
            raise ValueError(f"name a setting of the run: {', '.join(self.settings)}; got {name!r}")
        return name

    def _lines(self) -> list[tuple[str, list[str]]]:
        """The headline and the details of each setting."""
        return [
            (f"{name}: {sentence(headline(verdict))}", details(verdict))
            for name, verdict in self.verdicts.items()
        ]

    def __str__(self) -> str:
        return "\n".join("\n".join([first, *rest]) for first, rest in self._lines())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return "".join(
            f"<p><strong>{html.escape(first)}</strong></p>"
            + "".join(f"<p>{html.escape(line)}</p>" for line in rest)
            for first, rest in self._lines()
        )


class Picture:
    """A PNG that notebooks show."""

    def __init__(self, png: bytes) -> None:
        self.png = png

    def save(self, path: Path | str) -> None:
        """Write the PNG to a file."""
        Path(path).write_bytes(self.png)

    def _repr_png_(self) -> bytes:
        return self.png
