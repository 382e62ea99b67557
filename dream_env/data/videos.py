"""Reads images of a LeRobotDataset that are stored as videos; frames are located by their timestamps.

A video file contains the images of one camera for several consecutive episodes; meta/episodes has the time in the file
at which each episode starts. Videos are decoded with PyAV, which LeRobot also uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dream_env.data.parquet import RECOLLECT

TOLERANCE = 0.2
"""Accepted difference between the time of an image and that of its frame, as a fraction of the time between images."""


@dataclass
class Video:
    """Location of the images of one column.

    Attributes:
        path: Video file of every episode.
        time: Time of every frame within its video file in seconds, `(F,)`.
        offsets: Index of the first frame of every episode, and F at the end, `(N + 1,)`.
        fps: Frames per second of the dataset.
    """

    path: list[Path]
    time: np.ndarray
    offsets: np.ndarray
    fps: float

    @classmethod
    def of(
        cls,
        root: Path,
        info: Mapping[str, Any],
        rows: Sequence[dict],
        column: str,
        offsets: np.ndarray,
        time: np.ndarray,
    ) -> Video:
        """Locates the images of a column from the metadata of a dataset.

        Args:
            root: Folder of the dataset.
            info: Content of meta/info.json.
            rows: Rows of meta/episodes.
            column: Name of the column.
            offsets: Index of the first frame of every episode, and F at the end, `(N + 1,)`.
            time: `timestamp` of every frame, in seconds since the start of its episode, `(F,)`.

        Raises:
            ValueError: If the metadata is incomplete.
        """
        keys = [f"videos/{column}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        if missing := [key for key in keys if any(row.get(key) is None for row in rows)]:
            raise ValueError(f"{root}/meta/episodes lacks the columns {', '.join(missing)}; {RECOLLECT}")
        try:
            places = [
                info["video_path"].format(video_key=column, chunk_index=row[keys[0]], file_index=row[keys[1]])
                for row in rows
            ]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{root}/meta/info.json: video_path is {info.get('video_path')!r}; accepted: with {{video_key}}, "
                "{chunk_index} and {file_index}"
            ) from error
        begins = np.repeat([float(row[keys[2]]) for row in rows], np.diff(offsets))
        return cls([root / place for place in places], begins + time, offsets, float(info["fps"]))

    def files(self) -> list[Path]:
        """Returns the video files without duplicates.

        Raises:
            ValueError: If a file is missing.
        """
        files = list(dict.fromkeys(self.path))
        if lost := [str(path) for path in files if not path.is_file()]:
            raise ValueError(f"{', '.join(lost)}: no such video; {RECOLLECT}")
        return files

    def pictures(
        self, frames: np.ndarray, stored: tuple[int, ...], shape: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Decodes the images of frames; every image is decoded once.

        Args:
            frames: Indices of frames, `(K,)`.
            stored: Shape of the images in the files, (H, W, 3).
            shape: Shape to which they are reduced, (h, w, 3).

        Yields:
            The positions in `frames` that show an image, and the image `(h, w, 3)` uint8.

        Raises:
            ImportError: If PyAV is not installed.
            ValueError: If a file is missing or truncated, cannot be decoded, has images of another shape than `stored`,
                or has no image for a frame.
        """
        episode = np.searchsorted(self.offsets, frames, "right") - 1
        number = {path: i for i, path in enumerate(self.files())}
        file = np.array([number[path] for path in self.path])[episode]
        for path, i in number.items():
            here = np.flatnonzero(file == i)
            here = here[np.argsort(self.time[frames[here]], kind="stable")]
            yield from self._decoded(path, here, frames[here], stored, shape)

    def _decoded(
        self, path: Path, places: np.ndarray, frames: np.ndarray, stored: tuple[int, ...], shape: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Decodes frames of one file, in the order of their times."""
        try:
            import av
        except ImportError as error:
            raise ImportError(f"{path} is a video, which needs PyAV: pip install 'dream_env[video]'") from error
        times = self.time[frames]
        done = number = 0
        last = 0.0
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                rate = float(stream.average_rate or self.fps)
                near = TOLERANCE / max(rate, self.fps)
                for picture in container.decode(stream):
                    if done == len(times):
                        break
                    number, last = number + 1, float(picture.time or 0)
                    if times[done] < last - near:
                        raise ValueError(
                            f"{path} has no picture at {times[done]:.3f} s for {self._name(frames[done])}, and "
                            f"{rate:g} a second; accepted: {self.fps:g} a second, one for every frame; {RECOLLECT}"
                        )
                    end = int(np.searchsorted(times, last + near, "right"))
                    if end > done:
                        if (given := (picture.height, picture.width, 3)) != stored:
                            raise ValueError(
                                f"{path}: {self._name(frames[done])} is {given}; accepted: {stored}; {RECOLLECT}"
                            )
                        # FFmpeg reduces while it converts to RGB, by the mean of the pixels that a new one covers.
                        yield (
                            places[done:end],
                            picture.to_ndarray(format="rgb24", height=shape[0], width=shape[1], interpolation="AREA"),
                        )
                        done = end
        except (av.FFmpegError, IndexError) as error:  # IndexError: the file has no video stream
            raise ValueError(f"{path} cannot be decoded after {number} pictures ({error}); {RECOLLECT}") from error
        if done < len(times):
            raise ValueError(
                f"{path} ends after {number} pictures, at {last:.3f} s; accepted: one at {times[done]:.3f} s, too, for "
                f"{self._name(frames[done])}; {RECOLLECT}"
            )

    def _name(self, frame: int) -> str:
        """Describes a frame by its position in its episode, for messages."""
        episode = int(np.searchsorted(self.offsets, frame, "right")) - 1
        return f"frame {frame - self.offsets[episode]} of episode {episode}"
