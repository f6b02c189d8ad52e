"""Processes by name, as the command line takes them: `mess3`, or `mess3(0.15, 0.6)` with other parameters."""

import ast
import importlib
import inspect
from typing import Any

from .._errors import ConfigurationError, SteeraxError

# name -> module that defines the function of that name (with underscores)
PROCESSES = {
    "mess3": "zoo",
    "two-cycle": "zoo",
    "casino": "zoo",
    "coin": "machines",
    "zero-one-random": "machines",
    "golden-mean": "machines",
    "even": "machines",
    "sns": "machines",
    "rrxor": "machines",
    "leaky-rrxor": "machines",
    "days-of-week": "machines",
    "parentheses": "machines",
    "mr-name": "machines",
    "tom-quantum": "quantum",
    "fanizza": "quantum",
    "post-quantum": "quantum",
    "random-quantum": "quantum",
    "left-right": "zoo",
    "random-hmm": "zoo",
}


def is_named(text: str) -> bool:
    """Whether a text names a process of the catalogue, with or without parameters."""
    return text.partition("(")[0].strip() in PROCESSES


def named_process(text: str) -> Any:
    """The process of a name, with parameters in brackets if others than its defaults are meant.

    **Raises:** `ConfigurationError` for an unknown name or parameters that do not fit it.
    """
    name, bracket, _ = text.partition("(")
    name = name.strip()
    if name not in PROCESSES:
        raise ConfigurationError(f"There is no process {name!r}; choose one of {', '.join(PROCESSES)}.")
    function = getattr(importlib.import_module(f".{PROCESSES[name]}", __package__), name.replace("-", "_"))
    positional, keywords = _parameters(text, name) if bracket else ([], {})
    try:
        inspect.signature(function).bind(*positional, **keywords)
        return function(*positional, **keywords)
    except SteeraxError as error:
        raise ConfigurationError(f"{text}: {error}") from None
    except TypeError:
        given = ", ".join(str(p) for p in inspect.signature(function).parameters.values())
        raise ConfigurationError(f"{text}: the parameters of {name} are ({given}).") from None


def _parameters(text: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """Numbers (and lists of numbers) in the brackets; nothing is executed."""
    try:
        call = ast.parse(f"f({text.partition('(')[2]}", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and all(k.arg for k in call.keywords)):
            raise ValueError
        keywords = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return [ast.literal_eval(a) for a in call.args], keywords
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ConfigurationError(
            f"{text!r} cannot be read; write a name and numbers in brackets, such as {name}(…)."
        ) from None
