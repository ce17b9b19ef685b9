"""What runs here: the digest of what is installed is that of the lock it was installed from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import headrace
from headrace.artifacts.provenance import git_commit, hardware, lock_digest, software

ROOT = Path(__file__).parents[2]


def test_the_digest_is_of_names_and_versions_alone() -> None:
    one = lock_digest(["# made", "Ruamel.Yaml==1.0  # via x", "torch==2.13.0+cpu", "pip==26", "", "headrace==1"])
    assert (
        one == lock_digest(["torch==2.13.0", "ruamel-yaml==1.0"]) != lock_digest(["torch==2.13.1", "ruamel-yaml==1.0"])
    )


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="only .venv is known to come from the lock")
def test_what_is_installed_is_what_the_lock_pins() -> None:
    lock = (ROOT / "docker" / "locks" / "dev-cpu.txt").read_text().splitlines()
    assert software()["lock_sha256"] == lock_digest(lock)


def test_image_and_code_are_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_IMAGE", "registry/x@sha256:abc")
    monkeypatch.setenv("HEADRACE_REVISION", "0123abcd")
    found = software()
    assert (found["image"], found["git_commit"]) == ("registry/x@sha256:abc", "0123abcd")
    assert found["packages"]["torch"] and found["packages"]["python"]


def test_the_commit_is_that_of_the_repository_that_tracks_the_code_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADRACE_REVISION", raising=False)
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a hook's would lead git elsewhere
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    code = tmp_path / "headrace" / "__init__.py"
    code.parent.mkdir()
    code.touch()
    monkeypatch.setattr(headrace, "__file__", str(code))

    def git(*words: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert git_commit() is None  # no repository
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "another's")
    assert git_commit() is None  # a repository that does not track it, as around an environment
    git("add", ".")
    git("commit", "-q", "-m", "ours")
    head = git("rev-parse", "HEAD")
    assert git_commit() == head and len(head) == 40
    git("commit", "-q", "--allow-empty", "-m", "later")
    assert git_commit() == git("rev-parse", "HEAD") != head


def test_the_machine_is_told_in_strict_json() -> None:
    found = hardware("a card")
    assert found["accelerator"] == "a card" and hardware()["accelerator"] is None
    assert found["cores"] >= 1 and found["memory_bytes"] > 1 << 28
    json.dumps(found, allow_nan=False)
