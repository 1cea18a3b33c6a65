"""The feature store: a transaction's features are read and the transaction is added, as one step.

The state of a key is bounded, whatever its traffic: the tiles of its windows (`tiles`), what came singly within the
allowed lateness and a few events before (`series`), and one row for each value of the look-back that `first_seen` asks
about.  With the declaration that ships and ten minutes of lateness there are at most 72 tiles of a minute, 171 of an
hour and 33 of a day.  What has run out is deleted when the key's next event opens a hop.  A key that nobody will ask
about any more is forgotten as a whole: by a table in which rows run out, else by any transaction that comes upon it.
Beside the keys' state, the store keeps the answers of the allowed lateness, so that a transaction that comes twice gets
the same answer twice, and up to where labels of logs have come, so that each comes once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ArtifactError, ConfigurationError
from schemas.features import KEYS, LOOK_BACK, FeatureSpec, RowInput
from schemas.transaction import SECOND_US, second_of_day, second_of_week
from serving.features.encoding import decode, encode
from serving.features.entity import HEADS, Entity, Value
from serving.features.folding import Event
from serving.features.keys import AFTER, ANSWER, ENTITY, ENTITY_BYTES, EXPIRY, HEADER, LABELLED, entity, time_key
from serving.features.labelled import Labelled, Place, extended, last_place, loaded_until, pack, unpack
from serving.features.memory import MemoryTable
from serving.features.past import Columns, events_before, labels_of
from serving.features.series import newest_us
from serving.features.sqlite import SqliteTable
from serving.features.table import KeyRange, Plan, Range, Table, drive, one, together, transact

LATENESS_S = 600

_FORMAT = 2
# Of the answers that have run out, each transaction deletes some: more than it adds, and never a whole night's at once.
_EXPIRED_AT_ONCE = 8
_BEHIND_ENTITIES = bytes([ENTITY[0] + 1])
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Features:
    """The inputs of a model for one transaction, in the order of its `FeatureSpec`.

    Attributes:
        numbers: the numeric inputs, as wide as `spec.numeric_width`; NaN is missing.
        texts: the categorical inputs, as wide as `spec.categorical_width`; "" is missing.
    """

    numbers: tuple[float, ...]
    texts: tuple[str, ...]

    def numeric(self) -> NDArray[np.float32]:
        """The row of `score_packed`, float32 `[F]`: what is too large becomes the largest finite number."""
        return to_float32(np.array(self.numbers))


def to_float32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """The cast at the door of the model: what is too large becomes the largest finite number, and NaN stays."""
    cast: NDArray[np.float32] = np.clip(numbers, -_LARGEST, _LARGEST).astype(np.float32)
    return cast


class FeatureStore(Protocol):
    """What the gateway asks of a feature store."""

    @property
    def spec(self) -> FeatureSpec:
        """The inputs that it computes."""

    def observe(self, transaction: Mapping[str, Any]) -> Features:
        """The features of a transaction as of its time, and then the transaction is part of what later ones see.

        Args:
            transaction: canonical columns, `event_time` in microseconds; what is absent is missing.  Times are the
                caller's to check: an event of the far future makes all others of its keys late.
        """

    def observe_all(self, transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
        """What `observe` gives for one after another, as one step: all of them become part of the store, or none."""

    def label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        """Adds the label of a transaction, of which only the id and the keys matter.

        Args:
            transaction: canonical columns.
            is_fraud: the label.
            label_time: when it became known, in microseconds; not before the transactions that came by now.
        """

    def close(self) -> None:
        """Lets go of what the store holds open."""


class TableFeatureStore:
    """A feature store over a table.

    Args:
        table: where the state is; taken over and closed with the store.
        spec: what to compute.
        lateness_s: how much older than the newest event of its keys a transaction may be and still get exact features,
            and for how long a transaction that comes twice is recognised, in seconds.

    Raises:
        ArtifactError: the table holds the state of other features, or of another version.
        ConfigurationError: the lateness is negative, or as long as the look-back.
    """

    def __init__(self, table: Table, spec: FeatureSpec, lateness_s: int = LATENESS_S) -> None:
        if not 0 <= lateness_s < LOOK_BACK.length_s:
            raise ConfigurationError(
                f"lateness of {lateness_s} s; use at least 0 and less than the look-back, {LOOK_BACK.length_s} s"
            )
        self._table = table
        self._spec = spec
        self._lateness_us = lateness_s * SECOND_US
        by_kind = {kind: [feature for feature in spec.features if feature.key == kind] for kind in KEYS}
        # All hops for all keys: a key with windows of coarse hops alone would have to keep a whole hop's events singly.
        hops_us = {feature.window.hop_s * SECOND_US for feature in spec.features}
        self._entities = [
            Entity(kind, features, hops_us, self._lateness_us) for kind, features in by_kind.items() if features
        ]
        # Values are computed key by key, and wanted in the order of the specification.
        computed = [i.name for i in spec.row_inputs]
        computed += [feature.name for features in by_kind.values() for feature in features]
        self._numeric = [computed.index(i.name) for i in spec.numeric]
        self._categorical = [computed.index(i.name) for i in spec.categorical]
        self._check_header()

    @staticmethod
    def in_memory(spec: FeatureSpec, lateness_s: int = LATENESS_S) -> TableFeatureStore:
        """A new store that ends with its process."""
        return TableFeatureStore(MemoryTable(), spec, lateness_s)

    @staticmethod
    def embedded(path: Path, spec: FeatureSpec, lateness_s: int = LATENESS_S) -> TableFeatureStore:
        """The store in a file, made if it is not there; several processes may have it open."""
        return TableFeatureStore(SqliteTable(path), spec, lateness_s)

    @property
    def spec(self) -> FeatureSpec:
        """The inputs that it computes."""
        return self._spec

    @property
    def lateness_us(self) -> int:
        """How much older than its key's newest event a transaction may come without loss, in microseconds."""
        return self._lateness_us

    @property
    def reach_us(self) -> int:
        """How much older than the newest event another may be and still matter to one that comes, in microseconds."""
        return self._spec.reach_s * SECOND_US + self._lateness_us

    def observe(self, transaction: Mapping[str, Any]) -> Features:
        """See `FeatureStore`."""
        [features] = self.observe_all([transaction])
        return features

    def observe_all(self, transactions: Sequence[Mapping[str, Any]]) -> list[Features]:
        """See `FeatureStore`."""
        return transact(
            self._table, lambda: [drive(self._table, self._observe(transaction)) for transaction in transactions]
        )

    def label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        """See `FeatureStore`.  A label that comes twice within the allowed lateness counts once."""

        transact(self._table, lambda: self._label(transaction, is_fraud, label_time))

    def label_all(
        self,
        labels: Iterable[tuple[Mapping[str, Any], bool, int]],
        last: Place,
        began_us: int,
        clock: Callable[[], int],
    ) -> int:
        """Adds labels of a log, as one step with the note that those up to a place have come.

        What lies up to the place that is noted already is left out, so that a step may be repeated, whatever became of
        it, and steps of several processes may come at once.

        Args:
            labels: transactions, labels and label times as for `label`, in order of (label_time, transaction_id).
            last: the place up to which labels have come with them.
            began_us: when the run began that the step is of, UTC microseconds since the Unix epoch; no other has it.
            clock: tells what time it is, in the same unit.

        Returns:
            how many labels were added.

        Raises:
            ConfigurationError: no log was loaded, so that nobody knows which labels are in.
        """

        def add() -> int:
            runs = self._labelled()
            noted = last_place(runs)
            if last <= noted:
                return 0
            new = [label for label in labels if (label[2], label[0]["transaction_id"]) > noted]
            for label in new:
                self._label(*label)
            self._note(extended(runs, Labelled(last, began_us, clock())))
            return len(new)

        return transact(self._table, add)

    def labelled(self) -> list[Labelled]:
        """Which runs brought labels of logs, in order; the first is the load, and none are where there was no load."""
        return transact(self._table, self._labelled)

    def note_load(self, until_us: int) -> None:
        """Notes that the store was loaded from a log with the labels up to a time, that time included."""
        transact(self._table, lambda: self._note([loaded_until(until_us)]))

    def take(self, log: Columns, until_us: int) -> None:
        """Makes of a store without state what the past of a log leaves in it, as one step.

        It is what `observe` and `label` would have left behind, without what nobody at `until_us` or later looks at,
        and without answers.

        Args:
            log: in order of (event_time, transaction_id), with no id twice; what `is_fraud` and `label_time` say
                comes as labels.  A column that it lacks is missing.
            until_us: transactions and labels before this time come.

        Raises:
            ConfigurationError: the store holds state, to which a log cannot be added.
        """
        events = events_before(log, until_us)
        labels = labels_of(events, until_us)
        keys = sorted(
            chain.from_iterable(kind.left(events, labels, until_us) for kind in self._entities), key=itemgetter(0)
        )
        # In order of their keys, so that a file is written from its beginning to its end.
        rows = chain.from_iterable(sorted(of_key()) for _, of_key in keys)
        with self._table.transaction():
            if len(self._table.read([Range(b"", AFTER, 2)])[0]) > 1:
                raise ConfigurationError("the feature store holds state already; load the log into a new store")
            self._table.write(rows, [])

    def close(self) -> None:
        """Closes the table."""
        self._table.close()

    def _observe(self, transaction: Mapping[str, Any]) -> Plan[Features]:
        """Within a transaction of the table: reads in two turns, in a third what a new hop outdates, and writes."""
        time_us, transaction_id = transaction["event_time"], transaction["transaction_id"]
        now = {
            **transaction,
            "second_of_day": second_of_day(time_us),
            "second_of_week": second_of_week(time_us),
        }
        answer_key = ANSWER + transaction_id.encode()
        keyed = [(kind, prefix) for kind in self._entities if (prefix := kind.prefix(now)) is not None]
        sweep = [] if self._table.runs_out else [self._silent(transaction_id, time_us)]
        looks = [kind.look(prefix, now, time_us) for kind, prefix in keyed]
        (answer, forgotten), *seen_first = yield from together([self._answer(answer_key, time_us), *looks, *sweep])
        sights = seen_first[: len(looks)]
        if answer is not None:
            return self._unpack(answer)
        added = yield from together(
            [kind.add(prefix, sight, transaction_id) for (kind, prefix), sight in zip(keyed, sights, strict=True)]
        )
        seen = {kind.kind: sight for (kind, _), sight in zip(keyed, sights, strict=True)}
        values: list[Value] = [_row_input(row_input, now) for row_input in self._spec.row_inputs]
        for kind in self._entities:
            values += kind.values(seen[kind.kind]) if kind.kind in seen else kind.missing()
        features = Features(_flat(values, self._numeric), _flat(values, self._categorical))
        rows = [(answer_key, _pack(features)), (EXPIRY + time_key(time_us) + transaction_id.encode(), b"")]
        for written, outdated in added:
            rows += written
            forgotten += outdated
        forgotten += chain.from_iterable(seen_first[len(looks) :])
        self._table.write(rows, forgotten)
        return features

    def _label(self, transaction: Mapping[str, Any], is_fraud: bool, label_time: int) -> None:
        """Within a transaction of the table."""
        plans = [
            kind.add_label(prefix, transaction["transaction_id"], is_fraud, label_time)
            for kind in self._entities
            if (prefix := kind.prefix(transaction)) is not None
        ]
        added = drive(self._table, together(plans))
        self._table.write(chain.from_iterable(rows for rows, _ in added), chain.from_iterable(f for _, f in added))

    def _labelled(self) -> list[Labelled]:
        [found] = self._table.read([one(LABELLED)])
        return unpack(found[0][1]) if found else []

    def _note(self, runs: Sequence[Labelled]) -> None:
        self._table.write([(LABELLED, pack(runs))], [])

    def _check_header(self) -> None:
        """Notes what the state is of, or compares with what was noted."""
        inputs = replace(self._spec, left_out=())
        ours = encode({"format": _FORMAT, "inputs": inputs.digest})

        def check() -> None:
            [found] = self._table.read([one(HEADER)])
            stored = found[0][1] if found else None
            if stored is None:
                self._table.write([(HEADER, ours)], [])
            elif stored != ours:
                raise ArtifactError(
                    f"the feature store holds state of {stored.decode()}, and {ours.decode()} is asked for; "
                    "load a new store from the log"
                )

        transact(self._table, check)

    def _answer(self, answer_key: bytes, time_us: int) -> Plan[tuple[bytes | None, list[KeyRange]]]:
        """What a transaction was answered before, and which answers have run out."""
        run_out = EXPIRY + time_key(time_us - self._lateness_us)
        answer, expired = yield [one(answer_key), Range(EXPIRY, run_out, _EXPIRED_AT_ONCE)]
        ranges = []
        for key, _ in expired:
            outdated = ANSWER + key[len(EXPIRY) + 8 :]
            ranges += [(key, key + b"\0"), (outdated, outdated + b"\0")]
        return answer[0][1] if answer else None, ranges

    def _silent(self, transaction_id: str, time_us: int) -> Plan[list[KeyRange]]:
        """The rows of some key, where nobody will ask about it any more.

        Keys are digests, and so is the place at which each transaction looks for the next one: it comes upon all.
        """
        [rows] = yield [Range(entity("any", [transaction_id]), _BEHIND_ENTITIES, 1)]
        oldest_us = time_us - self.reach_us
        if not rows or newest_us(rows[0][1]) >= oldest_us:
            return []
        found = rows[0][0][:ENTITY_BYTES]
        heads = yield [one(found + head) for head in HEADS]
        if any(newest_us(row[1]) >= oldest_us for [row] in filter(None, heads)):
            return []
        return [(found, found + AFTER)]

    def _unpack(self, answer: bytes) -> Features:
        numbers = struct.unpack_from(f"<{self._spec.numeric_width}d", answer)
        return Features(numbers, tuple(decode(answer[8 * len(numbers) :])))


def _flat(values: Sequence[Value], places: Iterable[int]) -> tuple[Any, ...]:
    flat: list[Any] = []
    for place in places:
        value = values[place]
        flat += value if isinstance(value, list) else [value]
    return tuple(flat)


def _pack(features: Features) -> bytes:
    numbers = struct.pack(f"<{len(features.numbers)}d", *features.numbers)
    return numbers + encode(features.texts)


def _row_input(row_input: RowInput, now: Event) -> float | str:
    value = now.get(row_input.column)
    if row_input.is_text:
        return "" if value is None else str(value)
    return math.nan if value is None else float(value)
