"""No module imports itself by way of others."""

import graphlib

import grimp
import pytest


def _is_to_a_twin(importer: str, imported: str) -> bool:
    # Queue.sync() and the like load their blocking halves when these are asked for.
    return "queue.sync" in imported and "queue.sync" not in importer


def test_no_module_imports_itself_by_way_of_others() -> None:
    """What a module needs can be read before it, in one order, and any of them can be loaded first.

    What is imported for type checkers alone is no part of that; what functions import is.
    """
    graph = grimp.build_graph("sandboxq", cache_dir=None, exclude_type_checking_imports=True)
    arrows = {
        module: {
            each
            for each in graph.find_modules_directly_imported_by(module)
            if not _is_to_a_twin(module, each)
        }
        for module in graph.modules
    }

    order = list(graphlib.TopologicalSorter(arrows).static_order())

    assert order.index("sandboxq.errors") < order.index("sandboxq.worker.worker")


@pytest.mark.parametrize("depth", [1, 2])
def test_no_folder_imports_itself_by_way_of_others(depth: int) -> None:
    """Between folders, and between what is in one folder, arrows point one way."""
    graph = grimp.build_graph("sandboxq", cache_dir=None, exclude_type_checking_imports=True)
    graph.remove_module("sandboxq")  # its public names are loaded when they are asked for
    arrows: dict[str, set[str]] = {}
    for module in graph.modules:
        of = _folder(module, depth)
        arrows.setdefault(of, set())
        for each in graph.find_modules_directly_imported_by(module):
            if _folder(each, depth) != of and not _is_to_a_twin(module, each):
                arrows[of].add(_folder(each, depth))

    order = list(graphlib.TopologicalSorter(arrows).static_order())

    assert len(order) == len(arrows)


def _folder(module: str, depth: int) -> str:
    return ".".join(module.split(".")[: depth + 1])
