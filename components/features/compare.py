"""Comparing two tables of features: which rows are in one only, and how far each feature is apart at most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.features.engine import Floats, Mask
from schemas.errors import ArtifactError

RELATIVE = 1e-9
ABSOLUTE = 1e-12


@dataclass(frozen=True)
class Difference:
    """How one feature differs between two tables.

    Attributes:
        largest: the largest absolute difference of two numbers that are there in both tables; 0 for text.
        disagreements: rows in which the values are not equal by the feature's measure.
        example: transaction id of the first table's first such row, None without one.
    """

    largest: float
    disagreements: int
    example: str | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        rows: transactions that are in both tables.
        only_first: transactions that the second table lacks.
        only_second: transactions that the first table lacks.
        columns_only_in_one: columns, with their type, that the other table lacks or has with another type.
        features: the difference of each column that both have, by name.
    """

    rows: int
    only_first: int
    only_second: int
    columns_only_in_one: tuple[str, ...]
    features: dict[str, Difference]

    @property
    def agree(self) -> bool:
        """Whether both hold the same transactions, at least one, with the same columns and equal values."""
        unmatched = self.only_first or self.only_second or self.columns_only_in_one
        return self.rows > 0 and not unmatched and not any(f.disagreements for f in self.features.values())


def compare(first: pa.Table, second: pa.Table) -> Comparison:
    """Compares two tables of features by `transaction_id`, in any order of rows.

    Numbers agree within 1e-9 relative or 1e-12 absolute; a column in which both tables hold nothing but whole numbers
    has to agree exactly, and so has everything that is not a number.  Missing agrees only with missing.

    Raises:
        ArtifactError: a table has no `transaction_id`, or one twice.
    """
    for table, which in ((first, "first"), (second, "second")):
        _check_ids(table, which)
    place = pc.index_in(first["transaction_id"], value_set=second["transaction_id"])
    matched_first = first.combine_chunks().filter(pc.is_valid(place))
    matched_second = second.combine_chunks().take(pc.drop_null(place))
    ids = matched_first["transaction_id"]
    fields = {field.name: _described(field) for field in first.schema}
    other_fields = {field.name: _described(field) for field in second.schema}
    return Comparison(
        rows=len(ids),
        only_first=first.num_rows - len(ids),
        only_second=second.num_rows - len(ids),
        columns_only_in_one=tuple(sorted(set(fields.values()) ^ set(other_fields.values()))),
        features={
            name: _difference(matched_first[name], matched_second[name], ids)
            for name, described in fields.items()
            if name != "transaction_id" and described == other_fields.get(name)
        },
    )


def _check_ids(table: pa.Table, which: str) -> None:
    if "transaction_id" not in table.column_names:
        raise ArtifactError(f"the {which} table has no column transaction_id but {table.column_names}; give features")
    ids = table["transaction_id"]
    if len(ids) > pc.count_distinct(ids, mode="all").as_py():
        repeated = next(count["values"] for count in pc.value_counts(ids).to_pylist() if count["counts"] > 1)
        raise ArtifactError(f"the {which} table has transaction {repeated!r} more than once; ids must be unique")


def _described(field: pa.Field) -> str:
    """Name and type; Parquet renames the values of a list, which is no difference."""
    if pa.types.is_fixed_size_list(field.type):
        return f"{field.name} ({field.type.value_type}[{field.type.list_size}])"
    return f"{field.name} ({field.type})"


def _difference(first: pa.ChunkedArray, second: pa.ChunkedArray, ids: pa.ChunkedArray) -> Difference:
    width = 1
    if pa.types.is_fixed_size_list(first.type):
        width = first.type.list_size
        first, second = pc.list_flatten(first), pc.list_flatten(second)
    if pa.types.is_floating(first.type):
        largest, differs = numbers_differ(first.to_numpy().astype(np.float64), second.to_numpy().astype(np.float64))
    else:
        unequal = pc.fill_null(pc.not_equal(first, second), False)
        differs = pc.or_(unequal, pc.xor(pc.is_null(first), pc.is_null(second))).to_numpy()
        largest = 0.0
    rows = np.flatnonzero(differs.reshape(-1, width).any(axis=1))
    return Difference(largest, rows.size, ids[int(rows[0])].as_py() if rows.size else None)


def numbers_differ(first: Floats, second: Floats) -> tuple[float, Mask]:
    """The largest difference of two numbers that are both there, and in which places they are not equal by the measure.

    The measure is that of `compare`; both arrays are one column, NaN is missing.
    """
    missing = np.isnan(first), np.isnan(second)
    there = ~(missing[0] | missing[1])
    apart = np.zeros(first.size)
    # Equal infinities are not apart, but their difference is NaN.
    np.subtract(first, second, out=apart, where=there & (first != second))
    apart = np.abs(apart)
    if all((values[there] == np.floor(values[there])).all() for values in (first, second)):
        beyond = apart > 0
    else:
        allowed = np.maximum(ABSOLUTE, RELATIVE * np.maximum(np.abs(first), np.abs(second)))
        beyond = (apart > allowed) | np.isinf(apart)
    return float(apart.max(initial=0.0)), beyond & there | (missing[0] != missing[1])
