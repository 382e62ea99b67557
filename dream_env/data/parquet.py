"""Frames as parquet columns: types, pictures as PNG, and the statistics that LeRobot keeps."""

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
RECOLLECT = "restore the file, or delete the dataset folder and collect it again"
"""The remedy where a file is lost or damaged."""


def encode_png(image: np.ndarray) -> bytes:
    """Encodes a picture `(H, W, 3)` uint8 without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def decode_picture(data: bytes) -> np.ndarray:
    """Decodes a PNG or JPEG to `(H, W, 3)` uint8; gray pictures become gray RGB."""
    image = Image.open(io.BytesIO(data))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def make_schema(features: Mapping[str, dict]) -> pa.Schema:
    """Builds the schema of LeRobot's data files.

    Args:
        features: Name to `{"dtype", "shape", "names"}`.

    Returns:
        One field per feature: a scalar, a list of fixed size, or a picture `{bytes, path}`; with
        the metadata by which Hugging Face `datasets` knows the pictures.
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
    """Converts frames `(rows, ...)` to a column of a type of `make_schema`.

    Equal pictures in a row are encoded once, and parquet's dictionary then stores them once.
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
    """Converts a column of numbers, or of lists of one length, to `(rows,)` or `(rows, size)`.

    Raises:
        ValueError: If it holds nulls, lists of several lengths, or no numbers.
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
    """Returns where the lists of an array begin; those of a fixed size need none."""
    fixed = pa.types.is_fixed_size_list(array.type)
    return np.zeros(0, int) if fixed else array.offsets.to_numpy(zero_copy_only=False)


def row_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Reads a parquet file, row group by row group: data files hold one per episode.

    Raises:
        ValueError: If the file is missing or damaged, or lacks a column; the message names it.
    """
    with _named(path):
        file = _opened(path, columns)
        for i in range(file.num_row_groups):
            yield file.read_row_group(i, columns=columns)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a parquet file whole; raises as `row_groups` does, and if it is empty."""
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
    """Names the file in what its reader raises."""
    try:
        yield
    except (OSError, UnicodeDecodeError, KeyError, pa.ArrowException) as error:  # of a damaged schema, too
        raise ValueError(f"{path} cannot be read ({error}); {RECOLLECT}") from error


def statistics(values: np.ndarray) -> dict[str, list]:
    """Computes one episode's statistics of a feature, `(rows, ...)`, as LeRobot names them.

    Those of pictures are per channel, in [0, 1] and of shape `(3, 1, 1)`, from every fourth row and
    column of pixels: LeRobot samples too.
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


def aggregate(parts: Mapping[str, np.ndarray]) -> dict[str, list]:
    """Merges one feature's statistics over episodes; every array is `(episodes, ...)`.

    Mean and deviation are exact; quantiles are the envelope of LeRobot's `aggregate_feature_stats`.
    """
    mean, count = parts["mean"], parts["count"].reshape(-1, *[1] * (parts["mean"].ndim - 1))
    total = (mean * count).sum(0) / count.sum()
    variance = ((parts["std"] ** 2 + (mean - total) ** 2) * count).sum(0) / count.sum()
    result = {"min": parts["min"].min(0), "max": parts["max"].max(0)}
    result |= {"mean": total, "std": np.sqrt(variance), "count": count.sum().reshape(1)}
    for name, q in QUANTILES.items():
        result[name] = parts[name].min(0) if q <= 0.5 else parts[name].max(0)
    return {name: value.tolist() for name, value in result.items()}
