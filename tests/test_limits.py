"""The bounds on what comes from outside: each is derived, and declared in one place."""

from __future__ import annotations

import ast

from wyoming_chatterbox.testing.serving import ROOT

PACKAGE = ROOT / "wyoming_chatterbox"


def bounds() -> dict[str, str | None]:
    """Returns the docstring under every constant of limits.py, by the constant's name."""
    statements = ast.parse((PACKAGE / "limits.py").read_text()).body
    found: dict[str, str | None] = {}
    for statement, following in zip(statements, [*statements[1:], None], strict=True):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            found[statement.targets[0].id] = str(following.value.value) if is_text else None  # type: ignore[union-attr]
    return found


def test_every_bound_says_where_its_number_comes_from() -> None:
    assert len(bounds()) > 50
    assert [name for name, derivation in bounds().items() if derivation is None or len(derivation) < 20] == []


def test_a_bound_is_declared_in_one_place() -> None:
    declared = {
        (target.id, str(path.relative_to(PACKAGE)))
        for path in PACKAGE.rglob("*.py")
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    assert {(name, path) for name, path in declared if name in bounds() and path != "limits.py"} == set()
