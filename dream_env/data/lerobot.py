"""Reads and writes the LeRobotDataset v3.0 layout on disk, with pyarrow only.

LeRobot itself is not used, since it needs another Python version than PyBullet. Files, columns, schemas and statistics
follow `src/lerobot/datasets` of huggingface/lerobot (7427f3180, 2026-08).

    meta/info.json                            features, counts, paths; written last, which commits the dataset
    meta/spec.json                            the `WorldSpec`; LeRobot ignores it
    meta/checksums.json                       SHA-256 of every file, verified when a dataset is loaded
    meta/stats.json, meta/tasks.parquet       statistics of every feature; one row per instruction
    meta/episodes/chunk-000/file-000.parquet  one row per episode
    data/chunk-000/file-000.parquet           one row per frame, one row group per episode
    staging/*.parquet                         finished episodes, until `LeRobotStore.consolidate`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dream_env import hub
from dream_env.data.info import INDICES, VERSION, Head, read_info
from dream_env.data.parquet import (
    RECOLLECT,
    aggregate,
    flat_statistics,
    make_schema,
    read_parquet,
    to_arrow,
)
from dream_env.data.told import completed, fullest, untold
from dream_env.files import LOCK, replacing, write_json, write_text
from dream_env.spec import WorldSpec

CHUNK_FILES = 1000
DATA_FILE_MB = 100
PATHS = "chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS = "tasks.parquet"
OWN = ("name", "kind", "task_name", "seed")
"""Columns of meta/episodes that only this package writes; LeRobot's tools drop them."""


class LeRobotStore:
    """A dataset folder. Episodes are staged one by one and then consolidated into the dataset's files.

    Every file is written atomically, and `meta/info.json` last. An interruption at any time loses at most the episode
    that is being written, and `consolidate` can be called again.

    Attributes:
        root: The dataset folder.
    """

    def __init__(self, root: str | Path) -> None:
        """Changes nothing in the folder; a dataset given as `hf://user/name` is downloaded."""
        self.root = Path(hub.folder(root, "dataset")).expanduser()
        self.spec_path = self.root / "meta" / "spec.json"
        self._sums = self.root / "meta" / "checksums.json"
        self._info, self._staging = self.root / "meta" / "info.json", self.root / "staging"

    def check_writable(self) -> None:
        """Raises ValueError if the folder contains anything that this package did not write."""
        if self._info.exists():
            self.info()
            for path in self.files("meta/episodes").values():
                if missing := set(OWN) - set(pq.read_schema(path).names):
                    raise ValueError(
                        f"{path} lacks the columns {', '.join(sorted(missing))}: another tool has written it, so its "
                        "episodes can be loaded, but none can be added; collect into another folder and load both"
                    )
            self.head()
        elif not self._staged_files() and any(path.name not in ("staging", LOCK) for path in self.root.glob("*")):
            raise ValueError(f"{self.root} is not empty and holds no dataset (no {self._info}); choose another folder")

    def head(self) -> Head | None:
        """Returns the header that all episodes share; None if there is no episode yet.

        Raises:
            ValueError: If the dataset was written by another tool or an earlier version.
        """
        if not self._info.exists():
            staged = self._staged_files()
            return self._staged(staged[0])[1] if staged else None
        features = self.info()["features"]
        if not self.spec_path.exists():
            raise ValueError(
                f"{self.root} has no meta/spec.json: an earlier version or another tool has written it, and no episode "
                "can be added; collect into another folder"
            )
        spec = WorldSpec.load(self.spec_path).to_json()
        return Head(spec, {name: feature for name, feature in features.items() if name not in INDICES})

    def stage(
        self, name: str, head: Head, columns: Mapping[str, np.ndarray], instruction: str, extra: Mapping[str, Any]
    ) -> None:
        """Writes one finished episode to the staging folder.

        Args:
            name: Unique name; episodes are consolidated in the order of their names.
            head: Header that all episodes share.
            columns: Frames `(length, ...)` by feature.
            instruction: Language instruction of the episode.
            extra: Additional columns of the episode's row in meta/episodes.
        """
        frame = np.arange(len(next(iter(columns.values()))))
        columns = {**columns, "timestamp": frame / head.fps, "frame_index": frame}
        row = {"tasks": [instruction], "length": len(frame), **extra} | flat_statistics(columns)
        schema = make_schema({**head.features, **INDICES})
        table = pa.table({key: to_arrow(array, schema.field(key).type) for key, array in columns.items()})
        with replacing(self._staging / f"{name}.parquet") as path:
            about = {"episode": json.dumps(row), "head": json.dumps(head._asdict())}
            pq.write_table(table.replace_schema_metadata(about), path)

    def staged(self) -> dict[Path, dict]:
        """Returns the meta/episodes rows of the staged episodes by file, in order.

        Raises:
            ValueError: If a file is damaged or is not a staged episode, or its header differs from the others (except
                in success, see `dream_env.data.told`); the message names the file.
        """
        rows, head = {}, self.head()
        for path in self._staged_files():
            rows[path], found = self._staged(path)
            if head is not None and found != head:
                theirs, ours = untold(head), untold(found)
                if differs := sorted(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)):
                    raise ValueError(
                        f"{path} differs from the episodes of {self.root} in {', '.join(differs)}; delete this file, "
                        "and collect into another folder"
                    )
        return rows

    def _staged(self, path: Path) -> tuple[dict, Head]:
        try:
            about = pq.read_schema(path).metadata or {}
            return json.loads(about[b"episode"]), Head(**json.loads(about[b"head"]))
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise ValueError(f"{path} is no staged episode ({error!r}); delete this file, collect it again") from error

    def names(self) -> list[str]:
        """Returns the names of all episodes, including staged ones; reads only the name column, so it is fast."""
        stored = (read_parquet(path, ["name"])["name"].to_pylist() for path in self.files("meta/episodes").values())
        return [*chain(*stored), *(path.stem for path in self._staged_files())]

    def consolidate(self) -> int:
        """Moves staged episodes into the dataset's files.

        Returns:
            The number of episodes in the dataset.

        Raises:
            ValueError: If the dataset was written by another tool, or is damaged.
        """
        self.check_writable()
        head, staged, rows = self.head(), self.staged(), self.rows(stats=True)
        if not self._info.exists():
            head = fullest([self._staged(path)[1] for path in staged])
        total, known = len(rows), {row["name"] for row in rows}
        waiting = [path for path in staged if path.stem not in known]
        number, old = (
            len(_named(rows)),
            {f"{kind}/{name}" for name in _named(rows) for kind in ("data", "meta/episodes")},
        )
        kept = {name: digest for name, digest in self._known_sums().items() if name in old}
        for path in self._leftovers(rows):
            path.unlink()
        tasks = {task: i for i, task in enumerate(dict.fromkeys(row["tasks"][0] for row in rows))}
        while waiting and head:
            size, group = 0, {}
            while waiting and size < DATA_FILE_MB * 2**20:
                path = waiting.pop(0)
                size, group[path] = size + path.stat().st_size, staged[path]
            rows += self._write_file(number, head, group, rows, tasks)
            number += 1
        if len(rows) > total and head:
            self._write_meta(head, rows, tasks, kept)
        for path in [*staged, *self._staging.glob(".*")]:
            path.unlink()
        return len(rows)

    def _write_file(
        self, number: int, head: Head, staged: dict[Path, dict], before: list[dict], tasks: dict[str, int]
    ) -> list[dict]:
        """Writes one data file and its meta/episodes file; returns the rows of the latter."""
        chunk, file = divmod(number, CHUNK_FILES)
        name = PATHS.format(chunk_index=chunk, file_index=file)
        start = before[-1]["dataset_to_index"] if before else 0
        rows: list[dict] = []
        schema = make_schema({**head.features, **INDICES})
        # The context managers exit in reverse order: meta/episodes is moved into place before the data file, so that
        # every data file has rows that describe it.
        with (
            replacing(self.root / "data" / name) as data,
            replacing(self.root / "meta" / "episodes" / name) as meta,
            pq.ParquetWriter(data, schema) as writer,
        ):
            for source, row in staged.items():
                table, row = completed(read_parquet(source), row, schema)
                length, task = row["length"], row["tasks"][0]
                indices = {
                    "episode_index": np.full(length, len(before) + len(rows)),
                    "index": start + np.arange(length),
                    "task_index": np.full(length, tasks.setdefault(task, len(tasks))),
                }
                for key, values in indices.items():
                    table = table.append_column(key, to_arrow(values, schema.field(key).type))
                writer.write_table(table.select(schema.names).cast(schema))
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
                rows.append(places | row | flat_statistics(indices))
                start += length
            pq.write_table(pa.Table.from_pylist(rows), meta)
        return rows

    def _write_meta(self, head: Head, rows: Sequence[dict], tasks: Mapping[str, int], kept: Mapping[str, str]) -> None:
        """Writes tasks, checksums, spec, statistics and finally info.json."""
        features = {**head.features, **INDICES}
        table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
        # LeRobot looks up tasks by the index of a pandas DataFrame, which this metadata defines.
        kinds = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
        column = {"name": "task", "field_name": "task", **kinds}
        index = {"index_columns": ["task"], "columns": [column], "column_indexes": []}
        with replacing(self._info.parent / TASKS) as path:
            pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(index)}), path)
        parts: dict[str, dict] = {name: {} for name in features}
        for key in rows[0]:
            if key.startswith("stats/"):
                feature, statistic = key.removeprefix("stats/").rsplit("/", 1)
                parts[feature][statistic] = np.array([row[key] for row in rows])
        info = {
            "codebase_version": VERSION,
            "robot_type": head.spec["name"],
            "fps": head.fps,
            "total_episodes": len(rows),
            "total_frames": rows[-1]["dataset_to_index"],
            "total_tasks": len(tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_FILE_MB,
            "video_files_size_in_mb": 200,
            "splits": {"train": f"0:{len(rows)}"},
            "data_path": f"data/{PATHS}",
            "video_path": None,
            "features": features,
        }
        stats = {feature: aggregate(values) for feature, values in parts.items()}
        contents = {self.spec_path: head.spec, self._info.with_name("stats.json"): stats, self._info: info}
        texts = {path: json.dumps(content, indent=4) for path, content in contents.items()}
        sums = {self._name(path): hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
        for path in (*self.files("data").values(), *self.files("meta/episodes").values(), self._info.parent / TASKS):
            sums[self._name(path)] = kept.get(self._name(path)) or checksum(path)
        write_json(self._sums, sums)
        for path, text in texts.items():
            write_text(path, text)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _known_sums(self) -> dict[str, str]:
        """Returns the checksums by file; {} if there are none, as in datasets of other tools."""
        if not self._sums.exists():
            return {}
        try:
            return dict(json.loads(self._sums.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{self._sums} is damaged ({error}); delete it, or {RECOLLECT}") from error

    def verify(self) -> None:
        """Raises ValueError, with a remedy, if a file does not match its checksum."""
        for name, digest in self._known_sums().items():
            path = self.root / name
            if not path.is_file() or checksum(path) != digest:
                raise ValueError(
                    f"{path} is damaged: its SHA-256 is not that of meta/checksums.json; {RECOLLECT}; if it was "
                    f"changed on purpose, delete {self._sums}"
                )

    def info(self) -> dict[str, Any]:
        """Reads and checks meta/info.json.

        Raises:
            FileNotFoundError: If there is no dataset, or only staged episodes.
            ValueError: If it is not valid JSON, or not the info of a LeRobotDataset v3.0.
        """
        if not self._info.exists():
            if self._staged_files():
                raise FileNotFoundError(f"{self.root} holds staged episodes only; {self._repair()}")
            raise FileNotFoundError(
                f"no dataset in {self.root} (meta/info.json is missing); "
                f"make one with: python -m agents.collect --out {self.root}"
            )
        return read_info(self._info)

    def rows(self, stats: bool = False) -> list[dict]:
        """Returns the meta/episodes rows of the episodes that info.json counts.

        Additional rows and data files are accepted if their episodes are still staged: an interrupted consolidation
        leaves them.

        Args:
            stats: Whether to include the columns with statistics.

        Raises:
            ValueError: If a file is missing or damaged.
        """
        total, rows = self.info()["total_episodes"] if self._info.exists() else 0, []
        for path in self.files("meta/episodes").values():
            table = read_parquet(path)
            if missing := _PLACES - set(table.column_names):
                raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}; {RECOLLECT}")
            if nulls := [name for name in {*_PLACES, *OWN} & {*table.column_names} if table[name].null_count]:
                raise ValueError(f"{path} holds nulls in {', '.join(sorted(nulls))}; {RECOLLECT}")
            names = [name for name in table.column_names if stats or not name.startswith("stats/")]
            rows += table.select(names).to_pylist()
        uncounted, staged = {row.get("name") for row in rows[total:]}, {path.stem for path in self._staged_files()}
        counted = [row["episode_index"] for row in rows[:total]]
        if len(counted) != total or counted != list(range(len(counted))) or uncounted - staged:
            raise ValueError(
                f"{self.root}/meta has lost a file: meta/episodes holds {len(rows)} episodes, and meta/info.json "
                f"counts {total}; {RECOLLECT}"
            )
        data = self.files("data").keys()
        if lost := (_named(rows[:total]) - data) | (data - _named(rows)):
            raise ValueError(f"{self.root}: data or meta/episodes has lost {', '.join(sorted(lost))}; {RECOLLECT}")
        return rows[:total]

    def episodes(self) -> list[dict]:
        """Returns the meta/episodes row of every episode of a complete dataset.

        Raises:
            FileNotFoundError: As in `info`.
            ValueError: If the dataset has another layout, is damaged, or is only partly consolidated.
        """
        total, rows = self.info()["total_episodes"], self.rows()
        if self._leftovers(rows):
            raise ValueError(
                f"{self.root} was interrupted while episodes beyond its {total} were consolidated; {self._repair()}"
            )
        return rows

    def files(self, folder: str) -> dict[str, Path]:
        """Returns the numbered files in "data" or "meta/episodes" by their name in the form of `PATHS`, in order."""
        paths = sorted((self.root / folder).glob("chunk-*/file-*.parquet"))
        return {path.relative_to(self.root / folder).as_posix(): path for path in paths}

    def _leftovers(self, rows: Sequence[dict]) -> list[Path]:
        """Returns the files that no row refers to, which an interrupted consolidation leaves.

        Returns nothing for datasets of other tools, whose meta/episodes files may be named differently from data files.
        """
        if rows and "name" not in rows[0]:
            return []
        named, files = _named(rows), (*self.files("data").items(), *self.files("meta/episodes").items())
        return [path for name, path in files if name not in named]

    def _staged_files(self) -> list[Path]:
        return sorted(self._staging.glob("[!.]*.parquet"))

    def _repair(self) -> str:
        return f"repair it with: python -m dream_env.data.episodes {self.root}"


_PLACES = {"episode_index", "tasks", "length", "data/chunk_index", "data/file_index"}
"""Columns of LeRobot's meta/episodes that are needed for reading."""


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()


def _named(rows: Sequence[dict]) -> set[str]:
    """Returns the file names, in the form of `PATHS`, that rows refer to; equal in data and meta/episodes."""
    places = {(row["data/chunk_index"], row["data/file_index"]) for row in rows}
    return {PATHS.format(chunk_index=chunk, file_index=file) for chunk, file in places}
