"""Shares a world model, a policy or a data set through the Hugging Face Hub, or fetches one from there.

    python -m agents.share --push runs/model --repo user/my-robot
    python -m agents.share --push runs/policy --repo user/my-policy --world-model hf://user/my-robot
    python -m agents.share --pull datasets/user/my-episodes --out data/theirs

Every command takes what is on the Hub without that, as `hf://user/name` or, so that it stays the same,
`hf://user/name@revision`: `--world-model`, `--policy`, `--init`, `--prior` and `--data` download it into the cache.
Only safetensors, json, npz, parquet and mp4 travel; a repository that has pickles only is refused. Uploading needs
`hf auth login` once, or HF_TOKEN in the environment; both need `pip install dream_env[hub]`.
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
    """Uploads a world model, a policy or a data set to the Hugging Face Hub, or downloads one."""

    push: Path | None = None
    """Folder to upload, as a command has written it."""
    repo: str | None = None
    """Where to upload it: user/name. It is made if it is not there."""
    pull: str | None = None
    """What to download: user/name or user/name@revision; of a data set datasets/user/name."""
    out: Path | None = None
    """Folder to download it to, a new one."""
    world_model: str | None = None
    """For a policy that sees through a world model of yours: where that is on the Hub, hf://user/name."""
    branch: str | None = None
    """Branch to upload to; the main one by default."""
    private: bool = False
    """Makes a new repository private."""
    license: str = "mit"
    """Licence in the card, as the Hub abbreviates it: mit, apache-2.0, cc-by-4.0, ..."""

    def __post_init__(self) -> None:
        """Checks what can be checked without files."""
        if (self.push is None) == (self.pull is None):
            raise ValueError("accepted: --push FOLDER --repo user/name, or --pull user/name --out FOLDER")
        if self.push is not None and self.repo is None:
            raise ValueError("push needs --repo user/name")
        if self.pull is not None and self.out is None:
            raise ValueError("pull needs --out FOLDER")


KEEPS_NAMES = True
"""Names on the Hub are not replaced by folders of the cache: here they are what is meant."""


def push(args: Arguments) -> str:
    """Uploads a folder that can be loaded, and returns its name on the Hub."""
    from dream_env.agents.policies import registry
    from dream_env.hub.push import kind_of
    from dream_env.world_models import checkpoint

    assert args.push is not None and args.repo is not None
    kind = kind_of(args.push)
    if kind != "data set":  # of which every file is checked when it is uploaded
        (checkpoint if kind == "world model" else registry).load(args.push)
    return hub.push_to_hub(
        args.push,
        args.repo,
        world_model=args.world_model,
        revision=args.branch,
        private=args.private,
        license=args.license,
    )


def pull(args: Arguments) -> Path:
    """Downloads a repository into a folder of its own, and returns that.

    Raises:
        ValueError: If the folder holds something.
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
