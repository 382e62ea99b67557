"""Uploads to the Hub: a world model, a policy or a data set, with a card, and an `env.py` for LeRobot's EnvHub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from dream_env.hub.cards import make_card
from dream_env.hub.names import HubName, RepoType, is_hub_name
from dream_env.hub.pull import FILES, _bars, client, library

Kind = Literal["world model", "policy", "data set"]
ENV_FILE = "env.py"
ENV = '''"""LeRobot's EnvHub: `make_env("{repo}", trust_remote_code=True)` of lerobot.envs.factory makes it."""

from pathlib import Path

from dream_env.adapters.lerobot import make_dream_env
from dream_env.hub import named

HERE = named(Path(__file__).resolve(strict=False).parent)
WORLD_MODEL = HERE if str(HERE).startswith("hf://") else "hf://{repo}"  # the same commit as this file


def make_env(n_envs=1, use_async_envs=False, cfg=None):
    """Makes vector environments by suite and number; `cfg` may have `task` and `gym_kwargs`."""
    return make_dream_env(WORLD_MODEL, n_envs, use_async_envs, cfg)
'''
"""The file that LeRobot loads. It is written from this text only; nothing here ever runs one that was downloaded."""


def kind_of(folder: str | Path) -> Kind:
    """Returns what a folder holds.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it holds none of the three.
    """
    from dream_env.world_models.checkpoint import CONFIG, KINDS, WEIGHTS

    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder={str(folder)!r} does not exist; accepted: that of a world model, policy or data set"
        )
    if (folder / "meta" / "info.json").is_file():
        return "data set"
    if all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("kind")
        return "world model" if kind in KINDS else "policy"
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
    """Uploads a world model, a policy or a data set in one commit; the repository is made if there is none.

    Args:
        folder: Folder that a command has written.
        repo: "user/name".
        world_model: For a policy that sees through a world model of this machine: where that is on the Hub,
            `hf://user/name`.
        revision: Branch to upload to; None for the main one.
        private: Whether a new repository is private.
        license: Licence for the card, as the Hub abbreviates it.
        token: Token of the Hub; None takes that of `hf auth login`.

    Returns:
        The name of what was uploaded, `hf://user/name@commit`.

    Raises:
        FileNotFoundError: If the folder is missing.
        ImportError: If `huggingface_hub` is not installed.
        OSError: If the Hub cannot be reached, or refuses it.
        ValueError: If the folder holds something else, or a policy names a world model that nobody else has.
    """
    folder, given = Path(folder).expanduser(), HubName.parse(f"hf://{repo.removeprefix('hf://')}")
    kind = kind_of(folder)
    type: RepoType = "dataset" if kind == "data set" else "model"
    if kind == "data set":
        from dream_env.data.lerobot import LeRobotStore

        LeRobotStore(folder).episodes()  # refuses a damaged one
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
        raise OSError(f"repo={given.repo!r}: {api.endpoint} did not take it: {why}") from error
    return str(HubName(given.repo, commit.oid, type))


def _travels(name: str, type: RepoType) -> bool:
    return any(fnmatch(name, pattern) for pattern in FILES[type])


def _contents(
    folder: Path, kind: Kind, type: RepoType, repo: str, license: str, world_model: str | None
) -> Iterator[tuple[str, str | bytes]]:
    """Yields the path in the repository, and the local path or the bytes, of every file."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and _travels(name, type) and not any(part.startswith(".") for part in path.parts[-2:]):
            yield name, str(path)
    if kind == "policy" and (config := _portable_config(folder / "config.json", world_model)):
        yield "config.json", config
    if kind == "world model":
        yield ENV_FILE, ENV.format(repo=repo).encode()
    yield "README.md", make_card(folder, kind, repo, license).encode()


def _portable_config(file: Path, world_model: str | None) -> bytes | None:
    """Returns a policy's config that names a world model on the Hub; None where the file may stay as it is.

    Raises:
        ValueError: If the world model is a folder of this machine, and no other is named.
    """
    config = json.loads(file.read_text(encoding="utf-8"))
    if world_model is not None:
        HubName.parse(world_model)
        return (json.dumps({**config, "world_model": world_model}, indent=2) + "\n").encode()
    named = config.get("world_model", "default")
    if named == "default" or is_hub_name(named):
        return None
    raise ValueError(
        f"folder={str(file.parent)!r}: the policy sees through the world model {named!r}, which only this machine has; "
        "accepted: upload that first, and name it: world_model='hf://user/name'"
    )


def _tag(api: Any, repo: str, version: str) -> None:
    """Tags a data set with the version of its layout, by which LeRobot finds it."""
    if re.fullmatch(r"v\d+\.\d+", version):
        if any(tag.name == version for tag in api.list_repo_refs(repo, repo_type="dataset").tags):
            api.delete_tag(repo, tag=version, repo_type="dataset")
        api.create_tag(repo, tag=version, repo_type="dataset")
