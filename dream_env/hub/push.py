"""Uploads world models, policies and datasets to the Hub, with a card; world models also get LeRobot's `env.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from dream_env.data.lerobot import LeRobotStore
from dream_env.hub.cards import make_card
from dream_env.hub.names import HubName, RepoType, is_hub_name
from dream_env.hub.pull import FILES, _bars, client, library
from dream_env.world_models.checkpoint import CONFIG, SHIPPED, WEIGHTS, is_kind

Kind = Literal["world model", "policy", "data set"]
ENV_FILE = "env.py"
ENV = '''"""LeRobot's EnvHub loads this file: `make_env("{repo}", trust_remote_code=True)` of lerobot.envs.factory."""

from pathlib import Path

from dream_env.adapters.lerobot import make_dream_env
from dream_env.hub import named

HERE = named(Path(__file__).resolve(strict=False).parent)
WORLD_MODEL = HERE if str(HERE).startswith("hf://") else "hf://{repo}"  # the same commit as this file


def make_env(n_envs=1, use_async_envs=False, cfg=None):
    """Returns vector environments by suite and index; `cfg` may have `task` and `gym_kwargs`."""
    return make_dream_env(WORLD_MODEL, n_envs, use_async_envs, cfg)
'''
"""Content of the file that LeRobot loads. This package only uploads it, and never runs a downloaded one."""


def kind_of(folder: str | Path) -> Kind:
    """Returns the kind of content of a folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it contains neither a world model, nor a policy, nor a dataset.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder={str(folder)!r} does not exist; accepted: the folder of a world model, policy or data set"
        )
    if (folder / "meta" / "info.json").is_file():
        return "data set"
    if all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("kind")
        return "world model" if is_kind(kind) else "policy"
    raise ValueError(
        f"folder={str(folder)!r} holds neither {CONFIG} and {WEIGHTS} nor meta/info.json; accepted: a folder that "
        "agents.fit, agents.clone, agents.train or agents.collect has written"
    )


def push_to_hub(
    folder: str | Path,
    repo: str,
    *,
    world_model: str | None = None,
    revision: str | None = None,
    private: bool = False,
    license: str = "mit",
    token: str | None = None,
) -> str:
    """Uploads a world model, policy or dataset in one commit; the repository is created if it does not exist.

    Args:
        folder: Output folder of a command.
        repo: "user/name".
        world_model: For a policy that uses the encoder of a local world model: the name of that world model on the Hub,
            `hf://user/name`.
        revision: Branch to upload to; None for the main branch.
        private: Whether a new repository is private.
        license: License id for the card, as used on the Hub.
        token: Access token of the Hub; None for the one stored by `hf auth login`.

    Returns:
        The name of the uploaded commit, `hf://user/name@commit`.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the Hub cannot be reached, or rejects the upload.
        ValueError: If the folder has another content, or the config of a policy refers to a local world model.
    """
    folder, given = Path(folder).expanduser(), HubName.parse(f"hf://{repo.removeprefix('hf://')}")
    kind = kind_of(folder)
    type: RepoType = "dataset" if kind == "data set" else "model"
    if kind == "data set":
        LeRobotStore(folder).episodes()  # raises if it is damaged
    hub, api = library(), client(token)
    contents = dict(_contents(folder, kind, type, given.repo, license, world_model))
    try:
        api.create_repo(given.repo, repo_type=type, private=private, exist_ok=True)
        if revision:
            api.create_branch(given.repo, branch=revision, repo_type=type, exist_ok=True)
        there = api.list_repo_files(given.repo, repo_type=type, revision=revision)
        stale = [name for name in there if _travels(name, type) and name not in contents]
        operations: list[Any] = [hub.CommitOperationAdd(name, content) for name, content in contents.items()]
        operations += [hub.CommitOperationDelete(name) for name in stale]
        with _bars(hub):
            commit = api.create_commit(
                given.repo, operations, commit_message=f"{kind} of dream_env", repo_type=type, revision=revision
            )
        if kind == "data set" and not revision:
            _tag(api, given.repo, json.loads((folder / "meta" / "info.json").read_text())["codebase_version"])
    except Exception as error:
        why = " ".join(str(error).split())[:200] or error.__class__.__name__
        raise OSError(f"repo={given.repo!r}: {api.endpoint} upload failed: {why}") from error
    return str(HubName(given.repo, commit.oid, type))


def _travels(name: str, type: RepoType) -> bool:
    return any(fnmatch(name, pattern) for pattern in FILES[type])


def _contents(
    folder: Path, kind: Kind, type: RepoType, repo: str, license: str, world_model: str | None
) -> Iterator[tuple[str, str | bytes]]:
    """Yields the path in the repository and the local path or the content of every file."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and _travels(name.as_posix(), type) and not hidden:
            yield name.as_posix(), str(path)
    if kind == "policy" and (config := _portable_config(folder / "config.json", world_model)):
        yield "config.json", config
    if kind == "world model":
        yield ENV_FILE, ENV.format(repo=repo).encode()
    yield "README.md", make_card(folder, kind, repo, license).encode()


def _portable_config(file: Path, world_model: str | None) -> bytes | None:
    """Returns a policy's config with the world model's name on the Hub; None if the file needs no change.

    Raises:
        ValueError: If the config refers to a local world model and `world_model` is None.
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    if world_model is not None:
        HubName.parse(world_model)
        return (json.dumps({**config, "world_model": world_model}, indent=2) + "\n").encode()
    named = config.get("world_model", "default")
    if named in SHIPPED or is_hub_name(named):
        return None
    raise ValueError(
        f"folder={str(file.parent)!r}: the policy uses the world model {named!r}, which only this machine has; "
        "accepted: upload that first, and name it: world_model='hf://user/name'"
    )


def _tag(api: Any, repo: str, version: str) -> None:
    """Tags a dataset with the version of its layout, which LeRobot uses as the revision."""
    if re.fullmatch(r"v\d+\.\d+", version):
        if any(tag.name == version for tag in api.list_repo_refs(repo, repo_type="dataset").tags):
            api.delete_tag(repo, tag=version, repo_type="dataset")
        api.create_tag(repo, tag=version, repo_type="dataset")
