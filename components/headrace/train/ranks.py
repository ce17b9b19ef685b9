"""The processes of one training: rank 0 decides, and all of them end the same way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from headrace.errors import HeadraceError

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""What rank 0 may take to tokenise or upload. A peer that dies is noticed at once: its connection closes."""


def local_ranks() -> int:
    """Processes of this training on this machine, as the launcher says."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def local_rank() -> int:
    """This process's number on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


class Ranks:
    """Words between the ranks, over gloo whatever the tensors use, so that none waits on an accelerator."""

    def __init__(self, world_size: int = 1, rank: int = 0) -> None:
        self.world_size, self.rank = world_size, rank
        self.shared: BaseException | None = None
        """The error that every rank was told of, if any."""
        self._group: Any = None
        if world_size > 1:
            import torch.distributed as dist

            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def together(self, work: Callable[[], T]) -> T:
        """Do something on rank 0; every rank gets its answer, or raises its error."""
        if self.world_size == 1:
            return work()
        import torch.distributed as dist

        said: list[Any] = [None, None]
        if self.rank == 0:
            try:
                said[0] = work()
            except HeadraceError as error:
                self.shared = said[1] = error
            except BaseException as error:
                said[1] = HeadraceError(f"rank 0 failed: {type(error).__name__}: {error}")
                dist.broadcast_object_list(said, src=0, group=self._group)
                raise
        dist.broadcast_object_list(said, src=0, group=self._group)
        if said[1] is not None:
            self.shared = said[1]
            raise said[1]
        answer: T = said[0]
        return answer

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on every rank."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def to_first(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on rank 0; elsewhere nothing."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] | None = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return values or []

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums of numbers over all ranks, on every rank; cheap enough for every step."""
        if self.world_size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed, group=self._group)
        answer: list[float] = summed.tolist()
        return answer

    def any(self, flag: bool) -> bool:
        """Whether it is so on some rank; all get the same answer."""
        return self.total([flag])[0] > 0

    def close(self) -> None:
        """Leave the process group; only when all ranks do."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.barrier(group=self._group)
            dist.destroy_process_group()
