"""Conversion of frames to and from parquet columns, PNG encoding of images, and LeRobot's statistics."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
RECOLLECT = "restore the file from a copy, or delete the dataset folder and collect it again if you can"
"""Remedy in messages about missing or damaged files."""


def encode_png(image: np.ndarray) -> bytes:
    """Encodes an image `(H, W, 3)` uint8 as PNG, which is lossless."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def decode_picture(data: bytes) -> np.ndarray:
    """Decodes a PNG or JPEG to `(H, W, 3)` uint8; other color modes are converted to RGB.

    Raises:
        ValueError: If it has more than 8 bits per channel, as depth maps have; colors would be cut off at 255.
    """
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are {image.mode!r}, as those of depth maps; accepted: 8 bits per channel")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def reduced(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reduces an image `(H, W, 3)` uint8 to a shape (h, w, 3); a new pixel is the mean of those that it covers."""
    if image.shape == shape:
        return image
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BOX))


def make_schema(features: Mapping[str, dict]) -> pa.Schema:
    """Builds the schema of LeRobot's data files.

    Args:
        features: Maps each name to `{"dtype", "shape", "names"}`.

    Returns:
        Schema with one field per feature: a scalar, a list of fixed size, or an image `{bytes, path}`; with the
        metadata by which Hugging Face `datasets` recognizes images.
    """
    fields, hints = [], {}
    hint: dict[str, Any]
    for name, feature in features.items():
        dtype, shape = feature["dtype"], feature["shape"]
        if dtype == "image":
            kind, hint = pa.struct({"bytes": pa.binary(), "path": pa.string()}), {"_type": "Image"}
        else:
            kind = pa.type_for_alias(dtype)
            hint = {"dtype": dtype, "_type": "Value"}
            if shape != [1]:
                kind = pa.list_(kind, shape[0])
                hint = {"feature": hint, "length": shape[0], "_type": "Sequence"}
        fields.append(pa.field(name, kind))
        hints[name] = hint
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": hints}})})


def to_arrow(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Converts frames `(rows, ...)` to a column with a type from `make_schema`.

    Consecutive equal images are encoded once, and parquet's dictionary encoding stores them once.
    """
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(values.reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    if not pa.types.is_struct(kind):
        return pa.array(values.reshape(-1), kind)
    pictures: list[dict] = []
    for i, image in enumerate(values):
        same = i > 0 and np.array_equal(image, values[i - 1])
        data = pictures[-1]["bytes"] if same else encode_png(image)
        pictures.append({"bytes": data, "path": f"frame-{i:06d}.png"})
    return pa.array(pictures, kind)


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Converts a column of numbers to `(rows,)`, or a column of lists of equal length to `(rows, size)`.

    Raises:
        ValueError: If it contains nulls, lists of different lengths, or values that are not numbers.
    """
    array = column.combine_chunks()
    rows, width = len(array), None
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        nulls, flat = array.null_count, array.flatten()
        if nulls or (rows and len(flat) % rows) or len(set(np.diff(_offsets(array)))) > 1:
            raise ValueError("it holds nulls, or lists of several lengths")
        width, array = len(flat) // max(rows, 1), flat
    if array.null_count:
        raise ValueError("it holds nulls")
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise ValueError(f"it holds {array.type}, no numbers")
    numbers = array.to_numpy(zero_copy_only=False)
    return numbers if width is None else numbers.reshape(rows, width)


def _offsets(array: pa.Array) -> np.ndarray:
    """Returns the offsets of the lists in an array; empty for lists of fixed size."""
    fixed = pa.types.is_fixed_size_list(array.type)
    return np.zeros(0, int) if fixed else array.offsets.to_numpy(zero_copy_only=False)


def row_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yields the row groups of a parquet file; data files written by this package have one per episode.

    Raises:
        ValueError: If the file is missing or damaged, or lacks a column; the message names the file.
    """
    with _named(path):
        file = _opened(path, columns)
        for i in range(file.num_row_groups):
            yield file.read_row_group(i, columns=columns)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a whole parquet file; raises ValueError as `row_groups` does, and if the file has no rows."""
    with _named(path):
        table = _opened(path, columns).read(columns=columns, use_threads=False)
    if not table.num_rows:
        raise ValueError(f"{path} holds no rows; {RECOLLECT}")
    return table


def _opened(path: Path, columns: Sequence[str] | None) -> pq.ParquetFile:
    file = pq.ParquetFile(path)
    if missing := set(columns or ()) - set(file.schema_arrow.names):
        raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}; {RECOLLECT}")
    return file


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns errors while reading `path` into a ValueError that names the file."""
    try:
        yield
    except (OSError, UnicodeDecodeError, KeyError, pa.ArrowException) as error:  # also if the schema is damaged
        raise ValueError(f"{path} cannot be read ({error}); {RECOLLECT}") from error


def statistics(values: np.ndarray) -> dict[str, list]:
    """Computes the statistics of one feature in one episode, `(rows, ...)`, under LeRobot's names.

    Statistics of images are per channel, in [0, 1], with shape `(3, 1, 1)`. They use every fourth row and column of
    pixels; LeRobot also subsamples.
    """
    shape: tuple[int, ...] = (-1,)
    flat = values.reshape(len(values), -1).astype(np.float64)
    if values.ndim == 4:
        shape = (-1, 1, 1)
        flat = values[:, ::4, ::4].reshape(-1, values.shape[-1]) / 255
    result = {name: getattr(flat, name)(axis=0) for name in ("min", "max", "mean", "std")}
    result |= zip(QUANTILES, np.quantile(flat, list(QUANTILES.values()), axis=0), strict=True)
    lists = {name: value.reshape(shape).tolist() for name, value in result.items()}
    return lists | {"count": [len(values)]}


def flat_statistics(columns: Mapping[str, np.ndarray]) -> dict[str, list]:
    """Returns the statistics of all columns by "stats/FEATURE/STATISTIC"."""
    return {
        f"stats/{key}/{name}": value for key, values in columns.items() for name, value in statistics(values).items()
    }


def aggregate(parts: Mapping[str, np.ndarray]) -> dict[str, list]:
    """Merges the statistics of one feature over episodes; every array is `(episodes, ...)`.

    Mean and standard deviation are exact. Quantiles up to the median are the minimum over episodes, higher ones the
    maximum: bounds rather than estimates, as in LeRobot's `aggregate_feature_stats`.
    """
    mean, count = parts["mean"], parts["count"].reshape(-1, *[1] * (parts["mean"].ndim - 1))
    total = (mean * count).sum(0) / count.sum()
    variance = ((parts["std"] ** 2 + (mean - total) ** 2) * count).sum(0) / count.sum()
    result = {"min": parts["min"].min(0), "max": parts["max"].max(0)}
    result |= {"mean": total, "std": np.sqrt(variance), "count": count.sum().reshape(1)}
    for name, q in QUANTILES.items():
        result[name] = parts[name].min(0) if q <= 0.5 else parts[name].max(0)
    return {name: value.tolist() for name, value in result.items()}
