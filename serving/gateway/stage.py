"""A stage of the path: items come one by one, and what waits is worked on as one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# For each item in order its result, or what went wrong with it.
Work = Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]]


class Stage(Generic[Item, Result]):
    """Hands what waits to its work: at once when the work is idle, and else whatever has gathered when it is done.

    So batches are as large as the load makes them, and a single item waits for nobody.

    Args:
        work: takes a batch and gives a result for each item; what it raises goes to all of them.
        most: items of one batch.
        at_once: batches in work at a time.
        on_batch: told the size of each batch.
    """

    def __init__(
        self, work: Work[Item, Result], most: int, at_once: int = 1, on_batch: Callable[[int], None] = lambda size: None
    ) -> None:
        self._work = work
        self._most = most
        self._idle = at_once
        self._on_batch = on_batch
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._woken = False

    def put(self, item: Item) -> asyncio.Future[Result]:
        """The result to be; cancel it, and an item that is not in work yet is left out."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if not self._woken:
            # Not at once: what else comes in this turn of the loop goes into the same batch.
            self._woken = True
            loop.call_soon(self._begin)
        return future

    def _begin(self) -> None:
        self._woken = False
        while self._idle and (batch := self._next_batch()):
            self._idle -= 1
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._most:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        self._on_batch(len(batch))
        results: Sequence[Result | Exception]
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        finally:
            self._idle += 1
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._begin()


def in_thread(executor: Executor, work: Callable[[list[Item]], Sequence[Result | Exception]]) -> Work[Item, Result]:
    """The work of a function that blocks."""

    async def run(batch: list[Item]) -> Sequence[Result | Exception]:
        return await asyncio.get_running_loop().run_in_executor(executor, work, batch)

    return run
