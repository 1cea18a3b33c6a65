"""What transactions turned out to be: into the decision log first, and from there into the feature store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from schemas.errors import FraudOpsError, OutcomeReportError, UnknownTransactionError
from schemas.scoring_pb2 import OutcomeReport
from schemas.transaction import END_US, SECOND_US
from serving.features import FeatureStore
from serving.gateway.metrics import Metrics
from serving.gateway.ports import Log
from serving.gateway.refusal import invalid, unavailable, unknown
from serving.gateway.stage import Stage, in_thread

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Report:
    transaction_id: str
    is_fraud: bool
    label_time_us: int
    reported_by: str
    now_us: int


class Outcomes:
    """Takes reports; what is in the log and not in the store yet, after a death say, follows with the next.

    Args:
        log: of decisions.
        store: of features.
        thread: in which the store is called.
        now_us: wall clock, UTC microseconds.
        max_ahead_s: by how many seconds a `label_time` may be ahead of it.
        most: reports that are taken at once.
        metrics: counts.
    """

    def __init__(
        self,
        log: Log,
        store: FeatureStore,
        thread: Executor,
        now_us: Callable[[], int],
        max_ahead_s: int,
        most: int,
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._store = store
        self._thread = thread
        self._now_us = now_us
        self._max_ahead_s = max_ahead_s
        self._metrics = metrics
        self._stage: Stage[_Report, bool] = Stage(in_thread(thread, self._take), most, on_batch=metrics.batch("labels"))

    async def report(self, message: OutcomeReport) -> bool:
        """Takes a report; whether it said something new.

        Raises:
            Refusal: a field is missing or wrong, the transaction is unknown, or the log cannot be written.
        """
        report = self._admit(message)
        recorded = await self._stage.put(report)
        if recorded:
            self._metrics.labels.labels(str(report.is_fraud).lower()).inc()
        return recorded

    async def catch_up(self) -> None:
        """Gives the store what it has missed.

        Raises:
            FraudOpsError: log or store do not work.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._apply_pending)

    def _admit(self, message: OutcomeReport) -> _Report:
        now_us = self._now_us()
        if not message.transaction_id:
            raise invalid("transaction_id", "transaction_id has no value; send that of the transaction")
        if not message.HasField("is_fraud"):
            raise invalid("is_fraud", "is_fraud has no value; send true or false")
        label_time_us = message.label_time if message.HasField("label_time") else now_us
        if not 0 <= label_time_us < END_US:
            raise invalid(
                "label_time",
                f"label_time {label_time_us} is not of the years 1970 to 2100; send UTC microseconds since 1970-01-01",
            )
        if label_time_us > now_us + self._max_ahead_s * SECOND_US:
            raise invalid(
                "label_time",
                f"label_time {label_time_us} has not come yet: the gateway's clock says {now_us}, and it takes up to "
                f"{self._max_ahead_s:,} s ahead; send UTC microseconds since 1970-01-01",
            )
        return _Report(message.transaction_id, message.is_fraud, label_time_us, message.reported_by, now_us)

    def _take(self, reports: list[_Report]) -> Sequence[bool | Exception]:
        results = [self._record(report) for report in reports]
        try:
            self._apply_pending()
        except FraudOpsError as error:
            _log.warning("labels stay in the decision log until the feature store takes them: %s", error)
        return results

    def _record(self, report: _Report) -> bool | Exception:
        try:
            return self._log.report(
                report.transaction_id, report.is_fraud, report.label_time_us, report.reported_by or None, report.now_us
            ).recorded
        except UnknownTransactionError:
            return unknown(report.transaction_id)
        except OutcomeReportError as error:
            return invalid("label_time", str(error))
        except FraudOpsError as error:
            return unavailable(str(error))

    def _apply_pending(self) -> None:
        pending = self._log.pending_labels()
        for label in pending:
            self._store.label(label.transaction, label.is_fraud, label.label_time_us)
        if pending:
            self._log.applied(pending)
