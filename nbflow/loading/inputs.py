"""Inputs of workflows: what is given is made to fit what the workflow declares, or refused by name."""

from __future__ import annotations

import datetime as dt
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from ..definition import Input
from ..errors import ParameterError, did_you_mean
from ..model import Binding, Names
from ..source import Parameter, Type
from ..values import Value
from .parameters import MisfitError, converter

__all__ = ["Given", "fit", "fit_all", "signature"]

_KINDS = {
    "string": ("str",),
    "path": ("str",),
    "date": ("str",),
    "number": ("int", "float"),
    "integer": ("int",),
    "boolean": ("bool",),
    "array": ("list",),
    "object": ("dict",),
    "any": (),
}


_WORDS = {
    "string": "text",
    "path": "a path",
    "date": "a date such as 2026-01-31",
    "number": "a number",
    "integer": "an integer",
    "boolean": "a boolean (true or false)",
    "array": "an array",
    "object": "an object",
    "any": "a value",
}


def signature(inputs: Mapping[str, Input]) -> str:
    """Give what people read: ``year: integer = 2026, city: string``."""
    return ", ".join(
        f"{name}: {one.type}" + (f" = {one.default!r:.40}" if one.default is not None else "")
        for name, one in inputs.items()
    )


def fit(name: str, declared: Input, value: Value, *, text: bool) -> Value:
    """Give the value of an input.

    Parameters
    ----------
    name : str
        Its name, for messages.
    declared : Input
        What the workflow wants.
    value : Value
        What was given.
    text : bool
        Whether it is text to be read, as on the command line.

    Raises
    ------
    ParameterError
        If it does not fit.

    Examples
    --------
    >>> fit("year", Input(type="integer", minimum=2000), "2026", text=True)
    2026
    """
    try:
        found = converter(Parameter(name, type=_type(declared)), text=text, wanted_by="the workflow")(value)
    except MisfitError as problem:
        told = str(problem)
        if " wants " in told:
            told = f"{told.partition(' wants ')[0]} wants {_WORDS[declared.type]}"
        raise ParameterError(f"input {name} {told}.", _brackets(name, declared, value) if text else "") from None
    _check(name, declared, found)
    return found


def _brackets(name: str, declared: Input, value: Value) -> str:
    """Give how a list is typed, where a text is none."""
    if declared.type not in ("array", "object"):
        return ""
    inside = f"[{value}]" if declared.type == "array" else "{name: value}"
    return f"Write it in brackets: -i {shlex.quote(f'{name}={inside}')}"


def _type(declared: Input) -> Type:
    return Type(_KINDS[declared.type], strict=True, item=_type(declared.items) if declared.items else None)


def _check(name: str, declared: Input, value: Value) -> None:
    if declared.enum is not None and not any(_same(one, value) for one in declared.enum):
        choices = ", ".join(map(repr, declared.enum))
        near = did_you_mean(value, [str(one) for one in declared.enum]) if isinstance(value, str) else ""
        raise ParameterError(f"input {name} is {value!r:.60}, but it is one of {choices}.{near}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if declared.minimum is not None and not value >= declared.minimum:
            raise ParameterError(f"input {name} is {value}, but it is at least {declared.minimum}.")
        if declared.maximum is not None and not value <= declared.maximum:
            raise ParameterError(f"input {name} is {value}, but it is at most {declared.maximum}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"input {name} is {value}, but it is a finite number.")
    if declared.type == "date":
        try:
            dt.date.fromisoformat(str(value))
        except ValueError:
            raise ParameterError(f"input {name} is {value!r:.60}, but it is a date such as 2026-01-31.") from None
    if declared.items is not None and isinstance(value, (list, dict)):
        for place, one in value.items() if isinstance(value, dict) else enumerate(value):
            _check(f"{name}[{place!r}]", declared.items, one)


def fit_all(inputs: Mapping[str, Input], given: Mapping[str, Value], *, text: bool) -> dict[str, Value]:
    """Give the values of all inputs, with their defaults.

    Raises
    ------
    ParameterError
        For a name that is unknown or missing, and for a value that does not fit.
    """
    for name in given:
        if name not in inputs:
            has = f"It has: {signature(inputs)}." if inputs else "It has no inputs."
            raise ParameterError(f"the workflow has no input {name!r}.{did_you_mean(name, list(inputs))}", has)
    values: dict[str, Value] = {}
    for name, declared in inputs.items():
        if name in given:
            values[name] = fit(name, declared, given[name], text=text)
        elif "default" in declared.model_fields_set:
            values[name] = fit(name, declared, declared.default, text=False)
        else:
            raise ParameterError(
                f"the workflow needs the input {name} ({declared.type}), and it has no default.",
                f"Give it: -i {name}=VALUE (in Python: inputs={{'{name}': VALUE}}).",
            )
    return values


@dataclass(frozen=True)
class Given:
    """The inputs of a workflow in a workflow, typed as it declares them when its step is reached."""

    inputs: tuple[tuple[str, Input], ...]
    given: Binding

    def resolve(self, names: Names) -> Value:
        """Give the values.

        Raises
        ------
        ParameterError
            If one does not fit.
        """
        values = self.given.resolve(names)
        assert isinstance(values, dict), "the loader takes mappings only"
        return fit_all(dict(self.inputs), values, text=False)


def _same(one: Value, other: Value) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other
