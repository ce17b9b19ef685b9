"""Each bug that the order's definition warns of, planted in the source itself, and the test that catches it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = "tests/stream/test_order.py"


@dataclass(frozen=True)
class Plant:
    """A bug: in a file of the stream, code that is replaced, and the test that must fail then."""

    name: str
    file: str
    old: str
    new: str
    test: str


PLANTS = [
    Plant(
        "token offset forgotten", "lane.py", "self._at - self._starts[document], self._samples)", "0, self._samples)",
        f"{TESTS}::test_i1_any_chain_of_world_sizes_batches_and_restarts_gives_the_same_samples",
    ),
    Plant(
        "contiguous rank blocks", "order.py", "if g % lanes % world_size == rank]",
        "if (g - first) * world_size // global_batch == rank]",
        f"{TESTS}::test_i1_any_chain_of_world_sizes_batches_and_restarts_gives_the_same_samples",
    ),
    Plant(
        "g mod GB", "steps.py", "Numbered(g, lanes[g % v].next())", "Numbered(g, lanes[g % len(numbers) % v].next())",
        f"{TESTS}::test_i1_any_chain_of_world_sizes_batches_and_restarts_gives_the_same_samples",
    ),
    Plant(
        "a token lost at a window's end", "lane.py", "return _Chunk(window.encode(row, stop), after)",
        "found = window.encode(row, stop)\n"
        "        if stop == len(window.upto) and len(found.ids) > 1:\n"
        "            found = found._replace(ids=found.ids[:-1], ends=np.minimum(found.ends, len(found.ids) - 1))\n"
        "        return _Chunk(found, after)",
        f"{TESTS}::test_i2_every_token_of_every_document_once_an_epoch_and_nothing_else",
    ),
    Plant(
        "accumulation from one step only", "order.py", "for offset in range(0, lanes, gcd(global_batch, lanes)):",
        "for offset in range(1):", f"{TESTS}::test_i6_filler_exactly_where_the_definition_says",
    ),
    Plant(
        "a float cut", "order.py", "(target - int(ends[i])) * units[i].rows // units[i].size",
        "int((target - int(ends[i])) / units[i].size * units[i].rows)",
        f"{TESTS}::test_i7_cuts_are_exact_for_numbers_that_floats_do_not_hold",
    ),
    Plant(
        "a short window lost", "order.py", "    if current:\n", "    if current and rows > 1:\n",
        f"{TESTS}::test_i7_windows_hold_their_limits_and_open_few_row_groups",
    ),
    Plant(
        "a lane empty for ever", "order.py", "run = (lane + epoch + segment) % self.lanes", "run = lane",
        f"{TESTS}::test_a_lane_that_is_empty_in_one_epoch_is_not_for_ever",
    ),
    Plant(
        "a mixture with a period in g", "mixture.py",
        "(key(seed, _MIXTURE) + lane * ((1 << 64) // lanes) + number * GOLDEN)",
        "((number * lanes + lane) % sum(weights) * ((1 << 64) // sum(weights)))",
        "tests/stream/test_mixture.py::test_i8_every_lane_keeps_to_the_weights_at_every_length",
    ),
    Plant(
        "a row group opened for every window", "documents.py",
        "self._at[2] > piece.start", "self._at[2] <= piece.start",
        "tests/stream/test_documents.py::test_i7_row_groups_are_opened_once_by_each_lane_that_has_rows_of_them",
    ),
    Plant(
        "a stream that begins again at its start after a fault", "documents.py",
        "source.wanted = at", "source.wanted = 0",
        "tests/stream/test_faults.py::test_the_tokens_are_those_of_a_quiet_source",
    ),
]  # fmt: skip


def outcome(root: Path, test: str) -> int:
    """pytest's exit code for one test, with the stream that lies below a folder."""
    path = os.pathsep.join(str(root / p) for p in ("components", "pipelines"))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=1", test]
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mutated")
    for name in ("components", "pipelines", "tests", "examples", "pyproject.toml"):
        source = ROOT / name
        shutil.copytree(source, root / name) if source.is_dir() else shutil.copy(source, root / name)
    return root


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.name)
def test_a_planted_bug_fails_its_test(plant: Plant, copy: Path) -> None:
    path = copy / "components/headrace/stream" / plant.file
    sound = path.read_text()
    assert sound.count(plant.old) == 1, f"{plant.file} no longer holds what this bug replaces"
    assert outcome(copy, plant.test) == 0
    path.write_text(sound.replace(plant.old, plant.new))
    try:
        assert outcome(copy, plant.test) == 1
    finally:
        path.write_text(sound)
