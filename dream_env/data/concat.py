"""Arrays that stand one after the other and are not copied for it: pictures on disk stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Concat:
    """Arrays joined along their first axis; it can be indexed, and made an array, as what `np.concatenate` gives.

    Args:
        parts: Arrays `(N_i, ...)` of one type, alike but for their lengths.

    Raises:
        ValueError: If there are none, or they differ.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        forms = {(part.dtype.name, part.shape[1:]) for part in parts}
        if len(forms) != 1:
            raise ValueError(f"parts are of {sorted(forms)}; accepted: one or more of one type and shape")
        self.parts: list[np.ndarray] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, Concat) else [part]
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.dtype, self.shape = parts[0].dtype, (int(self.starts[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Returns rows, as a copy unless it is a single one: a number, a slice, a mask or indices `(K,)`.

        With more keys, the second may hold an index for each of the rows.
        """
        rows, *rest = key if isinstance(key, tuple) else (key,)
        index = np.arange(len(self))[rows]
        part = np.searchsorted(self.starts, index, side="right") - 1
        if index.ndim == 0:
            one = (index - self.starts[part], *rest)
            return self.parts[part][one]
        some = (index[:0], *(each[:0] if isinstance(each, np.ndarray) else each for each in rest))
        result = np.empty((len(index), *self.parts[0][some].shape[1:]), self.dtype)
        for i in np.unique(part):
            here = part == i
            own = [each[here] if isinstance(each, np.ndarray) else each for each in rest]
            some = (index[here] - self.starts[i], *own)
            result[here] = self.parts[i][some]
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Makes one array of all rows."""
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)
