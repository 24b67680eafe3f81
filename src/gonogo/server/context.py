"""What a handler is given: the server's components, each named by its type.

::

    def lots(request: Request, ledger_pool: Use[LedgerPool], me: Me) -> Response: ...

`gonogo.server.components.Components` opens them; a handler names only those that it needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Request
from pydantic import Field

T = TypeVar("T")

RowNumber = Annotated[int, Field(ge=0, lt=2**63)]
"""A row's number in a database, as an argument of a handler: SQLite holds none that is larger."""


class Provider(Protocol):
    """What ``app.state.components`` is."""

    def of(self, kind: type[T]) -> T:
        """The component of this type."""


def component(request: Request, kind: type[T]) -> T:
    """The server's component of a type, for code that has the request but is not a handler."""
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
