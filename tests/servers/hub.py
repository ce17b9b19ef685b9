"""A Hub of the test's own: what `huggingface_hub`, `datasets` and `transformers` ask of the real one, from a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import pytest

from tests.servers import hub_repos as repos
from tests.servers.hub_repos import make_dataset_repo, make_model_repo, tag
from tests.servers.listening import Handler, Listener

__all__ = ["HubServer", "Request", "make_dataset_repo", "make_model_repo", "tag"]

_DATE = "2024-04-15T00:00:00.000Z"
# What may stand where a repository's second name would, when the first has no owner in front: `gpt2`.
_AFTER_A_NAME = ("revision", "tree", "paths-info", "refs", "commits", "resolve")


class Request(NamedTuple):
    """A request as it arrived. path: with its query, still quoted; range: empty where none was asked for."""

    method: str
    path: str
    range: str


@dataclass(frozen=True)
class _Reply:
    body: bytes | repos.File = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class _Refusal(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class _Asked:
    """One request, taken apart. query: values by name; origin: scheme and host as the client wrote them."""

    segments: tuple[str, ...]
    query: Mapping[str, list[str]]
    path: str
    token: str
    origin: str
    body: bytes


class HubServer(Listener):
    """Serves ROOT as `hub_repos` lays it out, until the end of `with`.

    gated: names whose files need `HubServer.TOKEN`; any other token that starts with `hf_` is somebody without access.
    redirect_lfs: large files come from a second origin after a redirect, as they do from the real Hub.
    page_size: entries a page of a listing holds.
    """

    TOKEN = "hf_granted"

    def __init__(
        self, root: Path, *, gated: Collection[str] = (), redirect_lfs: bool = False, page_size: int = 1000
    ) -> None:
        super().__init__(_HubHandler)
        self.root = root
        self.gated = frozenset(gated)
        self.redirect_lfs = redirect_lfs
        self.page_size = page_size
        self.requests: list[Request] = []
        # Commits do not change, and to read one again for each of thousands of ranges takes longer than the ranges.
        self._commits: dict[tuple[str, str, str], repos.Commit] = {}

    def env(self, hf_home: Path, *, endpoint: str | None = None) -> dict[str, str]:
        """What a process needs in its environment before it imports any client. endpoint: a proxy in front."""
        return {
            "HF_ENDPOINT": endpoint or self.url,
            "HF_HOME": str(hf_home),
            # These two would win over HF_HOME if the machine sets them.
            "HF_HUB_CACHE": str(hf_home / "hub"),
            "HF_DATASETS_CACHE": str(hf_home / "datasets"),
            "HF_TOKEN": "",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def patch(self, monkeypatch: pytest.MonkeyPatch, hf_home: Path, *, endpoint: str | None = None) -> None:
        """Points the clients of this process here, which have read the environment when they were imported."""
        import datasets.config
        import huggingface_hub.constants as hub

        env = self.env(hf_home, endpoint=endpoint)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        url = env["HF_ENDPOINT"]
        monkeypatch.setattr(hub, "ENDPOINT", url)
        monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(hub, "HF_HUB_CACHE", env["HF_HUB_CACHE"])
        monkeypatch.setattr(hub, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "HF_TOKEN_PATH", str(hf_home / "token"))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", url)
        monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", url + "/datasets/{repo_id}/resolve/{revision}/{path}")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", env["HF_DATASETS_CACHE"])
        # It would look for the host `datasets-server.127.0.0.1`, and offline name services take their time to say no.
        monkeypatch.setattr(datasets.config, "USE_PARQUET_EXPORT", False)

    def reply(self, asked: _Asked) -> _Reply:
        """The answer to one request; _Refusal where the Hub would answer with an error."""
        match asked.segments:
            case ("api", "whoami-v2"):
                self._check_token(asked, needed=True)
                return _json({"type": "user", "name": "tester", "auth": {"type": "access_token"}})
            case ("api", "models" | "datasets" as kind):
                return self._search(kind, asked)
            case ("api", "models" | "datasets" as kind, name, *rest) if not rest or rest[0] in _AFTER_A_NAME:
                return self._moved(kind, name, asked)
            case ("api", "models" | "datasets" as kind, owner, name, *rest):
                return self._about(kind, f"{owner}/{name}", rest, asked)
            case ("cdn", kind, owner, name, sha, *path):
                commit = self._commit(kind, f"{owner}/{name}", sha, asked)
                return self._content(kind, f"{owner}/{name}", commit, "/".join(path), asked)
            case ("datasets", name, "resolve", _, *_):
                return self._moved("datasets", name, asked)
            case ("datasets", owner, name, "resolve", revision, *path):
                return self._resolve("datasets", f"{owner}/{name}", revision, "/".join(path), asked)
            case (name, "resolve", _, *_):
                return self._moved("models", name, asked)
            case (owner, name, "resolve", revision, *path):
                return self._resolve("models", f"{owner}/{name}", revision, "/".join(path), asked)
        raise _Refusal(404, "", "Sorry, we can't find the page you are looking for.")

    def _check_token(self, asked: _Asked, *, needed: bool = False) -> None:
        if asked.token and not asked.token.startswith("hf_"):
            raise _Refusal(401, "", "Invalid credentials in Authorization header")
        if needed and not asked.token:
            raise _Refusal(401, "", "Invalid username or password.")

    def _unknown(self, asked: _Asked) -> _Refusal:
        self._check_token(asked)
        if asked.token:
            return _Refusal(404, "RepoNotFound", "Repository not found")
        # Whoever is nobody is not told what exists. The Hub sends no code with it: clients know what a 401 means
        # from an https:// URL, which this server has not.
        return _Refusal(401, "RepoNotFound", "Invalid username or password.")

    def _commit(self, kind: str, repo_id: str, revision: str, asked: _Asked) -> repos.Commit:
        self._check_token(asked)
        if known := self._commits.get((kind, repo_id, revision)):
            return known
        try:
            commit = repos.find_commit(self.root, kind, repo_id, revision)
            return self._commits.setdefault((kind, repo_id, commit.sha), commit)
        except repos.NoSuchRepo as error:
            raise self._unknown(asked) from error
        except repos.NoSuchRevision as error:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {quote(revision)}") from error

    def _moved(self, kind: str, name: str, asked: _Asked) -> _Reply:
        """Names from before owners, such as `gpt2`, lead to where they live now."""
        homes = [r for r in repos.repo_ids(self.root, kind) if r.split("/")[1] == name]
        if len(homes) != 1:
            raise self._unknown(asked)
        there = re.sub(rf"/{re.escape(quote(name))}(?=[/?]|$)", f"/{homes[0]}", asked.path, count=1)
        return _Reply(status=307, headers={"Location": there})

    def _search(self, kind: str, asked: _Asked) -> _Reply:
        self._check_token(asked)
        words = " ".join(asked.query.get("search", [])).lower().split()
        author = asked.query.get("author", [""])[0]
        found = [r for r in repos.repo_ids(self.root, kind) if all(w in r.lower() for w in words)]
        found = [r for r in found if not author or r.startswith(f"{author}/")]
        limit = int(asked.query.get("limit", ["1000"])[0])
        return _json([self._info(r, repos.find_commit(self.root, kind, r)) for r in found[:limit]])

    def _info(self, repo_id: str, commit: repos.Commit) -> dict[str, Any]:
        return {
            "id": repo_id,
            "author": repo_id.split("/")[0],
            "sha": commit.sha,
            "lastModified": _DATE,
            "createdAt": _DATE,
            "private": False,
            "gated": "auto" if repo_id in self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in commit.files],
        }

    def _about(self, kind: str, repo_id: str, rest: list[str], asked: _Asked) -> _Reply:
        """Everything below `/api` that is about one repository; of a gated one, too."""
        revision = rest[1] if len(rest) > 1 else "main"
        commit = self._commit(kind, repo_id, revision, asked)
        match rest:
            case [] | ["revision", _]:
                return _json(self._info(repo_id, commit))
            case ["tree", _, *path]:
                return self._tree(commit, "/".join(path), asked)
            case ["paths-info", _]:
                entries = {e["path"]: e for e in _entries(commit)}
                return _json([entries[p] for p in _wanted_paths(asked.body) if p in entries])
            case ["commits", _]:
                return _json([{"id": commit.sha, "title": "", "message": "", "date": _DATE, "authors": []}])
            case ["refs"]:
                named = repos.tags(self.root, kind, repo_id).items()
                return _json(
                    {
                        "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": commit.sha}],
                        "tags": [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": s} for n, s in named],
                        "converts": [],
                        "pullRequests": [],
                    }
                )
        raise _Refusal(404, "", "Not found")

    def _tree(self, commit: repos.Commit, folder: str, asked: _Asked) -> _Reply:
        if folder and folder not in commit.folders():
            raise _Refusal(404, "EntryNotFound", f"{quote(folder)} does not exist on {commit.sha}")
        recursive = asked.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        below = [e for e in _entries(commit) if not folder or e["path"].startswith(f"{folder}/")]
        if not recursive:
            below = [e for e in below if "/" not in e["path"].removeprefix(folder).strip("/")]
        start = int(asked.query.get("cursor", ["0"])[0])
        end = start + self.page_size
        if end >= len(below):
            return _json(below[start:])
        more = urlencode({"recursive": recursive, "cursor": end})
        link = f"<{asked.origin}{urlsplit(asked.path).path}?{more}>"
        return _json(below[start:end], {"Link": f'{link}; rel="next"'})

    def _resolve(self, kind: str, repo_id: str, revision: str, path: str, asked: _Asked) -> _Reply:
        commit = self._commit(kind, repo_id, revision, asked)
        if repo_id in self.gated and asked.token != self.TOKEN:
            raise _Refusal(
                403 if asked.token else 401,
                "GatedRepo",
                f"Access to {kind[:-1]} {repo_id} is restricted. You must have access to it and be authenticated.",
            )
        file = commit.files.get(path)
        if file is None or not (self.redirect_lfs and file.lfs):
            return self._content(kind, repo_id, commit, path, asked)
        # The same port under another name is another origin to clients, and a proxy in front still sees it all.
        elsewhere = asked.origin.replace("127.0.0.1", "localhost")
        headers = {
            "Location": f"{elsewhere}/cdn/{kind}/{repo_id}/{commit.sha}/{quote(path)}",
            "X-Repo-Commit": commit.sha,
            "X-Linked-Etag": file.etag,
            "X-Linked-Size": str(file.size),
        }
        return _Reply(status=302, headers=headers)

    def _content(self, kind: str, repo_id: str, commit: repos.Commit, path: str, asked: _Asked) -> _Reply:
        file = commit.files.get(path)
        if file and not file.unchanged():  # `main` moved on: the commit is in the history now, or lost to an edit
            self._commits.pop((kind, repo_id, commit.sha), None)
            file = self._commit(kind, repo_id, commit.sha, asked).files.get(path)
        if file is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        return _Reply(file, headers={"ETag": file.etag, "X-Repo-Commit": commit.sha})


def _json(value: Any, headers: Mapping[str, str] | None = None) -> _Reply:
    return _Reply(json.dumps(value).encode(), headers={"Content-Type": "application/json", **(headers or {})})


def _entries(commit: repos.Commit) -> list[dict[str, Any]]:
    """Folders and files of a commit as listings show them, ascending by path."""
    entries: list[dict[str, Any]] = [
        {"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in commit.folders()
    ]
    for file in commit.files.values():
        entry: dict[str, Any] = {"type": "file", "oid": file.blob, "size": file.size, "path": file.path}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
        entries.append(entry)
    return sorted(entries, key=lambda e: str(e["path"]))


def _wanted_paths(body: bytes) -> list[str]:
    if body.lstrip().startswith(b"{"):
        paths = json.loads(body).get("paths", [])
        return [paths] if isinstance(paths, str) else list(paths)
    return parse_qs(body.decode()).get("paths", [])


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """First byte and end of a `Range` header in a file of that size; None where it asks for the whole."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if not found or found[1] == found[2] == "":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size


class _HubHandler(Handler):
    owner: HubServer

    def answer(self) -> None:
        hub = self.owner
        hub.requests.append(Request(self.command, self.path, self.headers.get("Range", "")))
        parts = urlsplit(self.path)
        asked = _Asked(
            segments=tuple(unquote(s) for s in parts.path.strip("/").split("/")),
            query=parse_qs(parts.query),
            path=self.path,
            token=self.headers.get("Authorization", "").removeprefix("Bearer ").strip(),
            origin=f"http://{self.headers.get('Host', '')}",
            body=self.body(),
        )
        try:
            reply = hub.reply(asked)
        except _Refusal as refusal:
            headers = {"X-Error-Message": refusal.message, "Content-Type": "application/json"}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            reply = _Reply(json.dumps({"error": refusal.message}).encode(), refusal.status, headers)
        self._send(reply)

    def _send(self, reply: _Reply) -> None:
        status, headers, data = reply.status, dict(reply.headers), reply.body
        if isinstance(data, repos.File):
            file = data
            headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
            span = _span(self.headers.get("Range", ""), file.size)
            start, end = span or (0, file.size)
            if span and start >= file.size:
                status, data, headers["Content-Range"] = 416, b"", f"bytes */{file.size}"
            else:
                if span:
                    status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{file.size}"
                with file.local.open("rb") as content:
                    content.seek(start)
                    data = content.read(max(0, end - start))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
