"""No module imports itself by way of others."""

import graphlib

import grimp
import pytest

# A job knows its queue, and a queue gives jobs: their types need each other.
MUTUAL = {("sandboxq.queue.job", "sandboxq.queue.queue")}

Arrows = dict[str, set[str]]


def arrows_of(*, for_types_too: bool = False) -> Arrows:
    """Return what each module imports, in functions too.

    The package itself is left out: its public names are loaded when they are asked for.
    """
    graph = grimp.build_graph(
        "sandboxq", cache_dir=None, exclude_type_checking_imports=not for_types_too
    )
    return {
        module: graph.find_modules_directly_imported_by(module) - {"sandboxq"}
        for module in graph.modules - {"sandboxq"}
    }


def assert_one_way(arrows: Arrows) -> None:
    """Fail, with the way round, when there is one."""
    order = list(graphlib.TopologicalSorter(arrows).static_order())
    assert arrows.keys() <= set(order)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """What a module needs can be read before it, in one order, and any of them can be loaded first.

    What is imported for type checkers alone is no part of that; what functions import is.
    """
    arrows = arrows_of()

    assert "sandboxq.errors" in arrows["sandboxq.worker.worker"]
    assert_one_way(arrows)


def test_no_module_needs_itself_for_its_types() -> None:
    """What is imported for type checkers alone counts too: a reader follows it as well."""
    arrows = arrows_of(for_types_too=True)
    sorted_out = {
        module: {each for each in imported if (module, each) not in MUTUAL}
        for module, imported in arrows.items()
    }

    assert all(imported in arrows[module] for module, imported in MUTUAL)
    assert_one_way(sorted_out)


@pytest.mark.parametrize("depth", [1, 2])
def test_no_folder_imports_itself_by_way_of_others(depth: int) -> None:
    """Between folders, and between what is in one folder, arrows point one way."""
    arrows: Arrows = {}
    for module, imported in arrows_of().items():
        of = _folder(module, depth)
        arrows.setdefault(of, set()).update(_folder(each, depth) for each in imported)
        arrows[of].discard(of)

    assert "sandboxq.errors" in arrows[_folder("sandboxq.broker.keys", depth)]
    assert_one_way(arrows)


def _folder(module: str, depth: int) -> str:
    return ".".join(module.split(".")[: depth + 1])
