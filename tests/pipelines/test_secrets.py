"""Nothing secret gets into a package: not by the cluster file, not by an address."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from headrace.errors import InputError
from headrace_pipelines.__main__ import main
from headrace_pipelines.cluster import read_cluster

pytestmark = pytest.mark.usefixtures("alone")
SMALL = ["--dataset_name", "data", "--model_name_or_path", "gpt2"]


def write(path: Path, env: object, step: str = "") -> Path:
    """A cluster file with these variables, for all steps or for one."""
    path.write_text(yaml.safe_dump({"steps": {step: {"env": env}}} if step else {"env": env}))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING", "CLIENT_SECRET", "DB_PASSWORD",
        "PGPASSWORD", "hf_token", "COMET_APIKEY", "GPG_PASSPHRASE",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", ["", "train"])
def test_a_credential_in_env_is_refused_and_not_repeated(name: str, step: str, tmp_path: Path) -> None:
    path = write(tmp_path / "cluster.yaml", {"A": "b", name: "s3cr3t"}, step)
    with pytest.raises(InputError) as caught:
        read_cluster(path)
    said = f"{caught.value.message} {caught.value.remedy}"
    assert f"env: {name} " in said.replace("steps.train.", "") and "secrets: " in said and "s3cr3t" not in said


@pytest.mark.parametrize("value", [["s3cr3t"], {"a": "s3cr3t"}])
def test_nor_is_one_of_another_type(value: object, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_cluster(write(tmp_path / "cluster.yaml", {"HF_TOKEN": value}))
    assert "s3cr3t" not in f"{caught.value.message} {caught.value.remedy}"


def test_an_address_with_a_password_in_env_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="env: HTTPS_PROXY has an address with a password") as caught:
        read_cluster(write(tmp_path / "cluster.yaml", {"HTTPS_PROXY": "http://me:s3cr3t@proxy:3128"}))
    assert "s3cr3t" not in f"{caught.value.message} {caught.value.remedy}"


def test_paths_and_switches_are_no_credentials(tmp_path: Path) -> None:
    env = {
        "GOOGLE_APPLICATION_CREDENTIALS": "/var/secrets/gcs/key.json", "HF_TOKEN_PATH": "/var/secrets/hf/token",
        "DB_PASSWORD_FILE": "/x", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "MAX_TOKENS": "5", "HF_ENDPOINT": "https://hub.example.org", "KEYBOARD": "x", "PWD": "/x", "MONKEY": "x",
    }  # fmt: skip
    assert read_cluster(write(tmp_path / "cluster.yaml", env))["train"].env == env


@pytest.mark.parametrize(
    "flags",
    [
        ["--dataset_name", "https://user:s3cr3t@host/x.parquet", "--model_name_or_path", "gpt2"],
        [*SMALL, "--store", "gs://bucket/x?token=s3cr3t"],
        [*SMALL, "--hub_token", "s3cr3t"],
        ["--model_name_or_path", "gpt2", "--dataset_mixture",
         '[{"name": "https://user:s3cr3t@host/x.parquet", "weight": 1}, {"name": "b", "weight": 1}]'],
    ],
)  # fmt: skip
def test_an_address_with_a_credential_gets_into_no_package(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["compile", "-o", str(tmp_path / "p.yaml")], ["compile", "--check"], ["submit", "mine", "--"]):
        assert main([*command, *flags]) == 2
        said = capsys.readouterr().err
        assert said.startswith("headrace: error: ") and "s3cr3t" not in said
    assert list(tmp_path.iterdir()) == []
