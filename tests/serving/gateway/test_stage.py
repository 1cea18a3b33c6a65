"""A stage works on what waits as one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.gateway.stage import Stage, in_thread
from tests.serving.gateway.gateways import asynchronous, eventually


class Worker:
    """Doubles numbers when it is let; an odd one it refuses."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may = asyncio.Event()

    async def __call__(self, batch: list[int]) -> Sequence[int | Exception]:
        self.batches.append(batch)
        await self.may.wait()
        return [2 * number if number % 2 == 0 else ValueError(number) for number in batch]


@asynchronous
async def test_what_comes_in_one_turn_goes_together_and_what_comes_later_gathers() -> None:
    worker = Worker()
    stage: Stage[int, int] = Stage(worker, most=3)
    first = [stage.put(number) for number in (0, 2)]
    await eventually(lambda: worker.batches == [[0, 2]])
    later = [stage.put(number) for number in (4, 6, 8, 10)]
    worker.may.set()
    assert await asyncio.gather(*first, *later) == [0, 4, 8, 12, 16, 20]
    assert worker.batches == [[0, 2], [4, 6, 8], [10]]


@asynchronous
async def test_as_many_batches_as_allowed_are_in_work_at_once() -> None:
    worker = Worker()
    stage: Stage[int, int] = Stage(worker, most=1, at_once=2)
    results = [stage.put(number) for number in (0, 2, 4)]
    await eventually(lambda: len(worker.batches) == 2)
    worker.may.set()
    assert await asyncio.gather(*results) == [0, 4, 8]


@asynchronous
async def test_an_item_that_fails_leaves_its_neighbours_alone() -> None:
    worker = Worker()
    worker.may.set()
    stage: Stage[int, int] = Stage(worker, most=3)
    results = await asyncio.gather(*[stage.put(number) for number in (0, 1, 2)], return_exceptions=True)
    assert (results[0], results[2]) == (0, 4)
    assert isinstance(results[1], ValueError)


@asynchronous
async def test_work_that_raises_fails_its_batch_and_the_stage_goes_on() -> None:
    async def work(batch: list[int]) -> Sequence[int]:
        if 1 in batch:
            raise OSError("no")
        return batch

    stage: Stage[int, int] = Stage(work, most=1)
    with pytest.raises(OSError, match="no"):
        await stage.put(1)
    assert await stage.put(2) == 2


@asynchronous
async def test_an_item_that_nobody_waits_for_any_more_is_left_out() -> None:
    worker, sizes = Worker(), list[int]()
    stage: Stage[int, int] = Stage(worker, most=3, on_batch=sizes.append)
    first = stage.put(0)
    await eventually(lambda: worker.batches == [[0]])
    given_up, kept = stage.put(2), stage.put(4)
    given_up.cancel()
    worker.may.set()
    assert (await first, await kept) == (0, 8)
    assert worker.batches == [[0], [4]]
    assert sizes == [1, 1]


@asynchronous
async def test_work_that_blocks_runs_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as executor:
        stage: Stage[int, int] = Stage(in_thread(executor, lambda batch: [-number for number in batch]), most=9)
        assert await asyncio.gather(stage.put(1), stage.put(2)) == [-1, -2]
