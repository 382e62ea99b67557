"""Atomic file writes, and locks for folders that only one process may write to at a time."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCK = ".lock"
"""Name of the lock file in an output folder; it contains one line about the process that writes there."""
_HELD: set[str] = set()
_HOST = re.sub(r"\W", "-", socket.gethostname())
_FULL = re.compile(r"unexpected pos|os error 28|No space left")  # torch and safetensors raise no OSError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path, and moves it to `path` at the end unless an error occurred.

    The temporary name has the same suffix as `path`, since some writers choose the format by it. The file gets the mode
    set by the umask, whatever mode its writer chose. Temporary files left by killed writers of `path` are removed.

    Raises:
        OSError: If the disk is full or the folder is not writable; the message names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    temporary = path.with_name(f".{_HOST}.{os.getpid()}.{threading.get_native_id()}.{path.name}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        os.chmod(temporary, mode)  # safetensors creates files with mode 0600
        os.replace(temporary, path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.ENOSPC or not _full(error):
            raise
        raise OSError(errno.ENOSPC, "no space left on the disk", str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def nan_to_none(value: Any, digits: int | None = None) -> Any:
    """Converts nested dicts and sequences for JSON, which has no NaN: NaN becomes None.

    Args:
        value: The value.
        digits: Significant digits that floats are rounded to; None keeps them.
    """
    if isinstance(value, Mapping):
        return {key: nan_to_none(part, digits) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [nan_to_none(part, digits) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else value if digits is None else float(f"{value:.{digits}g}")
    return value


def check_npz(path: str | os.PathLike[str]) -> None:
    """Checks that the array sizes in the headers of an .npz match its contents, before numpy allocates the arrays.

    Raises:
        ValueError: If they do not match, or the file contains anything else than arrays of numbers and strings.
        OSError: If the file cannot be read.
    """
    import math
    import zipfile

    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    version = npy.read_magic(file)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, kind = read(file)
                    held, packed = entry.file_size - file.tell(), entry.compress_size
                if kind.hasobject or math.prod(shape) * kind.itemsize != held or held > 1100 * packed + 1024:
                    raise ValueError(f"{entry.filename} of shape {shape}, {kind}, does not hold {held} bytes of that")
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Locks an output folder for this process while the context is active.

    Args:
        folder: The folder. It is created if needed, and removed at the end if it was created here and is empty.

    Raises:
        ValueError: If another process writes there; the message names it.
        OSError: If the folder is not writable.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    place = str(folder.resolve())
    if place in _HELD:  # this process holds the lock: a command that runs inside another one
        yield
        return
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        raise ValueError(
            f"out={folder} is being written by {owner or 'another process'}; accepted: another folder, or wait for it"
        ) from None
    _HELD.add(place)
    try:
        words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        file.write_text(f"process {os.getpid()} on {_HOST}: {words[:200]}\n", encoding="utf-8")
        yield
    finally:
        _HELD.discard(place)
        file.unlink(missing_ok=True)  # before the release, so that waiting processes notice
        lock.release()
        if made:
            with suppress(OSError):
                folder.rmdir()


def _full(error: Exception) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or _FULL.search(str(error)) is not None


def _remove_stale(path: Path) -> None:
    """Removes temporary files of `path` whose writers ran on this machine and no longer exist."""
    with suppress(OSError):
        for file in path.parent.glob(f".*.{path.name.replace('[', '[[]')}"):
            # Version 0.1.0 named them .PID.NAME.
            found = re.fullmatch(rf"\.(?:{re.escape(_HOST)}\.)?(\d+)(?:\.\d+)?\.{re.escape(path.name)}", file.name)
            if found and not _alive(int(found[1])):
                file.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
