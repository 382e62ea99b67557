"""Pictures of a data set, decoded once: a cache of arrays that are mapped into memory."""

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
from dream_env.data.parquet import RECOLLECT, decode_picture, row_groups
from dream_env.data.videos import Video
from dream_env.files import replacing
from dream_env.progress import progress_bar


class Wanted(NamedTuple):
    """What is wanted of a column of pictures.

    Attributes:
        shape: Height, width and 3.
        frames: Frames that are wanted, `(K,)` in order: all, or the first of each episode.
        video: Where they are, if not in the data files.
    """

    shape: tuple[int, ...]
    frames: np.ndarray
    video: Video | None = None


def pictures(root: Path, files: Iterable[Path], wanted: Mapping[str, Wanted]) -> dict[str, np.ndarray]:
    """Gives the pictures of some columns, each `(K, H, W, 3)` uint8, from a cache that follows the data files.

    The cache lies beside the data, or in the user's cache folder where they are read-only; if that cannot be written
    to either, pictures are held in memory.

    Raises:
        ImportError: If they are videos, and PyAV is not installed.
        ValueError: If a picture cannot be decoded or is of another size; the message names its file. If there is
            neither space nor memory for them.
    """
    files = list(files)
    if not wanted:
        return {}
    videos = {name: one.video for name, one in wanted.items() if one.video is not None}
    sources = [*files, *(path for video in videos.values() for path in video.files())]
    state = [(path.name, path.parent.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    state += [(name, hashlib.sha256(video.time.tobytes()).hexdigest(), 0, 0) for name, video in videos.items()]
    about = [(name, one.shape, len(one.frames)) for name, one in wanted.items()]
    key = hashlib.sha256(repr((state, about)).encode()).hexdigest()[:16]
    needed = sum(len(one.frames) * prod(one.shape) for one in wanted.values())
    for folder in folders(root):
        paths = {name: folder / f"{name}-{key}.npy" for name in wanted}
        try:
            return {name: _mapped(path, wanted[name]) for name, path in paths.items()}
        except (OSError, ValueError, EOFError):  # not there, or damaged: it is made anew
            pass
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob("[!.]*.npy"):  # what begins with a dot, another process may be writing
                stale.unlink(missing_ok=True)
            if shutil.disk_usage(folder).free < needed:  # a file that is mapped would grow beyond the disk, and crash
                continue
            for name, path in paths.items():
                with replacing(path) as part:
                    one = wanted[name]
                    array = open_memmap(part, "w+", np.uint8, (len(one.frames), *one.shape))
                    _decode(files, name, one, array)
                    array.flush()
            return {name: _mapped(path, wanted[name]) for name, path in paths.items()}
        except OSError:  # no right, or no space
            continue
    if psutil.virtual_memory().available < needed:
        raise ValueError(
            f"{root}: its decoded pictures take {needed / 1e9:.1f} GB; accepted: so much free space in "
            f"{' or '.join(map(str, folders(root)))} (XDG_CACHE_HOME leads elsewhere), or memory"
        )
    arrays = {name: np.empty((len(one.frames), *one.shape), np.uint8) for name, one in wanted.items()}
    for name, held in arrays.items():
        _decode(files, name, wanted[name], held)
    return arrays


def folders(root: Path) -> list[Path]:
    """Lists where the cache of a data set may be: beside the data, else in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    own = [] if hub.named(root) != root else [root / "cache"]  # nothing is written into the Hub's cache
    return [*own, home / "dream_env" / name]


def _mapped(path: Path, one: Wanted) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != (len(one.frames), *one.shape) or array.dtype != np.uint8:
        raise ValueError(f"{path} holds {array.dtype} {array.shape}")
    return array


def _decode(files: Iterable[Path], column: str, one: Wanted, array: np.ndarray) -> None:
    """Decodes the wanted pictures of a column into an array."""
    bar = progress_bar(total=len(one.frames), desc=f"decoding {column}", unit="picture", disable=len(one.frames) < 2500)
    if one.video is not None:
        for places, image in one.video.pictures(one.frames):
            array[places] = _checked(image, one.shape, f"{column} of frame {one.frames[places[0]]}")
            bar.update(len(places))
        bar.close()
        return
    frame = done = 0
    for path in files:
        # Frame by frame: a file that another tool has written anew has other row groups than one per episode.
        for table in row_groups(path, [column]):
            last = frame + table.num_rows
            here = one.frames[done : np.searchsorted(one.frames, last)]
            struct = pa.types.is_struct(table.schema.field(column).type)
            contents = pc.struct_field(table[column], "bytes") if struct else table[column]
            for n, data in zip(here, contents.take(here - frame).to_pylist(), strict=True):
                array[done] = _picture(data, one.shape, f"{path}: {column} of frame {n}")
                done += 1
            bar.update(len(here))
            frame = last
    bar.close()


def _picture(data: object, shape: tuple[int, ...], place: str) -> np.ndarray:
    if not isinstance(data, bytes):
        raise ValueError(f"{place} has no picture in it; {RECOLLECT}")
    try:
        image = decode_picture(data)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{place} cannot be decoded ({error}); {RECOLLECT}") from error
    return _checked(image, shape, place)


def _checked(image: np.ndarray, shape: tuple[int, ...], place: str) -> np.ndarray:
    if image.shape != shape:
        raise ValueError(f"{place} is {image.shape}; accepted: {shape}; {RECOLLECT}")
    return image
