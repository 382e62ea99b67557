"""Names on the Hub, `hf://user/name@revision`, and their folders in the local cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RepoType = Literal["model", "dataset"]
ACCEPTED = "hf://user/name, hf://user/name@revision, and hf://datasets/user/name for a data set"
_PREFIX = re.compile(r"hf:/{1,2}")  # pathlib turns hf:// into hf:/
_NAME = re.compile(
    r"hf:/{1,2}(?:(?P<type>models|datasets)/)?(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-][\w./-]*))?/?"
)
_CACHED = re.compile(r"(?P<type>models|datasets)--(?P<user>.+?)--(?P<name>.+)")
"""Folder name of a repository in the cache of `huggingface_hub`; it contains snapshots/COMMIT."""


@dataclass(frozen=True)
class HubName:
    """A repository on the Hub at a revision.

    Attributes:
        repo: "user/name".
        revision: Branch, tag or commit; None for the latest.
        type: Type of repository; None if the name does not include it.
    """

    repo: str
    revision: str | None = None
    type: RepoType | None = None

    @classmethod
    def parse(cls, name: str | Path) -> HubName:
        """Parses a name.

        Raises:
            ValueError: If it is not a valid name.
        """
        found = _NAME.fullmatch(str(name))
        if not found:
            raise ValueError(f"{str(name)!r} is no name on the Hub; accepted: {ACCEPTED}")
        kinds: dict[str | None, RepoType] = {"models": "model", "datasets": "dataset"}
        return cls(found["repo"], found["revision"], kinds.get(found["type"]))

    def __str__(self) -> str:
        """Returns the name in the form `hf://...`."""
        kind = "datasets/" if self.type == "dataset" else ""
        return f"hf://{kind}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: object) -> bool:
    """Returns whether a string or path is a name on the Hub."""
    return isinstance(name, str | Path) and _PREFIX.match(str(name)) is not None


def named(value: object) -> object:
    """Returns `hf://user/name@commit` for a folder in the Hub's cache, and any other value unchanged.

    Configs and cards contain these names instead of local paths, so that they are valid on other machines.
    """
    if not isinstance(value, str | Path) or "--" not in str(value):
        return value
    text, equals, path = str(value).rpartition("=")  # LABEL=PATH
    parts = Path(path).parts
    if len(parts) < 3 or parts[-2] != "snapshots" or not (found := _CACHED.fullmatch(parts[-3])):
        return value
    kind: RepoType = "dataset" if found["type"] == "datasets" else "model"
    repo = "/".join(found.group("user", "name"))
    return f"{text}{equals}{HubName(repo, parts[-1], kind)}"


def label(path: str | Path) -> str:
    """Returns a short name for a folder: the name of the repository if it is in the Hub's cache, else its last part."""
    name = named(path)
    return HubName.parse(str(name)).repo.split("/")[1] if is_hub_name(name) else Path(path).name
