"""What is loaded, and what is refused instead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from headrace.errors import InputError
from headrace.options import ModelOptions
from headrace.scoring.models import is_hub_name, load_model, require_weights
from tests.scoring.small import EXAMPLE, tiny_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "saved"
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def options(**changes: Any) -> ModelOptions:
    return ModelOptions(**changes)


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_saved_model_comes_back(folder: Path) -> None:
    model = load_model(folder, options())
    assert equal(model, tiny_model()) and not model.training


def test_random_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = load_model(EXAMPLE, options(), random_init=True, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal(one, load_model(EXAMPLE, options(), random_init=True, seed=5))
    assert not equal(one, load_model(EXAMPLE, options(), random_init=True, seed=6))


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, torch.float32), ("none", torch.float32), ("bfloat16", torch.bfloat16), ("torch.float16", torch.float16)],
)
def test_the_dtype_is_float32_unless_named(folder: Path, name: str | None, expected: torch.dtype) -> None:
    assert load_model(folder, options(torch_dtype=name)).dtype is expected
    assert load_model(folder, options(torch_dtype=name), random_init=True).dtype is expected


def test_auto_is_the_dtype_of_the_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert load_model(folder, options(torch_dtype="auto")).dtype is torch.bfloat16
    assert load_model(folder, options()).dtype is torch.float32


@pytest.mark.parametrize("name", ["int8", "float31", "Tensor"])
def test_a_dtype_that_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"--torch_dtype is '{name}'"):
        load_model(folder, options(torch_dtype=name))


def test_attention_is_as_asked(folder: Path) -> None:
    assert load_model(folder, options(attn_implementation="eager")).config._attn_implementation == "eager"
    with pytest.raises(InputError, match="quantum"):
        load_model(folder, options(attn_implementation="quantum"))


def test_a_folder_without_weights_is_refused_before_anything_is_loaded(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"has no weights: expected model\.safetensors"):
        require_weights(folder, "it")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(InputError, match=r"pytorch_model\.bin; only safetensors"):
        load_model(folder, options())


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = "transformer.h.1.mlp.c_fc.weight"
    save_file({k: v for k, v in weights.items() if k != name}, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match=rf"lack {name}"):
        load_model(folder, options())
    save_file({**weights, name: torch.zeros(2, 2)}, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match="cannot load the model"):
        load_model(folder, options())


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot load the model"):
        load_model(folder, options())


def test_a_model_of_another_kind_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="cannot load the model"):
        load_model(folder, options())


def test_names_of_the_hub_are_told_from_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert is_hub_name("gpt2") and is_hub_name("openai-community/gpt2")
    assert not any(is_hub_name(n) for n in ("runs/one", "./gpt2", "/gpt2", "gs://b/gpt2", "a/b/c"))
