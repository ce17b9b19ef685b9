"""What the user named, as an ordered list of files: a Hub dataset, a folder, a file, a glob or a URI."""

from __future__ import annotations

import difflib
import glob
import logging
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError, InputError
from headrace.stream.addresses import refuse_secrets
from headrace.stream.files import etag_of, is_remote, open_file, tail_etag
from headrace.stream.folder import FORMATS, MAGIC, LeftOut, check_links, check_plain, left_out
from headrace.stream.retry import chain, connection_error

log = logging.getLogger(__name__)

LOOKERS = 16
"""Files looked at together, where their store does not name what they hold."""
WAITS_S = (1.0, 4.0)
"""Before a listing that a network broke is begun anew; then it fails."""


@dataclass(frozen=True)
class SourceFile:
    """One file. path: its stable name in the source; uri: what fsspec opens; etag: empty where none is kept."""

    path: str
    uri: str
    size: int
    etag: str


@dataclass(frozen=True)
class Source:
    """A dataset's files in the order of their paths. revision: the pinned commit of a Hub dataset, else empty.

    format: the reader of `datasets` for such files, and the options it takes. left_out: what a folder on this machine
    has beside the files of its splits.
    """

    name: str
    config: str
    split: str
    revision: str
    files: tuple[SourceFile, ...]
    format: str = "parquet"
    options: tuple[tuple[str, Any], ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def nearest(word: str, choices: Iterable[str]) -> str:
    """The likeliest of the choices as ` (nearest: a, b)`, all of them when few, or an empty text."""
    known = sorted(set(choices))
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5) or (known if len(known) <= 8 else [])
    return f" (nearest: {', '.join(near)})" if near else ""


def resolve(name: str, *, config: str | None = None, revision: str | None = None, split: str = "train") -> Source:
    """The files of a dataset; InputError says which of name, config, revision and split is unknown."""
    refuse_secrets("the dataset", name)
    file, folder = _here(name)
    if "://" in name and not name.startswith("hf://datasets/"):
        found = _uris(name, split)
    elif file or (not folder and any(c in name for c in MAGIC)):
        found = _uris(str(Path(name).absolute()), split, shown=name)
    elif folder and any(c in str(Path(name).absolute()) for c in MAGIC):  # `datasets` would take it for a glob
        check_plain(Path(name))
        found = _uris(str(Path(name).absolute()), split, shown=name)
    elif folder:
        check_links(Path(name))
        found = _built(str(Path(name).absolute()), config, None, split)
    elif name.startswith(("/", "./", "../", "~")) or name.endswith(".parquet") or _misspelt(name):
        raise InputError(
            f"there is no file or folder {name}{nearest(Path(name).name, _beside(name))}",
            "--dataset_name takes a folder, file, glob or URI, or a Hub dataset as OWNER/NAME or hf://datasets/OWNER/NAME",
        )
    else:
        found = _built(name.removeprefix("hf://datasets/"), config, revision, split)
    if config and not found.config:
        raise InputError(
            f"--dataset_config_name {config} does not apply to {name}",
            "only folders and Hub datasets have configurations: leave it out",
        )
    if not found.files:
        raise InputError(
            f"{name} holds no data file for the split {split!r}",
            "check --dataset_name and --dataset_train_split",
        )
    files = tuple(sorted(found.files, key=lambda f: f.path))
    return Source(name, found.config, split, found.revision, files, found.format, found.options, found.left_out)


def _here(name: str) -> tuple[bool, bool]:
    """Whether there is a file of this name on this machine, and whether there is a folder."""
    try:
        return Path(name).is_file(), Path(name).is_dir()
    except OSError as error:
        raise unreachable(name, error) from error


def _beside(name: str) -> list[str]:
    parent = Path(name).expanduser().parent
    return [p.name for p in parent.iterdir()] if parent.is_dir() else []


def _misspelt(name: str) -> bool:
    """Whether it is likelier a path with a slip than the name of a Hub dataset: nearly the name of what lies there."""
    path = Path(name)
    return path.parent != Path() and bool(difflib.get_close_matches(path.name, _beside(name), n=1, cutoff=0.8))


@dataclass(frozen=True)
class _Found:
    config: str
    revision: str
    files: tuple[SourceFile, ...]
    format: str = "parquet"
    options: tuple[tuple[str, Any], ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def _built(name: str, config: str | None, revision: str | None, split: str) -> _Found:
    """Through `datasets`' own resolver, which knows repositories' configurations and file patterns."""
    import datasets

    with tempfile.TemporaryDirectory(prefix="headrace-") as scratch:
        for wait_s in (*WAITS_S, None):
            try:
                builder = datasets.load_dataset_builder(name, config, revision=revision, cache_dir=scratch)
                break
            except Exception as error:
                told = _unresolved(error, name, config, revision)
                if wait_s is None or isinstance(told, InputError):
                    raise told from error
                log.warning("listing %s failed (%s); again in %.0f s", name, told, wait_s)
                time.sleep(wait_s)
        how = (builder.__module__.rsplit(".", 1)[-1], _options(builder.config))
        splits = {str(k): v for k, v in (builder.config.data_files or {}).items()}
        if split not in splits:
            raise InputError(f"{name} has no split {split!r}{nearest(split, splits)}", "set --dataset_train_split")
        uris = [str(u) for u in splits[split]]
        label = "" if builder.config.name == "default" and not config else builder.config.name
    if all(u.startswith("hf://") for u in uris):
        commit = uris[0].split("@", 1)[1].split("/", 1)[0] if uris and "@" in uris[0] else ""
        prefix = uris[0].split("@", 1)[0] + "@" + commit + "/" if commit else ""
        return _Found(label, commit, _files(uris, prefix), *how)
    # A folder's own description may name several configurations: the files of one are not missing in another.
    beside = () if label or len(builder.builder_configs) > 1 else _beside_those(name, splits)
    return _Found(label, "", _files(uris, str(Path(name)) + "/"), *how, beside)


def _beside_those(folder: str, splits: Mapping[str, Iterable[Any]]) -> tuple[LeftOut, ...]:
    taken = {str(u).removeprefix(folder + "/") for found in splits.values() for u in found}
    return left_out(Path(folder), taken)


def _options(config: Any) -> tuple[tuple[str, Any], ...]:
    """What a repository's own description sets differently from the defaults of its reader, such as a separator."""
    known = {"name", "version", "data_dir", "data_files", "description", "features"}
    found = [(f.name, getattr(config, f.name), f) for f in fields(config) if f.name not in known and f.init]
    return tuple(
        (name, value) for name, value, f in found if value != f.default and isinstance(value, str | int | float)
    )


def _unresolved(error: Exception, name: str, config: str | None, revision: str | None) -> HeadraceError:
    """What kept `datasets` from resolving a name, told as the flag that is wrong."""
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, DatasetNotFoundError):
        if revision and "evision" in str(error):
            return InputError(
                f"{name} has no revision {revision!r}{nearest(revision, _references(name))}",
                "set --dataset_revision to a branch, a tag or a commit",
            )
        if "gated" in str(error) or "authentication" in str(error):
            return InputError(f"{name} is a gated dataset: {text}", "accept its terms and set HF_TOKEN")
        return InputError(
            f"there is no dataset {name!r} on the Hub that this token may read, and no such folder{_namesakes(name)}",
            "check the spelling; a private dataset needs HF_TOKEN",
        )
    if isinstance(error, DataFilesNotFoundError | FileNotFoundError):
        return InputError(f"{name} holds no data files: {text}", "name a folder or dataset with Parquet files")
    if isinstance(error, ValueError) and "BuilderConfig" in str(error):
        known = str(error).split("Available:", 1)[-1].strip(" []").replace("'", "").split(", ")
        wanted = "needs --dataset_config_name" if config is None else f"has no configuration {config!r}"
        return InputError(f"{name} {wanted}{nearest(config or '', known)}", "set --dataset_config_name")
    if isinstance(error, ValueError) and "onfig name is missing" in str(error):
        return InputError(f"{name} needs --dataset_config_name: {text}")
    if isinstance(error, ImportError | SyntaxError | RuntimeError) and "script" in str(error):
        return InputError(f"{name} is a dataset script: {text}", "only data files are read, never code")
    if isinstance(error, ValueError):
        return InputError(f"{name} cannot be read: {text}")
    return HeadraceError(f"cannot reach {name}: {type(error).__name__}: {text}", "check the network, then run again")


def _references(name: str) -> list[str]:
    """Branches and tags of a Hub dataset, to suggest; none when they cannot be listed."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(name, repo_type="dataset")
    except Exception as error:  # only a suggestion hangs on it
        log.info("no revisions to suggest for %s: %s", name, error)
        return []
    return [r.name for r in (*refs.branches, *refs.tags)]


def _namesakes(name: str) -> str:
    """Hub datasets with nearly this name, to suggest, and folders here."""
    from huggingface_hub import HfApi

    here = [p.name for p in Path().iterdir() if p.is_dir() and not p.name.startswith(".")]
    owner, _, short = name.rpartition("/")
    # The Hub's search finds parts of names only, which a misspelt one is not; its owner's others are few.
    try:
        found = HfApi().list_datasets(author=owner or None, search=None if owner else short, limit=1_000)
        online = [d.id for d in found]
    except Exception as error:  # only a suggestion hangs on it
        log.info("no names to suggest for %s: %s", name, error)
        online = []
    near = difflib.get_close_matches(name, online + here, n=3, cutoff=0.6)
    return f" (nearest: {', '.join(near)})" if near else ""


def _uris(name: str, split: str, shown: str = "") -> _Found:
    """A file, a glob or a folder behind a URI; a folder's files are told apart by split as `datasets` does."""
    import fsspec
    from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

    shown = shown or name
    beside: tuple[LeftOut, ...] = ()
    try:
        fs, path = fsspec.core.url_to_fs(name)
        # Some servers on the web have a page for every name.
        exists = not ("*" in path and path.startswith("http")) and any(c in path for c in MAGIC) and fs.exists(path)
        if any(c in path for c in MAGIC) and not exists:
            uris = [fs.unstrip_protocol(p) for p in fs.glob(path)]
            fixed = path[: min(path.index(c) for c in MAGIC if c in path)]
            prefix = fs.unstrip_protocol(fixed.rpartition("/")[0])
        elif fs.info(path)["type"] != "directory":
            uris, prefix = [name], name.rpartition("/")[0]
        else:
            base = glob.escape(name.rstrip("/"))
            patterns: Any = sanitize_patterns(get_data_patterns(base))
            found: Mapping[str, Sequence[str]] = DataFilesDict.from_patterns(
                patterns, base_path=base, allowed_extensions=[*FORMATS, ".gz", ".zst"]
            )
            splits = {str(k): [str(u) for u in v] for k, v in found.items()}
            if split not in splits:
                raise InputError(f"{shown} has no split {split!r}{nearest(split, splits)}", "set --dataset_train_split")
            uris, prefix = splits[split], name.rstrip("/")
            beside = _beside_those(name, splits) if shown != name else ()
        if not uris:
            raise FileNotFoundError(shown)
        return _Found("", "", _files(uris, prefix + "/"), *_format(shown, uris), beside)
    except InputError:
        raise
    except Exception as error:
        raise unreachable(shown, error) from error


def _named(uri: str) -> str:
    """The name of a file, on the web without a query. A compressed one is told by its address, so its query stays."""
    bare = re.split("[?#]", uri)[0] if uri.startswith(("http://", "https://")) else uri
    return (uri if bare.endswith((".gz", ".zst")) else bare).rpartition("/")[2]


def _format(name: str, uris: Sequence[str]) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """The one format of some files and the options of its reader, by their endings; InputError where they differ."""
    found: dict[tuple[str, tuple[tuple[str, Any], ...]], str] = {}
    for uri in uris:
        shown = _named(uri)
        plain = shown.lower().removesuffix(".gz").removesuffix(".zst")
        ending = Path(plain).suffix
        if ending not in FORMATS:
            raise InputError(
                f"{name}: the format of {shown} is not known by its name",
                f"expected one of {' '.join(FORMATS)}, all but Parquet also with .gz or .zst",
            )
        module, options = FORMATS[ending]
        found.setdefault((module, tuple(sorted(options.items()))), uri)
    if len(found) > 1:
        names = " and ".join(u.rpartition("/")[2] for u in list(found.values())[:2])
        raise InputError(f"{name} names files of several formats, such as {names}", "name files of one format")
    return next(iter(found))


def unreachable(name: str, error: Exception) -> InputError:
    """Why a place could not be read, as an error that says what to change."""
    first = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
    status = _status(error)
    if isinstance(error, PermissionError) or status in (401, 403) or "credential" in text.lower():
        return InputError(f"may not read {name}: {text}", "give this account access to it, or check its credentials")
    broken = connection_error(error)
    if broken is not None:
        return InputError(f"cannot reach {name}: {broken}", "check the address and the network, then run again")
    if isinstance(error, FileNotFoundError) or status == 404 or type(error).__name__ in NOTHING_THERE:
        return InputError(f"there is nothing at {name}", "check the name of the bucket and the path")
    if isinstance(error, ImportError):
        return InputError(f"no reader is installed for {name}: {text}")
    if isinstance(error, ValueError) and "protocol" in text.lower():
        return InputError(f"{name} is of an unknown kind: {text}", "use a path, hf://, gs://, s3:// or https://")
    return InputError(f"cannot reach {name}: {text}", "check the address and the network, then run again")


NOTHING_THERE = ("DataFilesNotFoundError", "EmptyDatasetError")  # of `datasets`, not imported for an error's sake


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error or one of its causes carries."""
    for link in chain(error):
        for holder in (link, getattr(link, "response", None)):
            for attribute in ("status", "status_code", "code"):
                value = getattr(holder, attribute, None)
                if isinstance(value, int | str) and str(value).isdigit() and 100 <= int(value) < 600:
                    return int(value)
    return None


def _files(uris: Sequence[str], prefix: str) -> tuple[SourceFile, ...]:
    """Sizes and etags, listed a folder at a time, because asking for 25,000 files one by one takes an hour."""
    import fsspec

    refuse_secrets(f"a file that is listed in {prefix.rstrip('/')}", list(uris))
    infos: list[tuple[str, Mapping[str, Any]]] = []
    listed: dict[str, dict[str, dict[str, Any]]] = {}
    for uri in uris:
        fs, path = fsspec.core.url_to_fs(uri)
        folder = path.rpartition("/")[0]
        if folder not in listed:
            listed[folder] = _listing(fs, folder) if len(uris) > 1 else {}
        info = listed[folder].get(path) or fs.info(path)
        if info.get("size") is None:
            info = fs.info(path)
        if info.get("size") is None:
            raise InputError(f"{uri} does not tell its size", "use a server that answers HEAD with Content-Length")
        infos.append((uri, info))
    with ThreadPoolExecutor(LOOKERS, thread_name_prefix="headrace-look") as pool:
        etags = list(pool.map(lambda found: etag_of(found[1]) or _etag_of_tail(found[0]), infos))
    return tuple(
        SourceFile(uri.removeprefix(prefix) or uri, uri, int(info["size"]), etag)
        for (uri, info), etag in zip(infos, etags, strict=True)
    )


def _etag_of_tail(uri: str) -> str:
    """The etag of a file's last bytes; empty where it may not be read, which the survey tells with its place."""
    try:
        with open_file(uri) as raw:
            return tail_etag(raw)
    except OSError as error:
        if is_remote(uri) and not isinstance(error, PermissionError | FileNotFoundError):
            raise  # of a network, not of the file: an empty etag would last as long as the manifest
        log.info("cannot look at the end of %s: %s", uri, error)
        return ""


def _listing(fs: Any, folder: str) -> dict[str, dict[str, Any]]:
    try:
        return {str(i["name"]): i for i in fs.ls(folder, detail=True)}
    except (FileNotFoundError, NotImplementedError, PermissionError, ValueError) as error:
        log.info("cannot list %s (%s); asking file by file", folder, error)
        return {}
