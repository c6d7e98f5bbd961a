import pytest
from grimp import ImportGraph

from tests.support.districts import (
    PAGE,
    district_edges,
    floors,
    import_graph,
    package_edges,
    reachable,
    redrawn,
    without_shortcuts,
)


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return import_graph()


def test_the_diagrams_are_those_of_the_imports(graph: ImportGraph) -> None:
    page = PAGE.read_text()
    assert redrawn(page, graph) == page, "run python -m tests.support.districts"
    assert page.count("flowchart TD") == 3


@pytest.mark.parametrize("package", ["tuning", "trainables"])
def test_no_district_imports_itself_through_others(graph: ImportGraph, package: str) -> None:
    edges = district_edges(graph, package)
    circular = {edge for edge in edges if edge[0] in reachable(edges, edge[1])}
    assert not circular


def test_tuning_has_few_floors(graph: ImportGraph) -> None:
    assert max(floors(district_edges(graph, "tuning")).values()) + 1 <= 8


def test_only_tuning_imports_the_other_packages(graph: ImportGraph) -> None:
    assert {source for source, _ in package_edges(graph)} == {"tuning"}


def test_an_arrow_that_a_longer_way_stands_for_is_left_out() -> None:
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert without_shortcuts(edges) == {("a", "b"), ("b", "c"), ("a", "d")}
    assert floors(edges) == {"a": 2, "b": 1, "c": 0, "d": 0}
