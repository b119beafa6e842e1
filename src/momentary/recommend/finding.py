"""Finding items: by meaning and by words together, by a picture, or by a sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from momentary.data.catalog import Catalog
from momentary.errors import DataError
from momentary.recommend.alike import content_reasons
from momentary.recommend.content import Alike, ContentIndex
from momentary.recommend.encoded import read_encoded
from momentary.recommend.learned import joined_kinds
from momentary.recommend.search import TextIndex
from momentary.types import FloatArray, Recommendation

MEANINGLESS = "hashed-words/"
"""How the version of an encoder begins whose vectors know words and no meaning."""

_FUSION = 10.0
_DEEP = 4
_LEAST_DEEP = 50


def find_by_content(
    catalog: Catalog, file: Path, query: Mapping[str, FloatArray], *, k: int, plain: bool = False
) -> tuple[list[Recommendation], str]:
    """Items like a picture or a sound that no item has, and how they were found.

    Args:
        catalog: Whose items.
        file: The vectors that `momentary encode` kept.
        query: What the encoders say of it, by view; views that no item has are left out.
        k: Most items.
        plain: Whether what was learned from labels is left out.

    Raises:
        DataError: If no item has any of the views.
    """
    encoded = read_encoded(catalog, file)
    index = encoded.index(learned=encoded.learned)
    found = found_by_content(index, query, k=k, plain=plain)
    return found, encoded.trouble or said_of(index, query, plain=plain)


def said_of(index: ContentIndex, views: Iterable[str], *, plain: bool = False) -> str:
    """How items are found by some views, if by more than the content alone; otherwise ""."""
    learned = index.learned
    if plain or learned is None or not learned.model.centers.keys() & set(views):
        return ""
    return f"by the likeness learned from {joined_kinds(learned.kinds)}; --plain leaves it out"


def found_by_content(
    index: ContentIndex, query: Mapping[str, FloatArray], *, k: int, plain: bool = False
) -> list[Recommendation]:
    """The same list from an index that is there already."""
    usable = {name: vector for name, vector in query.items() if name in index.views}
    if not usable:
        raise DataError(f"no item has a {' or '.join(query)} to compare with; encode them first.")
    return _listed(index.search(usable, k, plain=plain))


def find_by_text(
    catalog: Catalog, file: Path, text: str, *, k: int, plain: bool = False
) -> tuple[list[Recommendation], str]:
    """Items that fit a text, and a note on how they were found, or what was not possible.

    By meaning and by words where a sentence encoder has seen the catalogue, otherwise by words.
    """
    with closing(TextIndex(item for item in catalog.items() if not item.hidden)) as words:
        by_words = words.search(text, limit=max(_DEEP * k, _LEAST_DEEP))
    encoded = read_encoded(catalog, file)
    version = encoded.encoders.get("text")
    if version is None or version.startswith(MEANINGLESS):
        note = "by words alone: no sentence encoder has seen the catalogue (momentary encode)"
        return fused_hits([], by_words, k=k), note
    from momentary.encoders.defaults import load_kit, models_of

    kit = load_kit("text", model=models_of(encoded.encoders).get("text"))
    if kit.views[0].encoder.version != version:
        note = f"by words alone: the texts were encoded by {version}, which is not at hand"
        return fused_hits([], by_words, k=k), note
    vector = kit.encode(text)["text"]
    index = encoded.index(learned=encoded.learned)
    by_meaning = index.search({"text": vector}, max(_DEEP * k, _LEAST_DEEP), plain=plain)
    note = encoded.trouble or said_of(index, ["text"], plain=plain)
    return fused_hits([each.item_id for each in by_meaning], by_words, k=k), note


def fused_hits(
    by_meaning: Sequence[str], by_words: Sequence[tuple[str, float]], *, k: int
) -> list[Recommendation]:
    """One list of two: sum over both of 1 / (10 + rank), brought to 1 for the best.

    Reciprocal rank fusion (Cormack, Clarke & Buettcher, SIGIR 2009), which needs no common scale.

    >>> [each.item_id for each in fused_hits(["a", "b"], [("b", 1.0), ("c", 0.5)], k=2)]
    ['b', 'a']
    """
    scores: dict[str, float] = {}
    said: dict[str, list[str]] = {}
    lists = (("fits by meaning", by_meaning), ("holds the words", [each for each, _ in by_words]))
    for reason, ids in lists:
        for rank, item_id in enumerate(ids, start=1):
            scores[item_id] = scores.get(item_id, 0.0) + 1 / (_FUSION + rank)
            said.setdefault(item_id, []).append(reason)
    best = sorted(scores, key=lambda each: (-scores[each], each))[:k]
    top = scores[best[0]] if best else 1.0
    return [
        Recommendation(
            item_id=item_id,
            score=round(scores[item_id] / top, 6),
            rank=rank,
            reasons=tuple(said[item_id]),
        )
        for rank, item_id in enumerate(best, start=1)
    ]


def _listed(found: Sequence[Alike]) -> list[Recommendation]:
    return [
        Recommendation(
            item_id=each.item_id, score=each.similarity, rank=rank, reasons=content_reasons(each)
        )
        for rank, each in enumerate(found, start=1)
    ]
