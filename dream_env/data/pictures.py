"""Cache of the decoded images of a dataset, as memory-mapped arrays."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib.format import open_memmap

from dream_env import hub
from dream_env.data.parquet import RECOLLECT, decode_picture, reduced, row_groups
from dream_env.data.videos import Video
from dream_env.files import replacing
from dream_env.progress import progress_bar


class Wanted(NamedTuple):
    """Request for the images of one column.

    Attributes:
        shape: Shape to which images are reduced, (h, w, 3).
        stored: Shape of an image in the dataset, (H, W, 3).
        frames: Indices of the requested frames in ascending order, `(K,)`: all, or the first of each episode.
        video: Location of the images if the column is stored as video; None if they are in the data files.
    """

    shape: tuple[int, ...]
    stored: tuple[int, ...]
    frames: np.ndarray
    video: Video | None = None


def pictures(root: Path, files: Iterable[Path], wanted: Mapping[str, Wanted]) -> dict[str, np.ndarray]:
    """Returns the images of columns by name, `(K, h, w, 3)` uint8 each; they are decoded once and cached.

    The cache is rebuilt when the data files change; of an interrupted one, the finished columns are kept. It is in the
    dataset's folder, or in the user's cache folder if that is read-only. If neither is writable or has enough space,
    the images are kept in memory.

    Args:
        root: Folder of the dataset.
        files: Data files in order.
        wanted: Requests by column.

    Raises:
        ImportError: If a column is a video and PyAV is not installed.
        ValueError: If an image cannot be decoded or has another size (the message names its file), or if there is not
            enough disk space or memory.
    """
    files = list(files)
    if not wanted:
        return {}
    videos = {name: request.video for name, request in wanted.items() if request.video is not None}
    sources = [*files, *(path for video in videos.values() for path in video.files())]
    state = [(path.name, path.parent.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    state += [(name, hashlib.sha256(video.time.tobytes()).hexdigest(), 0, 0) for name, video in videos.items()]
    about = [(name, request.shape, len(request.frames)) for name, request in wanted.items()]
    key = hashlib.sha256(repr((state, about)).encode()).hexdigest()[:16]
    size = {name: len(request.frames) * prod(request.shape) for name, request in wanted.items()}
    needed = sum(size.values())
    for folder in folders(root):
        paths = {name: folder / f"{name}-{key}.npy" for name in wanted}
        lost = [name for name, path in paths.items() if not _is_cached(path, wanted[name])]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in {*folder.glob("[!.]*.npy")} - {*paths.values()} if lost else ():
                stale.unlink(missing_ok=True)  # another process may be writing files with a leading dot
            # Writing to a mapped file on a full disk would crash.
            if lost and shutil.disk_usage(folder).free < sum(size[name] for name in lost):
                continue
            for name in lost:
                with replacing(paths[name]) as part:
                    request = wanted[name]
                    array = open_memmap(part, "w+", np.uint8, (len(request.frames), *request.shape))
                    _decode(files, name, request, array)
                    array.flush()
            return {name: _mapped(path, wanted[name]) for name, path in paths.items()}
        except OSError:  # no permission, or no space
            continue
    if psutil.virtual_memory().available < needed:
        raise ValueError(
            f"{root}: its decoded pictures take {needed / 1e9:.1f} GB; accepted: that much free space in "
            f"{' or '.join(map(str, folders(root)))} (set XDG_CACHE_HOME for another folder), or memory; "
            "DREAM_ENV_PICTURE_SIDE makes the pictures of other tools smaller"
        )
    arrays = {name: np.empty((len(request.frames), *request.shape), np.uint8) for name, request in wanted.items()}
    for name, held in arrays.items():
        _decode(files, name, wanted[name], held)
    return arrays


def folders(root: Path) -> list[Path]:
    """Returns the possible cache folders of a dataset: in its own folder, and in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    inside = [] if hub.named(root) != root else [root / "cache"]  # do not write into the cache of the Hub
    return [*inside, home / "dream_env" / name]


def _is_cached(path: Path, request: Wanted) -> bool:
    try:
        _mapped(path, request)
    except (OSError, ValueError, EOFError):  # missing or damaged
        return False
    return True


def _mapped(path: Path, request: Wanted) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != (len(request.frames), *request.shape) or array.dtype != np.uint8:
        raise ValueError(f"{path} holds {array.dtype} {array.shape}")
    return array


def _decode(files: Iterable[Path], column: str, request: Wanted, array: np.ndarray) -> None:
    """Decodes the requested images of a column into an array."""
    bar = progress_bar(
        total=len(request.frames), desc=f"decoding {column}", unit="picture", disable=len(request.frames) < 2500
    )
    if request.video is not None:
        for places, image in request.video.pictures(request.frames, request.stored, request.shape):
            array[places] = image
            bar.update(len(places))
        bar.close()
        return
    frame = done = 0
    for path in files:
        # Count frames instead of row groups: other tools may not write one row group per episode.
        for table in row_groups(path, [column]):
            last = frame + table.num_rows
            here = request.frames[done : np.searchsorted(request.frames, last)]
            struct = pa.types.is_struct(table.schema.field(column).type)
            contents = pc.struct_field(table[column], "bytes") if struct else table[column]
            for n, data in zip(here, contents.take(here - frame).to_pylist(), strict=True):
                array[done] = _picture(data, request, f"{path}: {column} of frame {n}")
                done += 1
            bar.update(len(here))
            frame = last
    bar.close()


def _picture(data: object, request: Wanted, place: str) -> np.ndarray:
    if not isinstance(data, bytes):
        raise ValueError(f"{place} has no picture in it; {RECOLLECT}")
    try:
        image = decode_picture(data)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{place} cannot be decoded ({error}); {RECOLLECT}") from error
    if image.shape != request.stored:
        raise ValueError(f"{place} is {image.shape}; accepted: {request.stored}; {RECOLLECT}")
    return reduced(image, request.shape)
