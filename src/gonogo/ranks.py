"""One of several processes that train together, on this machine or on others, as ``torchrun`` starts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gonogo.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process's place among those that train together; alone by default."""

    rank: int = 0
    local: int = 0
    """Number among the processes of this machine, which chooses the GPU."""
    count: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """Read what ``torchrun`` sets: ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE``; alone if it sets nothing.

        Raises:
            InputError: they are no numbers, or contradict each other.
        """
        if "WORLD_SIZE" not in environment:
            return cls()
        try:
            rank, local, count = (int(environment[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        except (KeyError, ValueError) as error:
            raise InputError(f"expected RANK, LOCAL_RANK and WORLD_SIZE as torchrun sets them ({error}).") from error
        if not 0 <= local <= rank < count:
            raise InputError(f"expected 0 <= LOCAL_RANK <= RANK < WORLD_SIZE, found {local}, {rank}, {count}.")
        return cls(rank=rank, local=local, count=count)

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages for all."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return the items that this process works on; every item belongs to exactly one process."""
        return items[self.rank :: self.count]

    def device(self, name: str) -> str:
        """Return the device of this process: with several, ``cuda`` means the GPU of its local number."""
        return f"cuda:{self.local}" if self.count > 1 and name == "cuda" else name


ALONE = Ranks()


class ShareDoneError(Exception):
    """This process has done its share of a training; the first one goes on alone."""
