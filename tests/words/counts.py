"""Prints how large the package is: ``poe counts``. Modules, lines, the longest of both."""

import ast
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[2] / "sandboxq"
LONGEST_MODULE = 400


def function_lengths(tree: ast.Module) -> list[int]:
    """Return the lines of each function, from its ``def`` to its end."""
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def main() -> None:
    """Print the counts."""
    texts = {path: path.read_text() for path in sorted(ROOT.rglob("*.py"))}
    lines = {path: len(text.splitlines()) for path, text in texts.items()}
    functions = [n for text in texts.values() for n in function_lengths(ast.parse(text))]
    packages = sum(path.name == "__init__.py" for path in texts)
    print(f"modules    {len(texts)}, of them {packages} __init__.py")  # noqa: T201
    print(f"lines      {sum(lines.values())}, median of a module {median(lines.values()):g}")  # noqa: T201
    print(  # noqa: T201
        f"functions  {len(functions)}, median {median(functions):g} lines, "
        f"90th percentile {quantiles(functions, n=10)[-1]:g}"
    )
    for path, count in lines.items():
        if count > LONGEST_MODULE:
            print(f"too long   {path.relative_to(ROOT.parent)}: {count}")  # noqa: T201


if __name__ == "__main__":
    main()
