"""Concepts in words: how much more a picture fits one text than its opposite.

A pair of texts, such as "a photo with a white background" and "a photo with a dark background",
spans a direction in the space of an encoder that reads pictures and texts alike (CLIP: Radford et
al., ICML 2021; opposite prompts as in Wang, Chan & Loy, "Exploring CLIP for assessing the look and
feel of images", AAAI 2023). A picture's score is its place along it:

    score(v) = v . d,   d = (t_more - t_less) / |t_more - t_less|

with all vectors of unit length. What such a model takes a text to mean is not known in advance, so
a concept that some edit makes is tested on edited pictures against random directions, and every
one is measured again after re-encoding, as the attributes are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from momentary.encoders.protocol import JointEncoder
from momentary.errors import DataError
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.edits import EDITS, edit
from momentary.moments.gallery import Gallery
from momentary.moments.spells import PictureTable
from momentary.moments.stability import LEAST, STEADY, likeness, spread_out, worsened
from momentary.types import Progress, silent

_META = "momentary.prompts"  # where the file keeps what is noisy
_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPair:
    """A concept in words.

    Attributes:
        name: Key, which becomes the name of a column.
        more: What a picture with much of it shows.
        less: What a picture with little of it shows.
        edit: Name of the attribute whose edit makes more of it; "" if there is none to test with.
    """

    name: str
    more: str
    less: str
    edit: str = ""

    def __post_init__(self) -> None:
        if not self.name or self.name == "picture" or self.name in ATTRIBUTES:
            raise ValueError(f"name is {self.name!r}; give one that is not an attribute's.")
        if not self.more.strip() or not self.less.strip() or self.more == self.less:
            raise ValueError(f"{self.name} needs two different texts, more and less.")
        if self.edit and self.edit not in EDITS:
            raise ValueError(f"There is no edit of {self.edit!r}; there are {', '.join(EDITS)}.")


PROMPTS: tuple[PromptPair, ...] = (
    PromptPair(
        name="white_background",
        more="a product photo with a plain white background",
        less="a product photo with a busy, dark background",
        edit="whiteness",
    ),
    PromptPair(
        name="bright",
        more="a bright, well lit photo",
        less="a dark, badly lit photo",
        edit="brightness",
    ),
    PromptPair(
        name="sharp", more="a sharp, detailed photo", less="a blurry photo", edit="sharpness"
    ),
    PromptPair(name="worn", more="a person wearing it", less="it lies alone, without a person"),
    PromptPair(name="premium", more="an expensive luxury product", less="a cheap product"),
)
"""Some to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTest:
    """Does a concept rise when an edit makes more of it?

    Attributes:
        agreement: Share of the pictures in which it does.
        p: Share of random directions along which the same edit moves the pictures as far.
    """

    agreement: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """The concepts of many pictures.

    Attributes:
        table: A column a concept; what does not survive re-encoding is marked noisy there.
        tests: By concept, of those that have an edit and enough pictures.
        aside: Name and reason of each picture that could not be read.
    """

    table: PictureTable
    tests: Mapping[str, PromptTest]
    aside: tuple[tuple[str, str], ...]


def directions(encoder: JointEncoder, pairs: Sequence[PromptPair]) -> NDArray[np.float64]:
    """A direction of unit length for each pair. Shape (pairs, dim).

    Raises:
        DataError: If the encoder cannot tell the two texts of a pair apart.
    """
    more = encoder.encode_texts([each.more for each in pairs]).astype(np.float64)
    less = encoder.encode_texts([each.less for each in pairs]).astype(np.float64)
    apart = more - less
    lengths = np.linalg.norm(apart, axis=1)
    for pair, length in zip(pairs, lengths.tolist(), strict=True):
        if not length > 1e-6:
            raise DataError(
                f"{encoder.version} cannot tell {pair.more!r} from {pair.less!r}; use other words."
            )
    return np.asarray(apart / lengths[:, None])


def score_pictures(
    gallery: Gallery,
    encoder: JointEncoder,
    *,
    pairs: Sequence[PromptPair] = PROMPTS,
    rng: np.random.Generator,
    tested: int = 100,
    progress: Progress = silent,
) -> Prompted:
    """Score every picture on every concept, and test the concepts.

    Args:
        gallery: The pictures.
        encoder: Of pictures and texts.
        pairs: The concepts.
        rng: Draws the random directions.
        tested: Pictures that are edited and re-encoded for the tests, evenly spaced.
        progress: Told from time to time.

    Raises:
        DataError: If two concepts have one name, or the encoder cannot tell a pair's texts apart.
    """
    names = [each.name for each in pairs]
    if len(set(names)) < len(names):
        raise DataError(f"Two concepts have one name: {', '.join(sorted(names))}.")
    along = directions(encoder, pairs)
    read: list[str] = []
    aside: list[tuple[str, str]] = []
    scores: list[NDArray[np.float64]] = []
    for first in range(0, len(gallery.names), _AT_ONCE):
        some = []
        for name in gallery.names[first : first + _AT_ONCE]:
            try:
                some.append(gallery.pixels(name))
                read.append(name)
            except DataError as error:
                aside.append((name, str(error)))
        if some:
            scores.append(encoder.encode_pictures(some).astype(np.float64) @ along.T)
        progress(min(first + _AT_ONCE, len(gallery.names)), len(gallery.names), "pictures")
    if not read:
        raise DataError(f"{gallery.source} holds no picture that can be read.")
    sample = spread_out(read, count=tested)
    enough = len(sample) >= LEAST
    table = PictureTable(
        pictures=tuple(read),
        attributes=tuple(names),
        values=np.concatenate(scores),
        noisy=_unsteady(gallery, encoder, sample, along=along, names=names) if enough else (),
    )
    tests = {
        pair.name: _judge(
            gallery, encoder, sample, direction=along[at], attribute=pair.edit, rng=rng
        )
        for at, pair in enumerate(pairs)
        if pair.edit and enough
    }
    return Prompted(table=table, tests=tests, aside=tuple(aside))


def judge_direction(
    direction: NDArray[np.float64],
    before: NDArray[np.floating],
    after: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    random_directions: int = 999,
) -> PromptTest:
    """Does an edit move pictures along a direction that was not learned from them?

    Args:
        direction: Unit length. Shape (dim,).
        before: Shape (pictures, dim).
        after: The same pictures edited. Shape (pictures, dim).
        rng: Draws random directions, evenly over the sphere.
        random_directions: How many.
    """
    moves = after.astype(np.float64) - before.astype(np.float64)
    mean = moves.mean(axis=0)
    chance = rng.normal(size=(random_directions, len(direction)))
    chance /= np.linalg.norm(chance, axis=1)[:, None]
    beaten = int((chance @ mean >= direction @ mean).sum())
    return PromptTest(
        agreement=float((moves @ direction > 0).mean()), p=(1 + beaten) / (1 + random_directions)
    )


def _judge(
    gallery: Gallery,
    encoder: JointEncoder,
    sample: Sequence[str],
    *,
    direction: NDArray[np.float64],
    attribute: str,
    rng: np.random.Generator,
) -> PromptTest:
    pixels = [gallery.pixels(name) for name in sample]
    less, more = (
        encoder.encode_pictures([edit(each, attribute, strength) for each in pixels])
        for strength in (-0.7, 0.7)
    )
    return judge_direction(direction, less, more, rng=rng)


def _unsteady(
    gallery: Gallery,
    encoder: JointEncoder,
    sample: Sequence[str],
    *,
    along: NDArray[np.float64],
    names: Sequence[str],
) -> tuple[str, ...]:
    """Concepts that do not survive JPEG or half the size."""
    pixels = [gallery.pixels(name) for name in sample]
    worse = [worsened(each) for each in pixels]
    versions = (pixels, [each[0] for each in worse], [each[1] for each in worse])
    was, jpeg, small = (
        encoder.encode_pictures(each).astype(np.float64) @ along.T for each in versions
    )
    return tuple(
        name
        for at, name in enumerate(names)
        if min(likeness(was[:, at], jpeg[:, at]), likeness(was[:, at], small[:, at])) < STEADY
    )


def read_prompts(file: Path) -> tuple[PromptPair, ...]:
    """Read concepts: a JSON list of objects with name, more, less and, if there is one, edit.

    Raises:
        DataError: If the file is missing or is not such a list.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return tuple(PromptPair(**row) for row in rows)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f'{file} is not a list of concepts ({error}); write [{{"name": "worn", "more": "a '
            'person wearing it", "less": "it lies alone"}].'
        ) from error


def write_prompted(found: Prompted, file: Path) -> None:
    """Write one row a picture as Parquet: `picture`, then a column a concept."""
    table = found.table
    columns = {"picture": pa.array(table.pictures, pa.string())}
    columns |= {name: pa.array(table.values[:, at]) for at, name in enumerate(table.attributes)}
    told = json.dumps({"noisy": list(table.noisy)})
    pq.write_table(pa.table(columns).replace_schema_metadata({_META: told}), file)


def read_prompted(file: Path) -> PictureTable:
    """Read what `write_prompted` wrote.

    Raises:
        DataError: If the file is missing or is not such a table.
    """
    try:
        read = pq.read_table(file)
        told = json.loads((read.schema.metadata or {})[_META.encode()])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(
            f"{file} is not a table of concepts ({error}); make one with momentary moments "
            "concepts PICTURES --model NAME --out concepts.parquet."
        ) from error
    names = [name for name in read.column_names if name != "picture"]
    return PictureTable(
        pictures=tuple(read["picture"].to_pylist()),
        attributes=tuple(names),
        values=np.column_stack([read[name].to_numpy() for name in names]).astype(np.float64),
        noisy=tuple(told["noisy"]),
    )


def beside(measured: PictureTable, concepts: PictureTable) -> PictureTable:
    """Attributes and concepts of the pictures that have both, as one table.

    Raises:
        DataError: If no picture has both.
    """
    both = [name for name in measured.pictures if name in set(concepts.pictures)]
    if not both:
        raise DataError("No picture has both attributes and concepts; make both of one folder.")
    return PictureTable(
        pictures=tuple(both),
        attributes=(*measured.attributes, *concepts.attributes),
        values=np.concatenate([measured.of(both), concepts.of(both)], axis=1),
        noisy=(*measured.noisy, *concepts.noisy),
    )
