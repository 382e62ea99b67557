"""Downloads from the Hub: only files that cannot hold code, and only from repositories that have what is loaded."""

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
"""What travels, as patterns of paths in a repository; a `*` stands for folders, too."""
NEEDED: dict[RepoType, tuple[str, ...]] = {
    "model": ("config.json", "model.safetensors"),
    "dataset": ("meta/info.json", "data/*.parquet"),
}
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".zip")
"""Endings of files that may run code when they are loaded; none of them is ever downloaded or uploaded."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def library() -> Any:
    """Returns `huggingface_hub`.

    Raises:
        ImportError: If it is not installed; the message tells how to.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":  # it is there, and something that it needs is not
            raise
        raise ImportError("names on the Hub need huggingface_hub: pip install dream_env[hub]") from error
    return huggingface_hub


def client(token: str | None = None) -> Any:
    """Returns an `HfApi`, of the Hub that HF_ENDPOINT names in the environment."""
    from dream_env import __version__

    endpoint = os.environ.get("HF_ENDPOINT")
    return library().HfApi(endpoint=endpoint, token=token, library_name="dream_env", library_version=__version__)


@lru_cache(maxsize=64)
def pull(name: str, type: RepoType = "model", revision: str | None = None) -> Path:
    """Downloads a world model, a policy or a data set into the cache of `huggingface_hub`, once per process.

    A commit that is in the cache needs no network. A branch or tag is looked up first; if the Hub cannot be reached,
    what the cache has of it is taken, with a warning.

    Args:
        name: `user/name` or `hf://user/name@revision`.
        type: Kind of repository, where the name does not tell.
        revision: Branch, tag or commit; None takes that of the name, or the newest.

    Returns:
        Folder of the snapshot.

    Raises:
        FileNotFoundError: If it is not there, or the Hub cannot be reached and it is not in the cache.
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the name is malformed, or there is nothing that can be loaded safely.
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
    except Exception as error:  # of the transport, whose library is not the same in all versions of the Hub's
        if there := cached.look():
            warnings.warn(f"{given}: the Hub cannot be reached; the copy in the cache is used", stacklevel=2)
            return there
        why = " ".join(str(error).split())[:120] or error.__class__.__name__
        raise FileNotFoundError(
            f"{given}: {api.endpoint} cannot be reached ({why}), and this revision is not in the cache"
        ) from None
    check_files(str(given), kind, [one.rfilename for one in found.siblings or ()])
    return cached.get()


def check_files(name: str, kind: RepoType, files: Sequence[str]) -> None:
    """Refuses a repository that lacks what is loaded.

    Args:
        name: How it is called in the message.
        kind: Kind of repository.
        files: Paths in it.

    Raises:
        ValueError: If files are missing; it tells of pickles that are there instead.
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
        """Returns the folder, if all of it is in the cache."""
        try:
            found = Path(self._api.snapshot_download(**self._what, local_files_only=True))
        except Exception:
            return None
        files = [file.relative_to(found).as_posix() for file in found.rglob("*")]
        return found if all(any(fnmatch(file, need) for file in files) for need in NEEDED[self._kind]) else None

    def get(self) -> Path:
        """Returns the folder; what is missing is downloaded."""
        with _bars(self._hub):
            return Path(self._api.snapshot_download(**self._what))


@contextmanager
def _bars(hub: Any) -> Iterator[None]:
    """Shows the Hub's progress bars in a terminal only."""
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
    """Returns the local folder of a name on the Hub, downloaded if need be; everything else stays as it is.

    The one place where names of the Hub become folders: `checkpoint.resolve`, the registry of policies,
    `LeRobotStore` and the command line call it.

    Args:
        name_or_path: A path, a name that the package knows, or `hf://user/name@revision`.
        type: Kind of repository, where the name does not tell.

    Raises:
        FileNotFoundError: If it is not there, or the Hub cannot be reached and it is not in the cache.
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the name is malformed, or there is nothing that can be loaded safely.
    """
    if not is_hub_name(name_or_path):
        return name_or_path
    return pull(str(name_or_path), type)
