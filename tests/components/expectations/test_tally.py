from collections import Counter

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.expectations import tally
from components.expectations.tally import Tally

PAIRS = st.tuples(st.sampled_from(["a", "b", "\N{SNOWMAN}", None]), st.sampled_from([1, 2, None]))


@given(st.lists(st.lists(PAIRS, max_size=9), max_size=9), st.integers(0, 9))
def test_a_tally_counts_what_a_counter_does_whenever_it_merges(batches, few):
    counted = Tally(("text", "number"))
    before, tally._FEW = tally._FEW, few
    try:
        for batch in batches:
            text, number = zip(*batch, strict=True) if batch else ((), ())
            counted.add(pa.table({"number": pa.array(number, pa.int64()), "text": pa.array(text, pa.string())}))
        found = counted.counts()
    finally:
        tally._FEW = before
    expected = Counter(pair for batch in batches for pair in batch if None not in pair)
    assert {(row.text, row.number): row.rows for row in found.itertuples()} == expected
    assert [(row.text, row.number) for row in found.itertuples()] == sorted(expected)
