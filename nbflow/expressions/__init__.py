"""Expressions: ``{{ ... }}`` in text, and conditions, with the grammar and the filters of Jinja."""

from __future__ import annotations

from .bindings import Collection, Condition, Expression, Template, bind, condition, template
from .filters import FILTERS as _FILTERS
from .filters import TESTS as _TESTS
from .limits import ExpressionError
from .operations import text_of
from .syntax import Reference

__all__ = [
    "FILTERS",
    "TESTS",
    "Collection",
    "Condition",
    "Expression",
    "ExpressionError",
    "Reference",
    "Template",
    "bind",
    "condition",
    "template",
    "text_of",
]

FILTERS: frozenset[str] = frozenset(_FILTERS)
"""Names of the filters that expressions have."""
TESTS: frozenset[str] = frozenset(_TESTS)
"""Names of the tests that expressions have."""
