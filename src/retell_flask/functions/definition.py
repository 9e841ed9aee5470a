"""A custom function: a host's function under the name by which an agent calls it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import ConfigurationError
from ..identity import identity_of
from .parameters import Parameters, function_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class CustomFunction:
    """``description`` is the function's docstring, unless another was given."""

    def __init__(
        self, function: Callable[..., Any], name: str | None, description: str | None
    ) -> None:
        if not callable(function):
            raise TypeError("function decorates a function or another callable.")
        self.function = function
        self.identity: str = identity_of(function)
        own = self.identity.rpartition(":")[2].rpartition(".")[2]
        self.name: str = own if name is None else name
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"{self.identity} cannot be a custom function named {self.name!r}: Retell takes 1 "
                "to 64 letters, digits, _ and -."
            )
        self.description: str = (
            inspect.getdoc(function_of(function)) or "" if description is None else description
        )
        self.parameters: Parameters = Parameters(function)


class Functions:
    """The custom functions of a blueprint."""

    def __init__(self) -> None:
        self._functions: dict[str, CustomFunction] = {}

    def add(self, function: CustomFunction) -> None:
        """Raises ``ConfigurationError`` where the name is taken."""
        first = self._functions.setdefault(function.name, function)
        if first is not function and first.identity == function.identity:
            raise ConfigurationError(
                f"The custom function {function.name!r}, {function.identity}, is connected twice. "
                "Connect it at module level, not in a function that runs for each application."
            )
        if first is not function:
            raise ConfigurationError(
                f"The custom function {function.name!r} is {first.identity} already. Give "
                f'{function.identity} a name of its own: @retell.function("…").'
            )

    def get(self, name: str) -> CustomFunction | None:
        return self._functions.get(name)

    def __iter__(self) -> Iterator[CustomFunction]:
        return iter(self._functions.values())
