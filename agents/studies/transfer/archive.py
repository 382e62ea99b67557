"""What the transfer experiment has played, in one file: it outlives the machine, policies need not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from dream_env.files import replacing, write_text

KEPT = ("settings.json", "made.json", "trials/*.jsonl")
"""Files of a policy's folder that the report needs; weights are made anew where they are needed."""


def pack(folders: Iterable[Path], file: Path) -> None:
    """Writes what the policies in some folders are, took and played into an archive (tar.xz)."""
    kept = sorted((path, one.parent) for one in folders for pattern in KEPT for path in one.glob(pattern))

    with replacing(file) as part, tarfile.open(part, "w:xz") as archive:
        for path, root in kept:
            entry, data = tarfile.TarInfo(path.relative_to(root).as_posix()), path.read_bytes()
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def unpack(file: Path, runs: Path) -> None:
    """Puts what `pack` kept back into `runs`, where it is not there already.

    Raises:
        ValueError: If the file is damaged, or no such archive.
    """
    try:
        with tarfile.open(file, "r:xz") as archive:
            for entry in archive:
                path, data = Path(entry.name), archive.extractfile(entry)
                astray = path.is_absolute() or ".." in path.parts
                if data is None or astray or not any(path.match(f"*/{pattern}") for pattern in KEPT):
                    raise tarfile.TarError(f"it holds {entry.name!r}")
                if not (runs / path).exists():
                    write_text(runs / path, data.read().decode())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"archive={file} is damaged, or not one of `agents.studies.transfer`: {error}") from error
