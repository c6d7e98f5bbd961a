"""The picture of the districts, drawn from the imports: python -m tests.support.districts.

Writes the diagrams into docs/architecture.md; a test compares them with the imports.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp

PACKAGES = ("tuning", "trainables", "search_spaces", "results")
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
Edge = tuple[str, str]


def import_graph() -> grimp.ImportGraph:
    """The imports between all modules of the project."""
    first, *others = PACKAGES
    return grimp.build_graph(first, *others, cache_dir=None)


def district_edges(graph: grimp.ImportGraph, package: str) -> set[Edge]:
    """Which districts of a package import which: its folders, and the files beside them."""
    edges = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            both = importer, imported
            if all(name.startswith(f"{package}.") for name in both):
                source, target = (name.split(".")[1] for name in both)
                if source != target:
                    edges.add((source, target))
    return edges


def package_edges(graph: grimp.ImportGraph) -> set[Edge]:
    """Which top-level packages import which."""
    return {
        (importer.split(".")[0], imported.split(".")[0])
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if importer.split(".")[0] != imported.split(".")[0]
    }


def without_shortcuts(edges: set[Edge]) -> set[Edge]:
    """The edges that no path of the others stands for; `edges` must hold no cycle."""
    return {
        (source, target)
        for source, target in edges
        if not any(
            target in reachable(edges, middle)
            for start, middle in edges
            if start == source and middle != target
        )
    }


def reachable(edges: set[Edge], start: str) -> set[str]:
    """All that can be reached from `start`, itself included."""
    found, waiting = {start}, [start]
    while waiting:
        here = waiting.pop()
        for source, target in edges:
            if source == here and target not in found:
                found.add(target)
                waiting.append(target)
    return found


def floors(edges: set[Edge]) -> dict[str, int]:
    """How many others stand below each, on the longest way down; `edges` must hold no cycle."""
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            below = [target for source, target in edges if source == name]
            heights[name] = 1 + max(map(height, below)) if below else 0
        return heights[name]

    for edge in edges:
        for name in edge:
            height(name)
    return heights


def mermaid(edges: Iterable[Edge]) -> str:
    """A flow chart from the importing to the imported."""
    lines = [f"    {source} --> {target}" for source, target in sorted(edges)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def diagrams(graph: grimp.ImportGraph) -> dict[str, str]:
    """Each diagram of the page, by the name that marks its place there."""
    return {
        "packages": mermaid(without_shortcuts(package_edges(graph))),
        "tuning": mermaid(without_shortcuts(district_edges(graph, "tuning"))),
        "trainables": mermaid(without_shortcuts(district_edges(graph, "trainables"))),
    }


def redrawn(page: str, graph: grimp.ImportGraph) -> str:
    """The page with its diagrams as the imports are now."""
    drawn = diagrams(graph)
    place = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)
    return place.sub(lambda found: f"<!-- {found[1]} -->\n{drawn[found[1]]}\n<!-- end -->", page)


def main() -> int:
    """Redraw the diagrams of the page."""
    PAGE.write_text(redrawn(PAGE.read_text(), import_graph()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
