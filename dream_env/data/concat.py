"""Concatenation of arrays without copying them, so that memory-mapped images stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Concat:
    """Arrays joined along their first axis. Indexing and conversion work as on the result of `np.concatenate`.

    Args:
        parts: Arrays `(N_i, ...)` with the same dtype and the same shape apart from the first axis.

    Raises:
        ValueError: If there is no array, or they differ in dtype or shape.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        forms = {(part.dtype.name, part.shape[1:]) for part in parts}
        if len(forms) != 1:
            raise ValueError(f"parts have {sorted(forms)}; accepted: one or more arrays of the same dtype and shape")
        self.parts: list[np.ndarray] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, Concat) else [part]
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.dtype, self.shape = parts[0].dtype, (int(self.starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        """Returns the number of rows."""
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Returns rows at an index, a slice, a mask or indices `(K,)`; several rows are returned as a copy.

        Further keys index the other axes; a key that is an array has one index per row.
        """
        rows, *rest = key if isinstance(key, tuple) else (key,)
        index = np.arange(len(self))[rows]
        part = np.searchsorted(self.starts, index, side="right") - 1
        if index.ndim == 0:
            place = (index - self.starts[part], *rest)
            return self.parts[part][place]
        empty = (index[:0], *(each[:0] if isinstance(each, np.ndarray) else each for each in rest))
        result = np.empty((len(index), *self.parts[0][empty].shape[1:]), self.dtype)
        for i in np.unique(part):
            here = part == i
            others = [each[here] if isinstance(each, np.ndarray) else each for each in rest]
            place = (index[here] - self.starts[i], *others)
            result[here] = self.parts[i][place]
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns all rows as one array."""
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)


def runs(values: Any, begins: np.ndarray, ends: np.ndarray) -> Any:
    """Returns rows `begins[i]` to before `ends[i]`, for all i, of an array or a `Concat`, without a copy."""
    whole = Concat([values])
    pieces = [*zip(whole.parts, whole.starts[:-1], strict=True)]
    cut = [part[max(a - at, 0) : max(b - at, 0)] for a, b in zip(begins, ends, strict=True) for part, at in pieces]
    kept = [part for part in cut if len(part)] or [values[:0]]
    return kept[0] if len(kept) == 1 else Concat(kept)
