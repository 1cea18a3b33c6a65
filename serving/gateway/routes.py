"""Which versions a gateway asks: the newest generation of the rollout table, made ready to decide with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from schemas.errors import ConfigurationError
from schemas.features import Feature, FeatureSpec, RowInput
from serving.inputs import Packer
from serving.rollout.routing import Routing, Served

Answer = TypeVar("Answer")

_BEAT_S = 0.5

_log = logging.getLogger(__name__)


class Table(Protocol):
    """The rollout table as a gateway uses it; any call may raise a FraudOpsError."""

    def generation(self) -> int:
        """The number of the routing in force; 0 before any."""
        ...

    def routing(self) -> Routing:
        """The routing in force."""
        ...

    def adopt(self, gateway: str, generation: int, now_us: int) -> None:
        """Says that a gateway lives, and under which generation it decides on all that it takes from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """One generation of the table.

    Attributes:
        routing: the generation.
        packers: by version, what picks its inputs; one of the same inputs is the same object.
        unusable: by version, why this gateway cannot ask it.
    """

    routing: Routing
    packers: Mapping[int, Packer] = field(default_factory=dict)
    unusable: Mapping[int, str] = field(default_factory=dict)


class Routes:
    """Follows the table, in a thread of its own.

    Args:
        table: asked from one thread.
        gateway: the name under which the table hears of this gateway.
        spec: what the feature store computes.
        rules_digest: of the gateway's rules.
        now_us: the clock of the heartbeats, UTC microseconds.
    """

    def __init__(
        self, table: Table, gateway: str, spec: FeatureSpec, rules_digest: str, now_us: Callable[[], int]
    ) -> None:
        self._table = table
        self._gateway = gateway
        self._spec = spec
        self._rules_digest = rules_digest
        self._now_us = now_us
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollout-table")
        self._packers: dict[tuple[tuple[RowInput, ...], tuple[Feature, ...]], Packer] = {}
        self._told: set[str] = set()
        self._reloading: asyncio.Future[Route] | None = None
        self._adopted: tuple[int, float] | None = None
        self.current = Route(Routing(0))

    async def start(self) -> None:
        """Reads the routing in force and adopts it.

        Raises:
            FraudOpsError: the table cannot be read.
        """
        await self.reload()
        await self._beat()

    async def follow(self, poll_s: float) -> None:
        """Adopts each new generation, and says so at least once a second, until it is cancelled.

        While the table cannot be read or written, the last routing stays in force.
        """
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.reload()
                await self._beat()
            except Exception as error:  # a gateway that follows nothing must at least say so and try again
                self._tell_once(
                    f"the rollout table does not answer, generation {self.generation} stays in force: {error!r}"
                )

    async def reload(self) -> Route:
        """The routing in force, read now; who asks at the same time waits for the same look."""
        if self._reloading is None:
            self._reloading = asyncio.ensure_future(self._reload())
            self._reloading.add_done_callback(self._reloaded)
        return await asyncio.shield(self._reloading)

    @property
    def generation(self) -> int:
        """Of the routing that is followed."""
        return self.current.routing.generation

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()

    async def _reload(self) -> Route:
        before = self.current
        route = await self._in_thread(lambda: self._read(before))
        if route is not before:
            self.current = route
            _log.info("follows generation %d: %s", route.routing.generation, _described(route.routing))
        return route

    def _reloaded(self, done: asyncio.Future[Route]) -> None:
        self._reloading = None
        if not done.cancelled():
            done.exception()  # whoever waited has it; where nobody does any more, it is no news

    def _read(self, before: Route) -> Route:
        if self._table.generation() == before.routing.generation:
            return before
        routing = self._table.routing()
        packers, unusable = {}, {}
        for served in (routing.stable, routing.candidate):
            if served is None:
                continue
            try:
                packers[served.version] = self._packer(served)
            except ConfigurationError as error:
                unusable[served.version] = str(error)
                self._tell_once(f"version {served.version} cannot be asked: {error}")
            if served.bundle.rules_digest != self._rules_digest:
                self._tell_once(
                    f"version {served.version} was made to decide beside rules {served.bundle.rules_digest[:12]}, and "
                    f"this gateway has {self._rules_digest[:12]}"
                )
        return Route(routing, packers, unusable)

    def _packer(self, served: Served) -> Packer:
        spec = served.bundle.spec
        inputs = spec.row_inputs, spec.features
        if inputs not in self._packers:
            self._packers[inputs] = Packer(self._spec, spec)
        return self._packers[inputs]

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        generation, now = self.generation, loop.time()
        if self._adopted is None or self._adopted[0] != generation or now - self._adopted[1] >= _BEAT_S:
            await self._in_thread(lambda: self._table.adopt(self._gateway, generation, self._now_us()))
            self._adopted = generation, now

    async def _in_thread(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            _log.warning(message)


def _described(routing: Routing) -> str:
    stable = f"version {routing.stable.version}" if routing.stable else "rules alone"
    if routing.candidate is None:
        return stable
    share = f"{routing.weight:.0%} of cards" if routing.weight else "shadow" if routing.shadow else "no cards"
    return f"{stable}, candidate version {routing.candidate.version} ({share})"
