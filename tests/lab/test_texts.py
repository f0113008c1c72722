"""What wsp.lab says can be written in every code page."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from wsp.lab import results

# Not what writes for a page alone, where minus signs and spaces are as people set them.
PAGES = {"report.py"}
LAB = sorted(path for path in Path(results.__file__).parent.rglob("*.py") if path.name not in PAGES)


def said(tree: ast.AST) -> list[str]:
    """All texts of a module that are no docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [node.value for node in constants if isinstance(node.value, str) and id(node) not in docstrings]


@pytest.mark.parametrize("path", LAB, ids=lambda path: path.stem)
def test_texts_are_ascii(path: Path) -> None:
    """A terminal or a redirected output that has no multiplication sign must not lose a run."""
    assert [text for text in said(ast.parse(path.read_text(encoding="utf-8"))) if not text.isascii()] == []


def test_such_a_text_is_found() -> None:
    code = '"""Fine: ×"""\nx = 1  # fine: ×\ndef f(n):\n    """Fine: ×"""\n    return f"{n} × {n}"\n'
    assert said(ast.parse(code)) == [" × "]
