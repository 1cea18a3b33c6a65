"""What the curated schema would have to say for other data to pass, and which of those data no schema may let pass.

A domain may get values and a bound may be moved, as far as the declaration allows it: what holds by definition (a cap,
a share, half the Earth's circumference) is no opinion of a schema.  Everything else that TFDV finds is a fault.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import text_encoding
from tensorflow_metadata.proto.v0 import schema_pb2

from components.schema import parse_schema
from schemas.errors import ArtifactError
from schemas.features import EARTH_RADIUS_KM, Feature, FeatureSpec, RowInput
from schemas.transaction import WEEK_S


def possible_range(declaration: RowInput | Feature) -> tuple[float, float]:
    """The least and the largest value that a declared number can have, on any source; both are reached."""
    if isinstance(declaration, RowInput):
        return 0.0, WEEK_S - 1.0 if declaration.name == "second_of_week" else math.inf
    if declaration.cap is not None:
        return 0.0, float(declaration.cap)
    if declaration.aggregate in ("first_seen", "fraud_rate"):
        return 0.0, 1.0
    if "seconds" in declaration.aggregate:
        return 0.0, float(declaration.window.length_s + declaration.window.hop_s)
    return 0.0, math.pi * EARTH_RADIUS_KM if "distance" in declaration.aggregate else math.inf


@dataclass(frozen=True)
class NewValue:
    """A text that the domain of a feature lacks.

    Attributes:
        feature: the first input that has it; others may share the domain.
        domain: the domain's name.
        value: the text.
        rows: how many rows hold it there.
    """

    feature: str
    domain: str
    value: str
    rows: int
    kind: ClassVar[str] = "value"

    @property
    def wish(self) -> str:
        return f"{self.value!r} in domain {self.domain}"


@dataclass(frozen=True)
class WiderBound:
    """A bound of a feature that values lie beyond.

    Attributes:
        bound: which of the two it is.
        curated: where it stands.
        needed: where it would have to be: the outermost of the values, a float32.
        rows: how many rows have a value beyond the curated one.
    """

    feature: str
    bound: Literal["min", "max"]
    curated: float
    needed: float
    rows: int
    kind: ClassVar[str] = "bound"

    @property
    def wish(self) -> str:
        return f"{self.bound} {np.float32(self.needed)!s} instead of {np.float32(self.curated)!s}"


Change = NewValue | WiderBound


@dataclass
class Survey:
    """Gathers, batch by batch, what features hold that their schema does not allow.

    Attributes:
        schema: of the features.
        spec: their declaration.
    """

    schema: schema_pb2.Schema
    spec: FeatureSpec
    rows: int = 0
    _texts: dict[str, Counter[str]] = field(default_factory=dict)
    _bounds: dict[tuple[str, str], WiderBound] = field(default_factory=dict)

    def add(self, features: pa.Table) -> None:
        """Looks at some rows: columns named as the spec's inputs, float32, text, or fixed-size lists of either."""
        self.rows += features.num_rows
        domains = {domain.name: pa.array(domain.value, pa.string()) for domain in self.schema.string_domain}
        curated = {feature.name: feature for feature in self.schema.feature}
        for declaration in self.spec.inputs:
            feature, column = curated[declaration.name], features[declaration.name].combine_chunks()
            if declaration.is_text and feature.domain in domains:
                self._add_text(feature, column, domains[feature.domain])
            elif not declaration.is_text:
                self._add_numbers(feature, column, possible_range(declaration))

    def changes(self) -> tuple[Change, ...]:
        """What the schema would have to allow: values by domain and text, then bounds in the order of inputs."""
        domain_of = {feature.name: feature.domain for feature in self.schema.feature}
        values: dict[tuple[str, str], NewValue] = {}
        for name, counts in self._texts.items():
            for value, rows in counts.items():
                values.setdefault((domain_of[name], value), NewValue(name, domain_of[name], value, rows))
        order = {declaration.name: number for number, declaration in enumerate(self.spec.inputs)}
        bounds = sorted(self._bounds.values(), key=lambda change: (order[change.feature], change.bound))
        return *(values[key] for key in sorted(values)), *bounds

    def _add_text(self, feature: schema_pb2.Feature, column: pa.Array, domain: pa.Array) -> None:
        flat, row = _flat(column)
        strange = np.flatnonzero(~pc.is_in(flat, domain).to_numpy(zero_copy_only=False))
        if len(strange):
            # A vector may hold one value more than once; its row counts once.
            held = set(zip(row[strange].tolist(), flat.take(pa.array(strange)).to_pylist(), strict=True))
            self._texts.setdefault(feature.name, Counter()).update(value for _, value in held)

    def _add_numbers(self, feature: schema_pb2.Feature, column: pa.Array, possible: tuple[float, float]) -> None:
        flat, row = _flat(column)
        values = flat.to_numpy(zero_copy_only=False).astype(np.float64)
        domain, (least, largest) = feature.float_domain, possible
        # What is impossible stays a fault; a float32 may lie a hair beyond the exact end.
        inside = np.isfinite(values) & (values >= np.float32(least)) & (values <= np.float32(largest))
        beyond_bounds: dict[Literal["min", "max"], np.ndarray] = {
            "min": inside & (values < domain.min) & domain.HasField("min"),
            "max": inside & (values > domain.max) & domain.HasField("max"),
        }
        for bound, beyond in beyond_bounds.items():
            if beyond.any():
                needed = float(values[beyond].min() if bound == "min" else values[beyond].max())
                found = WiderBound(feature.name, bound, getattr(domain, bound), needed, len(np.unique(row[beyond])))
                self._bounds[feature.name, bound] = _joined(self._bounds.get((feature.name, bound)), found)


def _flat(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The values of a column one by one, and the row of each."""
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 1
    flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    return flat, np.arange(len(flat)) // width


def _joined(before: WiderBound | None, found: WiderBound) -> WiderBound:
    if before is None:
        return found
    outermost = min if found.bound == "min" else max
    return replace(found, needed=outermost(before.needed, found.needed), rows=before.rows + found.rows)


def updated_text(curated: str, changes: Iterable[Change]) -> str:
    """The text of the curated schema with the changes made in it, and nothing else touched, comments included.

    Args:
        curated: a schema in text form whose blocks end with a brace at the beginning of a line, whose domains have one
            value a line, and whose features hold their bounds in `float_domain` on one line.

    Raises:
        ArtifactError: the text is not of this form, so that a change found no place.
    """
    changes = tuple(changes)
    values: dict[str, list[str]] = {}
    text = curated
    for change in changes:
        if isinstance(change, NewValue):
            values.setdefault(change.domain, []).append(change.value)
        else:
            text = _in_block(text, "feature", change.feature, partial(_with_bound, change=change))
    for domain, new in values.items():
        text = _in_block(text, "string_domain", domain, partial(_with_values, values=new))
    wanted, found = parse_schema(curated), parse_schema(text)
    _make(wanted, changes)
    for schema in (wanted, found):
        for texts in schema.string_domain:
            texts.value.sort()
    if found != wanted:
        raise ArtifactError(
            "the curated schema's text is not in the form in which it is edited: one value of a domain a line, bounds "
            "in float_domain on one line, blocks that end with a brace at the beginning of a line; write it so"
        )
    return text


def text_diff(curated: str, proposed: str, name: str) -> str:
    """The unified diff of two texts of the file `name`; empty where they are equal."""
    lines = difflib.unified_diff(
        curated.splitlines(keepends=True), proposed.splitlines(keepends=True), name, f"{name} (proposed)", n=2
    )
    return "".join(lines)


def _make(schema: schema_pb2.Schema, changes: Iterable[Change]) -> None:
    features = {feature.name: feature for feature in schema.feature}
    domains = {domain.name: domain for domain in schema.string_domain}
    for change in changes:
        if isinstance(change, NewValue):
            domains[change.domain].value.append(change.value)
        else:
            setattr(features[change.feature].float_domain, change.bound, change.needed)


def _in_block(text: str, kind: str, name: str, edit: Callable[[str], str]) -> str:
    named = re.compile(rf'^  name: "{re.escape(name)}"$', re.MULTILINE)
    for block in re.finditer(rf"^{kind} \{{\n.*?^\}}", text, re.MULTILINE | re.DOTALL):
        if named.search(block[0]):
            return text[: block.start()] + edit(block[0]) + text[block.end() :]
    return text


def _with_values(block: str, values: Iterable[str]) -> str:
    # The escaping takes text too, and leaves letters as they are.
    new = deque(sorted(f'  value: "{text_encoding.CEscape(value, as_utf8=True)}"' for value in values))  # type: ignore[arg-type]
    lines: list[str] = []
    for line in block.split("\n"):
        while new and (line == "}" or (line.startswith("  value: ") and line > new[0])):
            lines.append(new.popleft())
        lines.append(line)
    return "\n".join(lines)


def _with_bound(block: str, change: WiderBound) -> str:
    needed = f"{change.bound}: {np.float32(change.needed)!s}"
    return re.sub(rf"(?<=float_domain \{{)(.*?)\b{change.bound}: [^ }}]+", lambda m: m[1] + needed, block, count=1)
