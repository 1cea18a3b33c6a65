"""What the preprocessing function learns from the training rows: moments of its numbers and vocabularies of its texts.

TFT's own analyzers (`tft.mean`, `tft.vocabulary`, ...) would do, but each takes a dozen of Beam's transforms, and
planning those of ninety features takes longer than all that they compute of a million rows.  Here is one analyzer for
all numbers, and one for all texts.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

# A table cannot be read from a file without lines; no log has this word.
_NO_WORD = b"\x1fno word"
# A vocabulary has a word per line.
_LINE_ENDS = (b"\n", b"\r")

Moments = npt.NDArray[np.float64]
Counters = tuple[Counter[bytes], ...]


def moments(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and population deviation, float64 `[N]`, of each number over the analysed rows that have it.

    Without such rows they are 0 and 1e-6, and no deviation is smaller.

    Args:
        numbers: float32 `[batch, N]`, NaN where one is missing.
    """
    [sums] = tft.experimental.ptransform_analyzer([numbers], _Moments(), [tf.float64], [[3, numbers.shape[1]]])
    count = tf.maximum(sums[0], 1.0)
    mean = sums[1] / count
    return mean, tf.sqrt(tf.maximum(sums[2] / count - tf.square(mean), 1e-12))


def vocabularies(texts: Mapping[str, tf.Tensor], words: int) -> dict[str, tf.Tensor]:
    """By name the file of the words of each text, the most frequent first; of equally frequent ones the greatest.

    As in TFT's own vocabularies, "" and words with a line end are left out.

    Args:
        texts: `[batch]` or `[batch, k]` by the name that the file is to have.
        words: how many a vocabulary has at most.
    """
    files = tft.experimental.ptransform_analyzer(
        list(texts.values()),
        _Vocabularies(tuple(texts), words),
        [tf.string] * len(texts),
        [[]] * len(texts),
        output_asset_default_values=[_NO_WORD] * len(texts),
    )
    return dict(zip(texts, files, strict=True))


class _Moments(beam.PTransform):
    """Counts, sums and sums of squares float64 `[3, N]` of all batches."""

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        return batches | "Of batches" >> beam.Map(_moments_of) | "Add" >> beam.CombineGlobally(sum)


def _moments_of(batch: tuple[np.ndarray]) -> Moments:
    [numbers] = batch
    present = ~np.isnan(numbers)
    # Sums in float64: millions of float32 terms would lose the mean's last digits.
    filled = np.where(present, numbers, 0).astype(np.float64)
    return np.stack([present.sum(axis=0), filled.sum(axis=0), np.square(filled).sum(axis=0)])


class _Vocabularies(tft_beam.experimental.PTransformAnalyzer):
    """Counts the words of all batches, and gives the name of each file that it has written."""

    def __init__(self, names: tuple[str, ...], words: int) -> None:
        super().__init__()
        self._names = names
        self._words = words

    def expand(self, batches: beam.PCollection) -> tuple[beam.PCollection, ...]:
        files = (
            batches
            | "Of batches" >> beam.Map(_words_of)
            | "Add" >> beam.CombineGlobally(_added, len(self._names))
            | "Write" >> beam.FlatMap(_write, self._names, self._words, self.base_temp_dir).with_outputs(*self._names)
        )
        return tuple(files[name] for name in self._names)


def _words_of(batch: tuple[np.ndarray, ...]) -> Counters:
    counted = (pa.array(text.reshape(-1), pa.binary()).value_counts() for text in batch)
    return tuple(
        Counter(dict(zip(pairs.field(0).to_pylist(), pairs.field(1).to_pylist(), strict=True))) for pairs in counted
    )


def _added(parts: Iterable[Counters], texts: int) -> Counters:
    total: Counters = tuple(Counter() for _ in range(texts))
    for part in parts:
        for counter, further in zip(total, part, strict=True):
            counter.update(further)
    return total


def _write(counters: Counters, names: tuple[str, ...], words: int, folder: str) -> Iterator[beam.pvalue.TaggedOutput]:
    tf.io.gfile.makedirs(folder)
    for name, counter in zip(names, counters, strict=True):
        file = os.path.join(folder, name)
        with tf.io.gfile.GFile(file, "wb") as vocabulary:
            vocabulary.write(b"\n".join(_most_frequent(counter, words) or [_NO_WORD]) + b"\n")
        yield beam.pvalue.TaggedOutput(name, np.array(file.encode(), object))


def _most_frequent(counter: Mapping[bytes, int], words: int) -> list[bytes]:
    kept = [word for word in counter if word and not any(end in word for end in _LINE_ENDS)]
    return sorted(kept, key=lambda word: (counter[word], word), reverse=True)[:words]
