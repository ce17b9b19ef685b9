"""What stands for a validation's input: the same while nothing changed, another once anything did."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.validate.component import pin
from headrace.validate.pin import UNKNOWN

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "examples/tiny-gpt2")


def pinned(dataset: str | Path, model: str | Path = MODEL, **arguments: object) -> str:
    (found,) = pin.python_func(dataset_name=str(dataset), model_name_or_path=str(model), arguments=arguments)
    assert isinstance(found, str)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        pq.write_table(pa.table({"text": [name]}), tmp_path / "data" / f"{name}.parquet")
    return tmp_path / "data"


def test_it_is_the_same_until_a_file_or_the_tokenizer_changes(folder: Path, tmp_path: Path) -> None:
    first = pinned(folder)
    assert len(first) == 64 and pinned(folder) == first
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    assert pinned(folder, model) == first  # it is what the files hold that counts
    settings = model / "config.json"
    settings.write_text(settings.read_text().replace('"n_positions": 256', '"n_positions": 512'))
    assert pinned(folder, model) != first
    pq.write_table(pa.table({"text": ["c"]}), folder / "b.parquet")
    changed = pinned(folder)
    assert changed != first
    (folder / "b.parquet").rename(folder / "c.parquet")
    assert pinned(folder) not in (first, changed)


def test_another_column_is_another_input(folder: Path) -> None:
    assert pinned(folder) != pinned(folder, dataset_text_field="body")


@pytest.mark.parametrize(("dataset", "model"), [("/nowhere", MODEL), ("", MODEL), (ROOT / "examples/pydocs", "/no")])
def test_what_cannot_be_looked_at_is_never_the_same_twice(dataset: str | Path, model: str) -> None:
    found = {pinned(dataset, model) for _ in range(2)}
    assert len(found) == 2 and all(line.startswith(UNKNOWN) for line in found)
