"""Item x picture-version spells: what an analysis of pictures reads, whatever it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from momentary.errors import DataError
from momentary.moments.estimates import Matrix
from momentary.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Spells:
    """One row for each item, picture version and calendar period in which it was shown.

    Attributes:
        item: Index into `items`. Shape (spells,).
        picture: Index into `pictures`. Shape (spells,).
        period: Calendar period, from 0. Shape (spells,).
        items: Ids.
        pictures: Ids.
        exposure: By what a rate is per, such as "impression", weighted by the chance that its
            position was examined. Each of shape (spells,).
        counts: Events by outcome. Each of shape (spells,).
        numbers: What else was going on, such as log price and rank. Shape (spells, numbers).
        names: Of the columns of `numbers`.
        randomized: True where chance chose the picture among those of its item and period, for
            each visitor. Shape (spells,).
        examination: Chance that a position is examined against the first; empty where positions
            are unknown. Shape (positions,).
        warnings: Plain sentences about the exposures.
    """

    item: IntArray
    picture: IntArray
    period: IntArray
    items: tuple[str, ...]
    pictures: tuple[str, ...]
    exposure: Mapping[str, Matrix]
    counts: Mapping[str, Matrix]
    numbers: Matrix
    names: tuple[str, ...]
    randomized: BoolArray
    examination: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.item)
        columns = {
            "picture": self.picture,
            "period": self.period,
            "randomized": self.randomized,
            "numbers": self.numbers,
            **self.exposure,
            **self.counts,
        }
        for name, column in columns.items():
            if len(column) != rows:
                raise ValueError(f"{name} has {len(column)} rows, but there are {rows} spells.")
        if self.numbers.shape[1] != len(self.names):
            raise ValueError(
                f"numbers has {self.numbers.shape[1]} columns and {len(self.names)} names."
            )

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTable:
    """Measured attributes of pictures.

    Attributes:
        pictures: Ids. Shape (pictures,).
        attributes: Names of the columns.
        values: In each attribute's own unit. Shape (pictures, attributes).
        noisy: Names of attributes that do not survive re-encoding.
    """

    pictures: tuple[str, ...]
    attributes: tuple[str, ...]
    values: Matrix
    noisy: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.pictures), len(self.attributes)):
            raise ValueError(
                f"values has shape {self.values.shape}; {len(self.pictures)} pictures with "
                f"{len(self.attributes)} attributes need as many rows and columns."
            )
        if not np.isfinite(self.values).all():
            raise ValueError("values holds numbers that are not finite; leave such pictures out.")

    def of(self, pictures: Sequence[str]) -> Matrix:
        """The values of these pictures, in their order. Shape (pictures, attributes).

        Raises:
            DataError: If one of them was not measured.
        """
        place = {picture: row for row, picture in enumerate(self.pictures)}
        missing = [picture for picture in pictures if picture not in place]
        if missing:
            raise DataError(
                f"{len(missing)} pictures were shown but not measured, such as {missing[0]!r}; "
                "measure them, or leave their spells out."
            )
        return self.values[[place[picture] for picture in pictures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What is known of items beside their pictures.

    Attributes:
        items: Ids. Shape (items,).
        category: Of each item, "" where unknown. Shape (items,).
        numbers: Such as log list price; NaN where unknown. Shape (items, numbers).
        names: Of the columns of `numbers`.
    """

    items: tuple[str, ...]
    category: tuple[str, ...]
    numbers: Matrix
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.category) != len(self.items) or self.numbers.shape != (
            len(self.items),
            len(self.names),
        ):
            raise ValueError(
                f"{len(self.items)} items have {len(self.category)} categories, and numbers of "
                f"shape {self.numbers.shape} with {len(self.names)} names; each item has one each."
            )

    def of(self, items: Sequence[str]) -> tuple[IntArray, tuple[str, ...], Matrix, tuple[str, ...]]:
        """Facts of these items: category index, category names, numbers, names of numbers.

        A missing number becomes the mean, and a column of its own says where it was missing.
        """
        place = {item: row for row, item in enumerate(self.items)}
        rows = np.array([place.get(item, -1) for item in items], dtype=np.int64)
        known = rows >= 0
        labels = np.array([*self.category, ""], dtype=np.object_)[rows]
        categories, index = np.unique(labels.astype(str), return_inverse=True)
        values = np.full((len(items), len(self.names)), np.nan)
        values[known] = self.numbers[rows[known]]
        missing = ~np.isfinite(values)
        columns, names = [], []
        for column, name in enumerate(self.names):
            there = values[~missing[:, column], column]
            filled = np.where(
                missing[:, column], there.mean() if len(there) else 0.0, values[:, column]
            )
            columns.append(filled)
            names.append(name)
            if missing[:, column].any():
                columns.append(missing[:, column].astype(np.float64))
                names.append(f"{name} unknown")
        joined = np.stack(columns, axis=1) if columns else np.empty((len(items), 0))
        return index.astype(np.int64), tuple(categories.tolist()), joined, tuple(names)
