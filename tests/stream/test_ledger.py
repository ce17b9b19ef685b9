"""The ledger: digests that add up over ranks, starts that take the place of earlier ones, records cut short."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.stream.digest import MASK, sample_digest, step_digest
from headrace.stream.ledger import Ledger, LedgerWriter, next_start

Samples = list[tuple[int, list[int]]]
SAMPLES = st.lists(st.tuples(st.integers(0, 1 << 40), st.lists(st.integers(0, 50_000), max_size=8)), max_size=12)


def digest(samples: Samples) -> int:
    return step_digest((g, np.array(ids, np.int32)) for g, ids in samples)


@given(SAMPLES, st.integers(1, 5), st.randoms())
def test_parts_add_up_however_the_samples_are_divided(samples: Samples, ranks: int, random: object) -> None:
    whole = digest(samples)
    random.shuffle(samples)  # type: ignore[attr-defined]
    assert sum(digest(samples[rank::ranks]) for rank in range(ranks)) & MASK == whole


def test_a_sample_is_its_number_and_its_tokens() -> None:
    ids = np.array([1, 2, 3], np.int32)
    assert sample_digest(5, ids) != sample_digest(6, ids)
    assert sample_digest(5, ids) != sample_digest(5, ids[::-1])
    # The bytes are fixed, so that a ledger can be checked on another machine.
    assert sample_digest(5, ids) == 6073778134859090306


def write(folder: Path, ranks: int, steps: range, value: int = 0) -> None:
    start = next_start(folder)
    for rank in range(ranks):
        writer = LedgerWriter(folder, start=start, rank=rank, world_size=ranks)
        for step in steps:
            writer.append(step, step * 10 + value + rank)
        writer.note({"step": steps[-1], "lanes": {str(rank): [0, 0, 0, steps[-1], 0, value]}})
        writer.flush()


def test_starts_take_the_place_of_what_they_do_again(tmp_path: Path) -> None:
    write(tmp_path, 1, range(1, 8))
    write(tmp_path, 2, range(5, 10), value=1_000)  # went on from step 4
    ledger = Ledger.read(tmp_path)
    assert [ledger.digests[s] for s in range(1, 5)] == [10, 20, 30, 40]
    assert ledger.digests[5] == 1_050 + 1_051 and sorted(ledger.digests) == list(range(1, 10))
    assert list(ledger.states) == [9] and sorted(ledger.states[9]["lanes"]) == ["0", "1"]
    assert ledger.nearest(8) is None and ledger.nearest(9) == ledger.states[9]


def test_a_step_that_a_rank_did_not_write_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, 2, range(1, 5))
    path = sorted(tmp_path.glob("*.bin"))[1]
    path.write_bytes(path.read_bytes()[:-3])  # killed while writing its last record
    ledger = Ledger.read(tmp_path)
    assert sorted(ledger.digests) == [1, 2, 3]
    assert ledger.head(3) != "" and ledger.head(4) == ""


def test_the_head_names_every_step_before(tmp_path: Path) -> None:
    write(tmp_path / "a", 1, range(1, 6))
    write(tmp_path / "b", 1, range(1, 6))
    write(tmp_path / "c", 1, range(1, 6), value=1)
    heads = [Ledger.read(tmp_path / name).head(5) for name in "abc"]
    assert heads[0] == heads[1] != heads[2] and len(heads[0]) == 64


def test_no_folder_is_an_empty_ledger(tmp_path: Path) -> None:
    ledger = Ledger.read(tmp_path / "none")
    assert ledger == Ledger({}, {}) and ledger.head(0) != "" and next_start(tmp_path / "none") == 1


@pytest.mark.parametrize("step", [1, 100])
def test_nothing_is_written_before_it_is_flushed(tmp_path: Path, step: int) -> None:
    writer = LedgerWriter(tmp_path, start=1, rank=0, world_size=1)
    writer.append(step, 1)
    assert not list(tmp_path.iterdir())
    writer.flush()
    assert Ledger.read(tmp_path).digests == {step: 1}
