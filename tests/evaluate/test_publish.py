"""Publishing: whole, verified, once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from headrace.artifacts.checkpoint import commit, fetch, read_commit
from headrace.artifacts.files import files_below, parse_json, read_json, write_json
from headrace.artifacts.storage import Store, open_store
from headrace.errors import DamagedCheckpoint, HeadraceError
from headrace.evaluate.publish import Staged, seal, stage
from headrace.evaluate.step import run
from headrace.evaluate.subject import open_subject
from tests.evaluate.conftest import STEP, options_for
from tests.evaluate.conftest import seal as reseal
from tests.scoring.small import EXAMPLE
from tests.servers.gcs import GcsServer

MODEL = {
    "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "headrace.json",
}  # fmt: skip
PAPERS = {"README.md", "metrics.json", "lineage.json", "report.html", "scores.parquet"}


def put(store: Store, scratch: Path, model: Path) -> Staged:
    sealed = seal(open_subject(options_for(model), scratch), scratch / "staging")
    return stage(store, sealed, papers=[], scratch=scratch)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """When each file was last written, and its inode: files are replaced, never rewritten."""
    return {name: ((folder / name).stat().st_mtime_ns, (folder / name).stat().st_ino) for name in files_below(folder)}


def test_a_version_is_a_model_folder_with_its_papers(model: Path, heldout: Path, tmp_path: Path) -> None:
    facts = run(options_for(model, heldout=str(heldout), publish=str(tmp_path / "models")), tmp_path / "out")
    version = facts["version"]
    folder = tmp_path / "models" / version
    assert version == f"step-{STEP}-{read_commit(folder).hash[:8]}"
    assert set(files_below(folder)) == {*MODEL, *PAPERS, "commit.json"}
    assert set(read_commit(folder).files) == MODEL
    current = read_json(tmp_path / "models" / "current.json")
    pointing = {"version": version, "commit_hash": read_commit(folder).hash, "step": STEP}
    assert {k: current[k] for k in (*pointing, "uri")} == {**pointing, "uri": str(folder)}
    (promotion,) = current["promotions"]
    assert pointing.items() <= promotion.items() and promotion["by"] == "promoted"
    assert promotion["gate"] == {"outcome": "passed", "compared": None} and promotion["eval_loss"] == facts["eval_loss"]
    AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).decode([0]) == "<|endoftext|>"
    card = ModelCard.load(folder / "README.md")
    assert card.data.eval_results[0].metric_value == facts["eval_loss"]
    assert f"{facts['eval_loss']:.4f}" in card.text and facts["commit_hash"] in card.text


def test_a_model_without_a_generation_config_gets_the_one_it_implies(
    model: Path, heldout: Path, tmp_path: Path
) -> None:
    for name in ("generation_config.json", "commit.json", "checkpoint.json"):
        (model / name).unlink()
    given = {"heldout": str(heldout), "publish": str(tmp_path / "models")}
    facts = run(options_for(model, **given), tmp_path / "out")
    folder = tmp_path / "models" / facts["version"]
    assert set(read_commit(folder).files) == MODEL
    implied = GenerationConfig.from_pretrained(folder)
    assert implied.eos_token_id == read_json(model / "config.json")["eos_token_id"]
    run(options_for(model, **given), tmp_path / "again")
    assert len(read_json(tmp_path / "models" / "current.json")["promotions"]) == 1


def test_publishing_again_writes_nothing(
    model: Path, heldout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = options_for(model, heldout=str(heldout), publish=str(tmp_path / "models"))
    run(options, tmp_path / "out")
    before = state(tmp_path / "models")
    run(options, tmp_path / "again")
    assert state(tmp_path / "models") == before
    assert "was there already" in capsys.readouterr().out


def test_another_evaluation_replaces_the_papers_only(model: Path, heldout: Path, tmp_path: Path) -> None:
    given = {"heldout": str(heldout), "publish": str(tmp_path / "models")}
    run(options_for(model, **given), tmp_path / "out")
    before = state(tmp_path / "models")
    facts = run(options_for(model, **given, max_eval_samples=3), tmp_path / "again")
    after = state(tmp_path / "models")
    changed = {Path(name).name for name in after if after[name] != before.get(name)}
    assert changed == PAPERS
    folder = tmp_path / "models" / facts["version"]
    assert read_json(folder / "metrics.json")["documents"] == 3
    fetch(str(folder), tmp_path / "scratch")


def test_what_was_left_half_done_is_finished(tmp_path: Path, model: Path) -> None:
    store = open_store(str(tmp_path / "models"))
    there = Path(put(store, tmp_path / "a", model).uri)
    for scratch, spoil in (("b", "config.json"), ("c", "commit.json")):
        (there / spoil).unlink()
        (there / "commit.json").unlink(missing_ok=True)
        done = put(store, tmp_path / scratch, model)
        assert done.uri == str(there) and set(done.written) >= {f"{there.name}/{name}" for name in MODEL}
        fetch(done.uri, tmp_path / "scratch")
    (there / "commit.json").write_text("{}")  # cut off: it vouches for nothing
    fetch(put(store, tmp_path / "d", model).uri, tmp_path / "scratch")
    (there / "config.json").write_text("{}")
    with pytest.raises(DamagedCheckpoint, match=r"config\.json"):
        fetch(done.uri, tmp_path / "scratch")


def test_a_published_version_scored_in_its_turn_is_the_same_version(model: Path, heldout: Path, tmp_path: Path) -> None:
    given = {"heldout": str(heldout), "publish": str(tmp_path / "models")}
    first = run(options_for(model, **given), tmp_path / "one")
    before = state(tmp_path / "models")
    again = run(options_for(first["published"], **given), tmp_path / "two")
    assert (again["eval_loss"], again["step"], again["version"]) == (first["eval_loss"], STEP, first["version"])
    assert state(tmp_path / "models") == before
    one, two = (read_json(tmp_path / name / "lineage.json") for name in ("one", "two"))
    for name in ("plan_hash", "dataset", "choice", "parent", "training", "world_size"):
        assert one[name] and two[name] == one[name]
    assert read_json(tmp_path / "two" / "metrics.json")["block"] == 24  # as trained


def test_a_published_record_has_no_secrets(model: Path, heldout: Path, tmp_path: Path) -> None:
    record = read_json(model / "headrace.json")
    secret = "https://me:pw@h/a.parquet?sig=pw"
    record["dataset"]["name"] = record["parent"]["model"] = secret
    record["heldout"]["sources"] = {f"{secret}/a.parquet": 1, "org/books/a.parquet": 0}
    write_json(model / "headrace.json", record)
    reseal(model)
    facts = run(options_for(model, heldout=str(heldout), publish=str(tmp_path / "models")), tmp_path / "out")
    published = Path(facts["published"])
    assert not [path.name for path in published.iterdir() if b"pw" in path.read_bytes() and path.suffix == ".json"]
    kept = read_json(published / "headrace.json")
    assert kept["dataset"]["name"] == "https://h/a.parquet"
    assert kept["heldout"]["sources"] == {"org/books/a.parquet": 0} and kept["samples"] == record["samples"]


def test_another_tokenizer_makes_another_version_and_the_first_one_stays(
    model: Path, heldout: Path, tmp_path: Path
) -> None:
    given = {"heldout": str(heldout), "publish": str(tmp_path / "models"), "gate": "warn"}
    first = run(options_for(model, **given), tmp_path / "one")
    before = state(Path(first["published"]))
    other = tmp_path / "other"
    other.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(model / name, other / name)
    config = read_json(other / "tokenizer_config.json")
    write_json(other / "tokenizer_config.json", {**config, "model_max_length": 64})
    second = run(options_for(model, **given, tokenizer=str(other)), tmp_path / "two")
    assert second["version"] != first["version"] and state(Path(first["published"])) == before
    promotions = read_json(tmp_path / "models" / "current.json")["promotions"]
    assert [p["version"] for p in promotions] == [first["version"], second["version"]]


def test_what_has_the_name_of_a_version_is_not_overwritten(model: Path, heldout: Path, tmp_path: Path) -> None:
    given = {"heldout": str(heldout), "publish": str(tmp_path / "models")}
    first = run(options_for(model, **given), tmp_path / "one")
    folder = Path(first["published"])
    (folder / "commit.json").unlink()
    record = commit(folder, step=1, plan_hash="another")
    with pytest.raises(HeadraceError, match="is another model"):
        run(options_for(model, **given, gate="off"), tmp_path / "two")
    assert read_commit(folder).hash == record.hash


def test_the_tokenizer_that_was_named_is_published(model: Path, heldout: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "commit.json", "checkpoint.json"):
        (model / name).unlink()
    facts = run(options_for(model, heldout=str(heldout), tokenizer=str(EXAMPLE)), tmp_path / "out")
    published = Path(facts["published"])
    assert (published / "tokenizer.json").read_bytes() == (EXAMPLE / "tokenizer.json").read_bytes()
    config = read_json(published / "config.json")
    assert config["vocab_size"] == 4096


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    with GcsServer() as running:
        running.create_bucket("models")
        yield running


def test_from_a_bucket_to_a_bucket(
    server: GcsServer, model: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in server.env().items():
        monkeypatch.setenv(key, value)
    trained, published = (open_store(f"gs://models/{name}") for name in ("run", "published"))
    trained.upload_folder(model)
    options = options_for(trained.uri, heldout=str(heldout), publish=published.uri)
    facts = run(options, tmp_path / "out")
    assert facts["published"] == f"gs://models/published/{facts['version']}"
    there = published.child(facts["version"])
    assert set(there.names()) == {*MODEL, *PAPERS, "commit.json"}
    assert parse_json(published.read("current.json"), "current.json")["uri"] == there.uri
    fetched = fetch(there.uri, tmp_path / "scratch").folder
    assert (fetched / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()

    generations = {b.name: b.generation for b in server.client().list_blobs("models")}
    run(options, tmp_path / "again")
    assert {b.name: b.generation for b in server.client().list_blobs("models")} == generations


def test_a_bucket_that_is_not_there_is_refused_first(
    server: GcsServer, model: Path, heldout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in server.env().items():
        monkeypatch.setenv(key, value)
    with pytest.raises(Exception, match="no bucket 'elsewhere'"):
        run(options_for(model, heldout=str(heldout), publish="gs://elsewhere/x"), tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_models_that_lie_behind_links_are_copied(model: Path, tmp_path: Path) -> None:
    """The Hub's cache holds links."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in MODEL:
        (linked / name).symlink_to(model / name)
    there = Path(put(open_store(str(tmp_path / "models")), tmp_path / "scratch", linked).uri)
    assert {path.name for path in there.iterdir()} >= MODEL
    assert there.name.startswith("model-") and not any(path.is_symlink() for path in there.iterdir())
