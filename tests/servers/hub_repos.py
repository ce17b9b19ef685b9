"""Repositories as the Hub keeps them: folders whose every commit stays readable, named by commit, branch or tag.

ROOT/{models,datasets}/ORG/NAME/**            what `main` holds; may be edited in place
ROOT/history/{models,datasets}/ORG/NAME/SHA/**  earlier commits
ROOT/history/{models,datasets}/ORG/NAME/tags.json
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS = ("models", "datasets")
# The Hub keeps these, and whatever is large, in LFS: another etag, and a redirect to its CDN.
_LFS_SUFFIXES = {".parquet", ".safetensors", ".bin", ".pt", ".gz", ".zst", ".arrow"}
_LFS_BYTES = 10 << 20

Files = Path | Mapping[str, Path | bytes | str]


class NoSuchRepo(LookupError):
    pass


class NoSuchRevision(LookupError):
    pass


@dataclass(frozen=True)
class File:
    """One file of a commit. blob: its git id; sha256: of its content."""

    path: str
    local: Path
    size: int
    blob: str
    sha256: str
    modified_ns: int

    def unchanged(self) -> bool:
        """Whether its bytes on disk are still those that were hashed."""
        try:
            stat = self.local.stat()
        except FileNotFoundError:
            return False
        return (stat.st_mtime_ns, stat.st_size) == (self.modified_ns, self.size)

    @property
    def lfs(self) -> bool:
        return self.local.suffix in _LFS_SUFFIXES or self.size > _LFS_BYTES

    @property
    def etag(self) -> str:
        return f'"{self.sha256 if self.lfs else self.blob}"'


@dataclass(frozen=True)
class Commit:
    """One state of a repository. files: by path, ascending."""

    sha: str
    files: Mapping[str, File]

    def folders(self) -> list[str]:
        """The paths of all folders in it, ascending; the root is not among them."""
        return sorted({str(p) for path in self.files for p in Path(path).parents} - {"."})


@functools.cache
def _hashes(path: Path, modified_ns: int, size: int, inode: int) -> tuple[str, str]:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), hashlib.sha256(data).hexdigest()


def read_commit(folder: Path) -> Commit:
    """What a folder holds now, as a commit named by its content."""
    files = {}
    for local in sorted(p for p in folder.rglob("*") if p.is_file()):
        stat = local.stat()
        blob, sha256 = _hashes(local, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        path = local.relative_to(folder).as_posix()
        files[path] = File(path, local, stat.st_size, blob, sha256, stat.st_mtime_ns)
    names = "".join(f"{f.path}\0{f.blob}\n" for f in files.values())
    return Commit(hashlib.sha1(names.encode()).hexdigest(), files)


def _folder(root: Path, kind: str, repo_id: str) -> Path:
    owner, _, name = repo_id.partition("/")
    if kind not in KINDS or not name or "/" in name or {owner, name} & {"", ".", ".."}:
        raise NoSuchRepo(repo_id)
    return root / kind / owner / name


def _history(root: Path, kind: str, repo_id: str) -> Path:
    return root / "history" / kind / repo_id


def repo_ids(root: Path, kind: str) -> list[str]:
    """The names of all repositories of a kind, ascending."""
    return sorted(p.relative_to(root / kind).as_posix() for p in (root / kind).glob("*/*") if p.is_dir())


def tags(root: Path, kind: str, repo_id: str) -> dict[str, str]:
    """The commit of every tag."""
    file = _history(root, kind, repo_id) / "tags.json"
    named: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return named


def find_commit(root: Path, kind: str, repo_id: str, revision: str = "main") -> Commit:
    """The commit that a branch, tag or full commit id names; NoSuchRepo or NoSuchRevision."""
    folder = _folder(root, kind, repo_id)
    if not folder.is_dir():
        raise NoSuchRepo(repo_id)
    sha = tags(root, kind, repo_id).get(revision, revision)
    now = read_commit(folder)
    if sha in ("main", now.sha):
        return now
    earlier = _history(root, kind, repo_id) / sha
    if len(sha) != 40 or not sha.isalnum() or not earlier.is_dir():
        raise NoSuchRevision(revision)
    return Commit(sha, read_commit(earlier).files)


def tag(root: Path, kind: str, repo_id: str, name: str) -> str:
    """Names what `main` holds now, for as long as ROOT lives; the commit's id."""
    sha = _keep(root, kind, repo_id)
    named = tags(root, kind, repo_id) | {name: sha}
    (_history(root, kind, repo_id) / "tags.json").write_text(json.dumps(named))
    return sha


def _keep(root: Path, kind: str, repo_id: str) -> str:
    sha = find_commit(root, kind, repo_id).sha
    kept = _history(root, kind, repo_id) / sha
    if not kept.is_dir():
        shutil.copytree(_folder(root, kind, repo_id), kept)
    return sha


def make_model_repo(root: Path, repo_id: str, files: Files) -> str:
    """Publishes a folder (or files by their path) as a model's new `main`; the commit's id."""
    return _publish(root, "models", repo_id, files)


def make_dataset_repo(
    root: Path, repo_id: str, files: Files, configs: Mapping[str, str | Mapping[str, str]] | None = None
) -> str:
    """Publishes data files as a dataset's new `main`; the commit's id.

    configs: by name the glob of the split `train`, or globs by split. They replace those that the files' own README.md
    declares; without any, `datasets` goes by the names of the files.
    """
    _publish(root, "datasets", repo_id, files)
    if configs:
        _declare(_folder(root, "datasets", repo_id) / "README.md", configs)
    return find_commit(root, "datasets", repo_id).sha


def _publish(root: Path, kind: str, repo_id: str, files: Files) -> str:
    folder = _folder(root, kind, repo_id)
    if folder.is_dir():
        _keep(root, kind, repo_id)
        shutil.rmtree(folder)
    if isinstance(files, Path):
        shutil.copytree(files, folder)
        return find_commit(root, kind, repo_id).sha
    folder.mkdir(parents=True)
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
    return find_commit(root, kind, repo_id).sha


def _declare(readme: Path, configs: Mapping[str, str | Mapping[str, str]]) -> None:
    text = readme.read_text() if readme.exists() else ""
    header: dict[str, Any] = {}
    if text.startswith("---\n"):
        front, _, text = text.removeprefix("---\n").partition("\n---\n")
        header = yaml.safe_load(front) or {}
    header["configs"] = [
        {
            "config_name": name,
            "data_files": [
                {"split": split, "path": glob}
                for split, glob in ({"train": globs} if isinstance(globs, str) else globs).items()
            ],
        }
        for name, globs in configs.items()
    ]
    readme.write_text(f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n{text}")
