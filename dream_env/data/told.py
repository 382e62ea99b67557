"""Success of a dataset's episodes, only some of which may tell it.

An environment may tell success in the last step of an episode only. An episode that is cut off before then tells none.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dream_env.data.columns import HOLDS, SUCCESS
from dream_env.data.info import Head
from dream_env.data.parquet import flat_statistics, to_arrow

TOLD = (HOLDS, SUCCESS)
"""Columns that an episode may have or lack, whatever the others of its dataset have."""


def untold(head: Head) -> dict[str, Any]:
    """Returns the header's spec and features, without those of success."""
    return {"spec": head.spec} | {name: feature for name, feature in head.features.items() if name not in TOLD}


def fullest(heads: Sequence[Head]) -> Head | None:
    """Returns a header with success if there is one, else any; None if there are none."""
    return max(heads, key=lambda head: len(head.features), default=None)


def completed(table: pa.Table, row: Mapping[str, Any], schema: pa.Schema) -> tuple[pa.Table, dict[str, Any]]:
    """Gives an episode the columns of success that its dataset has.

    Args:
        table: Frames of the episode.
        row: Row of the episode in meta/episodes.
        schema: Schema of the dataset's frames.

    Returns:
        Both, with success False if the dataset has success and the episode tells none, and without success, with a
        warning, if the dataset has none.
    """
    asked, given = ({*TOLD} & {*names} for names in (schema.names, table.column_names))
    row = dict(row)
    for name in sorted(asked - given):
        kind = schema.field(name).type
        values = np.zeros(table.num_rows, kind.to_pandas_dtype())
        table = table.append_column(name, to_arrow(values, kind))
        row |= flat_statistics({name: values}) | {"success": False}
    if given - asked:
        warnings.warn(
            "the folder's episodes tell no success, so it is dropped from those that are added; collect them into "
            "another folder to keep it",
            stacklevel=2,
        )
        dropped = tuple(f"stats/{name}/" for name in given)
        row = {key: value for key, value in row.items() if key != "success" and not key.startswith(dropped)}
    return table, row
