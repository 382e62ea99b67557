"""Downloads from the Hub: only files that cannot contain code, and only from repositories with the required files."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from dream_env.hub.names import HubName, RepoType, is_hub_name

FILES: dict[RepoType, tuple[str, ...]] = {
    "model": ("config.json", "model.safetensors", "spec.json", "initial_states.npz", "metrics.json", "README.md"),
    "dataset": ("meta/*.json", "meta/*.parquet", "data/*.parquet", "videos/*.mp4", "README.md"),
}
"""Path patterns of the files that are uploaded and downloaded; `*` also matches `/`."""
NEEDED: dict[RepoType, tuple[str, ...]] = {
    "model": ("config.json", "model.safetensors"),
    "dataset": ("meta/info.json", "data/*.parquet"),
}
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".zip")
"""Suffixes of files that may run code when they are loaded. Such files are never downloaded or uploaded."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def library() -> Any:
    """Returns `huggingface_hub`.

    Raises:
        ImportError: If it is not installed; the message says how to install it.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":  # it is installed, but one of its dependencies is not
            raise
        raise ImportError("names on the Hub need huggingface_hub: pip install dream_env[hub]") from error
    return huggingface_hub


def client(token: str | None = None) -> Any:
    """Returns an `HfApi` for the Hub given by the environment variable HF_ENDPOINT, or the default one."""
    from dream_env import __version__

    endpoint = os.environ.get("HF_ENDPOINT")
    return library().HfApi(endpoint=endpoint, token=token, library_name="dream_env", library_version=__version__)


@lru_cache(maxsize=64)
def pull(name: str, type: RepoType = "model", revision: str | None = None) -> Path:
    """Downloads a world model, policy or dataset into the cache of `huggingface_hub`, once per process.

    A commit in the cache needs no network. A branch or tag is looked up on the Hub first; if the Hub cannot be reached,
    the cached copy is used, with a warning.

    Args:
        name: `user/name` or `hf://user/name@revision`.
        type: Type of repository, if the name does not include it.
        revision: Branch, tag or commit; None for the one in the name, or the latest.

    Returns:
        Folder of the snapshot in the cache.

    Raises:
        FileNotFoundError: If it does not exist, or if the Hub cannot be reached and it is not in the cache.
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the name is malformed, or the repository has no files that can be loaded safely.
    """
    given = HubName.parse(name if name.startswith("hf:/") else f"hf://{name}")
    given = HubName(given.repo, revision or given.revision, given.type or type)
    kind: RepoType = given.type or "model"
    hub, api = library(), client()
    cached = _Download(hub, api, given, kind)
    if given.revision and _COMMIT.fullmatch(given.revision) and (there := cached.look()):
        return there
    try:
        found = api.repo_info(given.repo, repo_type=kind, revision=given.revision)
    except hub.errors.RevisionNotFoundError:
        raise FileNotFoundError(f"{given}: {given.repo} has no revision {given.revision!r}") from None
    except hub.errors.RepositoryNotFoundError:
        raise FileNotFoundError(
            f"{given}: there is no such {kind} on {api.endpoint}, or it is private (`hf auth login`)"
        ) from None
    except Exception as error:  # network errors: their types differ between versions of huggingface_hub
        if there := cached.look():
            warnings.warn(f"{given}: the Hub cannot be reached; the copy in the cache is used", stacklevel=2)
            return there
        why = " ".join(str(error).split())[:120] or error.__class__.__name__
        raise FileNotFoundError(
            f"{given}: {api.endpoint} cannot be reached ({why}), and this revision is not in the cache"
        ) from None
    check_files(str(given), kind, [file.rfilename for file in found.siblings or ()])
    return cached.get()


def check_files(name: str, kind: RepoType, files: Sequence[str]) -> None:
    """Checks that a repository has the required files.

    Args:
        name: Name of the repository for the message.
        kind: Type of the repository.
        files: Paths of the files in it.

    Raises:
        ValueError: If required files are missing; the message mentions a pickle file if there is one.
    """
    missing = [need for need in NEEDED[kind] if not any(fnmatch(file, need) for file in files)]
    if not missing:
        return
    pickles = [file for file in files if file.endswith(PICKLES)]
    instead = f"; {pickles[0]} may run code when it is loaded, and is not read" if pickles else ""
    raise ValueError(f"{name} has no {' and no '.join(missing)}{instead}; accepted: what agents.share has uploaded")


class _Download:
    """The download of one revision."""

    def __init__(self, hub: Any, api: Any, name: HubName, kind: RepoType) -> None:
        cache = os.environ.get("HF_HUB_CACHE")
        self._hub, self._api = hub, api
        self._what = dict(
            repo_id=name.repo,
            repo_type=kind,
            revision=name.revision,
            allow_patterns=list(FILES[kind]),
            cache_dir=cache,
        )
        self._kind = kind

    def look(self) -> Path | None:
        """Returns the folder if the cache contains all required files, else None."""
        try:
            found = Path(self._api.snapshot_download(**self._what, local_files_only=True))
        except Exception:
            return None
        files = [file.relative_to(found).as_posix() for file in found.rglob("*")]
        return found if all(any(fnmatch(file, need) for file in files) for need in NEEDED[self._kind]) else None

    def get(self) -> Path:
        """Downloads missing files and returns the folder."""
        with _bars(self._hub):
            return Path(self._api.snapshot_download(**self._what))


@contextmanager
def _bars(hub: Any) -> Iterator[None]:
    """Disables the Hub's progress bars unless stderr is a terminal."""
    utils = hub.utils
    if sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def folder(name_or_path: str | Path, type: RepoType = "model") -> str | Path:
    """Returns the local folder of a name on the Hub, downloading it if needed; other values are returned unchanged.

    `checkpoint.resolve`, the registry of policies, `LeRobotStore` and the command line all resolve names through this
    function.

    Args:
        name_or_path: A path, a name defined by this package, or `hf://user/name@revision`.
        type: Type of repository, if the name does not include it.

    Raises:
        FileNotFoundError: If it does not exist, or if the Hub cannot be reached and it is not in the cache.
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the name is malformed, or the repository has no files that can be loaded safely.
    """
    if not is_hub_name(name_or_path):
        return name_or_path
    return pull(str(name_or_path), type)
