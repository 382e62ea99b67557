"""Uploads a world model, a policy or a dataset to the Hugging Face Hub, or downloads one.

    python -m agents.share --push runs/model --repo user/my-robot
    python -m agents.share --push runs/policy --repo user/my-policy --world-model hf://user/my-robot
    python -m agents.share --pull datasets/user/my-episodes --out data/theirs

Other commands do not need this download: their options `--world-model`, `--policy`, `--init`, `--prior` and `--data`
accept `hf://user/name`, or `hf://user/name@revision` to pin a version, and download it into the Hub's cache. Only
safetensors, json, npz, parquet and mp4 files are transferred; a repository that has only pickles is refused. Both
directions need `pip install dream_env[hub]`. To upload, run `hf auth login` once or set HF_TOKEN.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dream_env import hub
from dream_env.files import LOCK


@dataclass(frozen=True)
class Arguments:
    """Uploads a world model, a policy or a dataset to the Hugging Face Hub, or downloads one."""

    push: Path | None = None
    """Folder to upload, as written by a command."""
    repo: str | None = None
    """Repository to upload to: user/name. It is created if it does not exist."""
    pull: str | None = None
    """Repository to download: user/name or user/name@revision; for a dataset, datasets/user/name."""
    out: Path | None = None
    """Folder to download to. It must be new or empty."""
    world_model: str | None = None
    """When uploading a policy that uses your own world model: where that world model is on the Hub, hf://user/name."""
    branch: str | None = None
    """Branch to upload to. By default the main branch."""
    private: bool = False
    """Makes the repository private if it is created."""
    license: str = "mit"
    """License for the model card, as the Hub abbreviates it: mit, apache-2.0, cc-by-4.0, ..."""

    def __post_init__(self) -> None:
        """Checks what can be checked without reading files."""
        if (self.push is None) == (self.pull is None):
            raise ValueError("accepted: --push FOLDER --repo user/name, or --pull user/name --out FOLDER")
        if self.push is not None and self.repo is None:
            raise ValueError("push needs --repo user/name")
        if self.pull is not None and self.out is None:
            raise ValueError("pull needs --out FOLDER")


KEEPS_NAMES = True
"""Tells `run.cli` to pass `hf://` names to this command unchanged, instead of downloading them."""


def push(args: Arguments) -> str:
    """Uploads a folder, after checking that it can be loaded, and returns its name on the Hub."""
    from dream_env.agents.policies import registry
    from dream_env.hub.push import kind_of, push_to_hub
    from dream_env.world_models import checkpoint

    assert args.push is not None and args.repo is not None
    kind = kind_of(args.push)
    if kind != "data set":  # the upload checks every file of a dataset
        (checkpoint if kind == "world model" else registry).load(args.push)
    return push_to_hub(
        args.push,
        args.repo,
        world_model=args.world_model,
        revision=args.branch,
        private=args.private,
        license=args.license,
    )


def pull(args: Arguments) -> Path:
    """Downloads a repository into `args.out`, and returns that folder.

    Raises:
        ValueError: If the folder is not empty.
    """
    from dream_env.hub.pull import FILES

    assert args.pull is not None and args.out is not None
    if args.out.exists() and (not args.out.is_dir() or any(path.name != LOCK for path in args.out.iterdir())):
        raise ValueError(f"out={args.out} is not empty; accepted: a new folder")
    source = hub.pull(args.pull.removeprefix("hf://"))
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and any(fnmatch(name, pattern) for patterns in FILES.values() for pattern in patterns):
            (args.out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, args.out / name)
    return args.out


def main(args: Arguments) -> None:
    """Runs the command."""
    if args.push is not None:
        print(f"on the Hub: {push(args)}")
    else:
        print(f"downloaded: {pull(args)}")


if __name__ == "__main__":
    from dream_env.agents.run.cli import command

    command("share")
