"""Dependency injection for handlers: each server component is requested by its type.

::

    def lots(request: Request, ledger_pool: Use[LedgerPool], me: Me) -> Response: ...

`gonogo.server.components.Components` opens them; a handler names only those it needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request
from pydantic import Field

T = TypeVar("T")

RowNumber = Annotated[int, Field(ge=0, lt=2**63)]
"""Type of a handler argument that is a row number; the upper bound is SQLite's."""


class Provider(Protocol):
    """The interface of ``app.state.components``."""

    def of(self, kind: type[T]) -> T:
        """The component of this type."""


def component(request: Request, kind: type[T]) -> T:
    """Return the component of a type, for code that has the request but is not a handler."""
    components: Provider = request.app.state.components
    return components.of(kind)


@functools.cache
def _dependency(kind: type[Any]) -> Any:
    def find(request: Request) -> Any:
        return component(request, kind)

    found: Callable[[Request], Any] = find
    return Depends(found)


if TYPE_CHECKING:
    Use = Annotated[T, "a component of the server"]
else:

    class Use:
        """``Use[Datasets]`` as the type of a handler's argument: FastAPI passes the server's `Datasets`."""

        def __class_getitem__(cls, kind):
            return Annotated[kind, _dependency(kind)]
