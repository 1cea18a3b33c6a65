import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from schemas.errors import ArtifactError
from schemas.transaction import SECOND_US
from serving.features import Features, SqliteTable, TableFeatureStore
from serving.features.table import one
from tests.serving.features.writer import COUNTED, payment

ROOT = Path(__file__).parents[3]


def start(path: Path, writer: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.serving.features.writer", path, writer, count]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def seen(store: TableFeatureStore) -> Features:
    """What a payment sees that comes after all others."""
    return store.observe(payment("reader", 0) | {"event_time": SECOND_US})


def test_a_killed_process_leaves_every_acknowledged_payment_and_no_half_one(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    path = tmp_path / "store.sqlite"
    for round_, last in enumerate((0, 7, 40)):
        process = start(path, f"w{round_}", 1_000_000)
        assert process.stdout is not None
        for line in process.stdout:
            acknowledged.add(f"w{round_}-{line.strip()}")
            if int(line) >= last:
                process.kill()
                break
        # What it said before it died counts as well.
        acknowledged |= {f"w{round_}-{line.strip()}" for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()

    store = TableFeatureStore.embedded(path, COUNTED)
    count, total, ips, unseen, *others = seen(store).numbers
    assert count >= len(acknowledged)
    # One payment of each life may have been written and not acknowledged any more.
    assert count <= len(acknowledged) + 3
    assert {total, ips, *others} == {count}
    assert unseen == 1
    # A payment that was acknowledged is known, so that feeding it again changes nothing.
    for transaction_id in acknowledged:
        writer, number = transaction_id.split("-")
        store.observe(payment(writer, int(number)))
    later = store.observe(payment("reader", 1) | {"event_time": 2 * SECOND_US})
    assert later.numbers[0] == count + 1
    store.close()


def test_two_processes_that_update_one_card_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    writers = [start(path, name, 150) for name in ("a", "b")]
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    store = TableFeatureStore.embedded(path, COUNTED)
    assert seen(store).numbers == (300, 300, 300, 1, 300, 300, 300)
    store.close()


def test_threads_take_turns(tmp_path: Path) -> None:
    store = TableFeatureStore.embedded(tmp_path / "store.sqlite", COUNTED)
    threads = [
        threading.Thread(target=lambda name: [store.observe(payment(name, n)) for n in range(50)], args=(name,))
        for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen(store).numbers[0] == 150
    store.close()


def test_an_error_in_a_transaction_undoes_it(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "store.sqlite")
    with pytest.raises(RuntimeError), table.transaction():
        table.write([(b"k", b"v")], [])
        raise RuntimeError
    with table.transaction():
        assert table.read([one(b"k")]) == [[]]
    table.close()


def test_a_payment_that_cannot_be_read_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = TableFeatureStore.embedded(tmp_path / "store.sqlite", COUNTED)
    with pytest.raises((TypeError, ValueError)):
        store.observe(payment("a", 0) | {"amount_base_minor": "much"})
    count, total, *_ = seen(store).numbers
    assert count == 0
    assert math.isnan(total)
    store.close()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_text("not a database, but a text that is long enough to be taken for the head of one " * 20)
    with pytest.raises(ArtifactError, match=r"store\.sqlite"):
        TableFeatureStore.embedded(path, COUNTED)
