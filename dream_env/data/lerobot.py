"""The LeRobotDataset v3.0 layout on disk, written and read with pyarrow alone.

LeRobot needs another interpreter than PyBullet, so the layout is met by contract: files, columns,
schemas and statistics follow `src/lerobot/datasets` of huggingface/lerobot (7427f3180, 2026-08).

    meta/info.json                            features, counts, paths; written last, it commits all
    meta/stats.json, meta/tasks.parquet       statistics of every feature; one row per instruction
    meta/episodes/chunk-000/file-000.parquet  one row per episode
    data/chunk-000/file-000.parquet           one row per frame, one row group per episode
    staging/*.parquet                         finished episodes, until `LeRobotStore.consolidate`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dream_env.data.parquet import RECOLLECT, aggregate, make_schema, read_parquet, statistics, to_arrow
from dream_env.files import replacing

VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_FILE_MB = 100
PATHS = "chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_INDEX = {"dtype": "int64", "shape": [1], "names": None}
INDICES: dict[str, dict] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": _INDEX,
    "episode_index": _INDEX,
    "index": _INDEX,
    "task_index": _INDEX,
}
"""Features of every LeRobot dataset; the last three are known once episodes are consolidated."""


class LeRobotStore:
    """A dataset folder to which episodes are staged one by one and then consolidated.

    Every file is written beside its place and moved there, and `meta/info.json` comes last: an
    interruption at any moment loses at most the episode in hand, and `consolidate` may be called
    again at any time.

    Attributes:
        root: The dataset folder.
        features: Feature to `{"dtype", "shape", "names"}`, `INDICES` included.
        schema: Schema of the data files.
    """

    def __init__(self, root: str | Path, features: Mapping[str, dict], robot_type: str, fps: int) -> None:
        """Touches nothing on disk; `features` are those of a frame without `INDICES`."""
        self.root = Path(root)
        self.features = {**features, **INDICES}
        self.schema = make_schema(self.features)
        self._fps = fps
        self._fixed = {"codebase_version": VERSION, "robot_type": robot_type, "fps": fps}
        self._info, self._staging = self.root / "meta" / "info.json", self.root / "staging"

    def check_writable(self) -> None:
        """Raises ValueError if the folder holds something else than such a dataset."""
        if self._info.exists():
            self.info()
        elif not self._staged_files() and any(path != self._staging for path in self.root.glob("*")):
            raise ValueError(f"{self.root} is not empty and holds no dataset (no {self._info}); choose another folder")

    def stage(self, name: str, columns: Mapping[str, np.ndarray], instruction: str, extra: Mapping[str, Any]) -> None:
        """Writes one finished episode to the staging folder.

        Args:
            name: Unique name; episodes are consolidated in the order of their names.
            columns: Feature to frames `(length, ...)`.
            instruction: The episode's task in words.
            extra: Further columns of the episode's row in meta/episodes.
        """
        frame = np.arange(len(next(iter(columns.values()))))
        columns = {**columns, "timestamp": frame / self._fps, "frame_index": frame}
        row = {"tasks": [instruction], "length": len(frame), **extra} | _flatten(columns)
        table = pa.table({key: self._column(key, array) for key, array in columns.items()})
        with replacing(self._staging / f"{name}.parquet") as path:
            pq.write_table(table.replace_schema_metadata({"episode": json.dumps(row)}), path)

    def staged(self) -> dict[Path, dict]:
        """Returns the rows of the staged episodes, in order.

        Raises:
            ValueError: If a file is damaged or something else; the message names it.
        """
        rows = {}
        for path in self._staged_files():
            try:
                rows[path] = json.loads((pq.read_schema(path).metadata or {})[b"episode"])
            except (OSError, KeyError, ValueError, pa.ArrowException) as error:
                raise ValueError(
                    f"{path} is no staged episode ({error!r}); delete this file, collect it again"
                ) from error
        return rows

    def names(self) -> list[str]:
        """Returns the names of all episodes, staged ones included; quick among thousands too."""
        stored = (read_parquet(path, ["name"])["name"].to_pylist() for path in self.files("meta/episodes").values())
        return [*chain(*stored), *(path.stem for path in self._staged_files())]

    def consolidate(self) -> int:
        """Moves staged episodes to the dataset's own files; returns the number of all episodes.

        Raises:
            ValueError: If the dataset is foreign or damaged.
        """
        self.check_writable()
        staged, rows = self.staged(), self.rows(stats=True)
        total, known = len(rows), {row["name"] for row in rows}
        waiting = [path for path in staged if path.stem not in known]
        number = len(_named(rows))
        for path in self._leftovers(rows):
            path.unlink()
        tasks = {task: i for i, task in enumerate(dict.fromkeys(row["tasks"][0] for row in rows))}
        while waiting:
            size, group = 0, {}
            while waiting and size < DATA_FILE_MB * 2**20:
                path = waiting.pop(0)
                size, group[path] = size + path.stat().st_size, staged[path]
            rows += self._write_file(number, group, rows, tasks)
            number += 1
        if len(rows) > total:
            self._write_meta(rows, tasks)
        for path in [*staged, *self._staging.glob(".*")]:
            path.unlink()
        return len(rows)

    def _column(self, name: str, values: np.ndarray) -> pa.Array:
        return to_arrow(values, self.schema.field(name).type)

    def _write_file(
        self, number: int, staged: dict[Path, dict], before: list[dict], tasks: dict[str, int]
    ) -> list[dict]:
        """Writes one data file and its file of episodes; returns the rows of the latter."""
        chunk, file = divmod(number, CHUNK_FILES)
        name = PATHS.format(chunk_index=chunk, file_index=file)
        start = before[-1]["dataset_to_index"] if before else 0
        rows: list[dict] = []
        # Rows take their place before the data file does: there is none without rows that tell whose it is.
        with (
            replacing(self.root / "data" / name) as data,
            replacing(self.root / "meta" / "episodes" / name) as meta,
            pq.ParquetWriter(data, self.schema) as writer,
        ):
            for source, row in staged.items():
                table, length, task = read_parquet(source), row["length"], row["tasks"][0]
                indices = {
                    "episode_index": np.full(length, len(before) + len(rows)),
                    "index": start + np.arange(length),
                    "task_index": np.full(length, tasks.setdefault(task, len(tasks))),
                }
                for key, values in indices.items():
                    table = table.append_column(key, self._column(key, values))
                writer.write_table(table.select(self.schema.names).cast(self.schema))
                places = {
                    "episode_index": len(before) + len(rows),
                    "name": source.stem,
                    "data/chunk_index": chunk,
                    "data/file_index": file,
                    "dataset_from_index": start,
                    "dataset_to_index": start + length,
                    "meta/episodes/chunk_index": chunk,
                    "meta/episodes/file_index": file,
                }
                rows.append(places | row | _flatten(indices))
                start += length
            pq.write_table(pa.Table.from_pylist(rows), meta)
        return rows

    def _write_meta(self, rows: Sequence[dict], tasks: Mapping[str, int]) -> None:
        """Writes tasks, statistics and, last of all, info.json."""
        table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
        # LeRobot looks tasks up by the index of a pandas frame, which this metadata names.
        kinds = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        column = {"name": "task", "field_name": "task", **kinds}
        index = {"index_columns": ["task"], "columns": [column], "column_indexes": []}
        with replacing(self.root / "meta" / "tasks.parquet") as path:
            pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(index)}), path)
        parts: dict[str, dict] = {name: {} for name in self.features}
        for key in rows[0]:
            if key.startswith("stats/"):
                _, feature, statistic = key.split("/")
                parts[feature][statistic] = np.array([row[key] for row in rows])
        info = {
            **self._fixed,
            "total_episodes": len(rows),
            "total_frames": rows[-1]["dataset_to_index"],
            "total_tasks": len(tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(rows)}"},
            "data_path": f"data/{PATHS}",
            "video_path": None,
            "features": self.features,
        }
        stats = {feature: aggregate(values) for feature, values in parts.items()}
        for target, content in ((self._info.with_name("stats.json"), stats), (self._info, info)):
            with replacing(target) as path:
                path.write_text(json.dumps(content, indent=4), encoding="utf-8")

    def info(self) -> dict[str, Any]:
        """Reads and checks meta/info.json.

        Raises:
            FileNotFoundError: If there is no dataset, or only staged episodes.
            ValueError: If it is not JSON or belongs to another kind of dataset.
        """
        if not self._info.exists():
            if self._staged_files():
                raise FileNotFoundError(f"{self.root} holds staged episodes only; {self._repair()}")
            raise FileNotFoundError(
                f"no dataset in {self.root} (meta/info.json is missing); "
                f"make one with: python -m agents.collect --out {self.root}"
            )
        try:
            info = json.loads(self._info.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self._info} is not JSON ({error}); {RECOLLECT}") from error
        found, features = {key: info.get(key) for key in self._fixed}, info.get("features", {})
        given = found | {key: features.get(key) for key in self.features}
        for key, value in (self._fixed | self.features).items():
            if given[key] != value:
                raise ValueError(
                    f"{self._info}: {key} is {given[key]!r}; accepted: {value!r}. The dataset is "
                    f"of another robot or version: choose another folder, or {RECOLLECT}"
                )
        return info

    def rows(self, stats: bool = False) -> list[dict]:
        """Reads the row of every episode that info.json counts.

        Raises:
            ValueError: If a file is lost. Further rows and data files are no damage as long as their episodes are
                staged: an interrupted consolidation left them.
        """
        total, rows = self.info()["total_episodes"] if self._info.exists() else 0, []
        for path in self.files("meta/episodes").values():
            table = read_parquet(path)
            names = [name for name in table.column_names if stats or not name.startswith("stats/")]
            rows += table.select(names).to_pylist()
        uncounted, staged = {row["name"] for row in rows[total:]}, {path.stem for path in self._staged_files()}
        if [row["episode_index"] for row in rows[:total]] != list(range(total)) or uncounted - staged:
            raise ValueError(
                f"{self.root}/meta has lost a file: meta/episodes holds {len(rows)} episodes, and meta/info.json "
                f"counts {total}; {RECOLLECT}"
            )
        data = self.files("data").keys()
        if lost := (_named(rows[:total]) - data) | (data - _named(rows)):
            raise ValueError(f"{self.root}: data or meta/episodes has lost {', '.join(sorted(lost))}; {RECOLLECT}")
        return rows[:total]

    def episodes(self) -> list[dict]:
        """Reads the row of every episode.

        Raises:
            FileNotFoundError: See `info`.
            ValueError: If the dataset is foreign, damaged or half consolidated.
        """
        total, rows = self.info()["total_episodes"], self.rows()
        if self._leftovers(rows):
            raise ValueError(
                f"{self.root} was interrupted while episodes beyond its {total} were consolidated; {self._repair()}"
            )
        return rows

    def files(self, folder: str) -> dict[str, Path]:
        """Returns the numbered files of "data" or "meta/episodes" by their `PATHS`, in order."""
        paths = sorted((self.root / folder).glob("chunk-*/file-*.parquet"))
        return {path.relative_to(self.root / folder).as_posix(): path for path in paths}

    def _leftovers(self, rows: Sequence[dict]) -> list[Path]:
        """Returns the files that none of the dataset's rows names: an interrupted consolidation's."""
        named, files = _named(rows), (*self.files("data").items(), *self.files("meta/episodes").items())
        return [path for name, path in files if name not in named]

    def _staged_files(self) -> list[Path]:
        return sorted(self._staging.glob("[!.]*.parquet"))

    def _repair(self) -> str:
        return f"repair it with: python -m dream_env.data.episodes {self.root}"


def _named(rows: Sequence[dict]) -> set[str]:
    """Returns the `PATHS` of the files of these rows, the same in data as in meta/episodes."""
    places = {(row["data/chunk_index"], row["data/file_index"]) for row in rows}
    return {PATHS.format(chunk_index=chunk, file_index=file) for chunk, file in places}


def _flatten(columns: Mapping[str, np.ndarray]) -> dict[str, list]:
    """Returns the statistics of all columns as "stats/<feature>/<statistic>"."""
    return {
        f"stats/{key}/{name}": value for key, values in columns.items() for name, value in statistics(values).items()
    }
