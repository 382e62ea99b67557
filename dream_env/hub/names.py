"""Names of what lies on the Hub, `hf://user/name@revision`, and the folders of the local cache that they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RepoType = Literal["model", "dataset"]
ACCEPTED = "hf://user/name, hf://user/name@revision, and hf://datasets/user/name for a data set"
_PREFIX = re.compile(r"hf:/{1,2}")  # pathlib makes hf:/ of hf://
_NAME = re.compile(
    r"hf:/{1,2}(?:(?P<type>models|datasets)/)?(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-][\w./-]*))?/?"
)
_CACHED = re.compile(r"(?P<type>models|datasets)--(?P<user>.+?)--(?P<name>.+)")
"""Folder of a repository in the cache of `huggingface_hub`; snapshots/COMMIT lies in it."""


@dataclass(frozen=True)
class HubName:
    """A repository on the Hub, and a revision of it.

    Attributes:
        repo: "user/name".
        revision: Branch, tag or commit; None for the newest.
        type: Kind of repository; None where the name does not tell.
    """

    repo: str
    revision: str | None = None
    type: RepoType | None = None

    @classmethod
    def parse(cls, name: str | Path) -> HubName:
        """Reads a name.

        Raises:
            ValueError: If it is none.
        """
        found = _NAME.fullmatch(str(name))
        if not found:
            raise ValueError(f"{str(name)!r} is no name on the Hub; accepted: {ACCEPTED}")
        kinds: dict[str | None, RepoType] = {"models": "model", "datasets": "dataset"}
        return cls(found["repo"], found["revision"], kinds.get(found["type"]))

    def __str__(self) -> str:
        """Returns the name as it is written."""
        kind = "datasets/" if self.type == "dataset" else ""
        return f"hf://{kind}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: object) -> bool:
    """Tells whether a text or path names something on the Hub."""
    return isinstance(name, str | Path) and _PREFIX.match(str(name)) is not None


def named(value: object) -> object:
    """Returns `hf://user/name@commit` for a folder of the Hub's cache; everything else stays as it is.

    Such names, and not the folders of one machine, are written into configs and cards.
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
    """Returns a short name for a folder: that of the repository for one of the Hub's cache, else its last part."""
    name = named(path)
    return HubName.parse(str(name)).repo.split("/")[1] if is_hub_name(name) else Path(path).name
