"""The texts, pictures, sounds and films of a catalogue to vectors, resumably.

A vector is kept under the id of its item. Where an item names no file, one is taken whose name is
the item's id (`mug-1.jpg` for `mug-1`). An address that was fetched once is not fetched again, but
for the asking; files are read again, and encoded again only if what they hold has changed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from momentary.encoders.audio import is_silent
from momentary.encoders.defaults import Kit, decoder
from momentary.encoders.media import PICTURES, MediaLimits, files_in, read_media
from momentary.encoders.protocol import Modality
from momentary.encoders.store import EncodeReport, VectorStore, encode_all
from momentary.encoders.text import item_text
from momentary.encoders.video import VideoLimits, read_film
from momentary.errors import DataError
from momentary.types import Item, Progress, silent

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aiff", ".aif")
FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
_SUFFIXES: Mapping[Modality, tuple[str, ...]] = {
    "image": PICTURES,
    "audio": SOUNDS,
    "video": FILMS,
}
_ADDRESS = ("http://", "https://")
_FETCHED = "\x1ffetched:"
"""Before an address that was fetched; nobody begins an id so."""

LARGEST_MB: Mapping[Modality, int] = {"text": 50, "image": 50, "audio": 500, "video": 500}
"""Files that are read by default, in millions of bytes."""

_BATCH: Mapping[Modality, int] = {"text": 256, "image": 32, "audio": 8, "video": 2}

Source = tuple[str, bytes | DataError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where media may come from.

    Attributes:
        limits: Allowed folders and addresses, and sizes.
        archives: ZIP or tar files whose members are named as items name them, or by the items' ids.
        refetch: Whether addresses are fetched again that were fetched before.
    """

    limits: MediaLimits
    archives: tuple[Path, ...] = ()
    refetch: bool = False


@dataclass(slots=True)
class _Wanted:
    """Which items want which file."""

    by_name: dict[str, list[str]] = field(default_factory=dict)
    unnamed: set[str] = field(default_factory=set)

    def takers(self, name: str) -> list[str]:
        """The items that want a file, by the name they give it or by their ids."""
        file = PurePosixPath(name.replace(os.sep, "/"))
        wanting = [*self.by_name.get(name, ()), *self.by_name.get(file.name, ())]
        if file.stem in self.unnamed:
            wanting.append(file.stem)
        return list(dict.fromkeys(wanting))


def encode_items(
    items: Sequence[Item],
    kit: Kit,
    store: VectorStore,
    *,
    places: Places,
    progress: Progress = silent,
) -> EncodeReport:
    """Encode one modality of items; what is there already is not encoded again.

    Args:
        items: Whose texts or media.
        kit: Encoders of the modality.
        store: Where the vectors go, under the items' ids.
        places: Where media may come from.
        progress: Told after every batch.
    """
    encoders = [view.encoder for view in kit.views]
    for view in kit.views:
        store.use(view.name, view.encoder.version)
    seen = set[str]()
    if kit.modality != "text" and not places.refetch:
        seen = _seen_addresses(items, kit.modality, store, encoders=[e.version for e in encoders])
    sources, total = _sources(items, kit.modality, places=places, seen=seen)
    addresses = 0

    def counted() -> Iterator[Source]:
        nonlocal addresses
        for source in sources:
            addresses += source[0].startswith(_FETCHED)
            yield source

    report = encode_all(
        counted(),
        encoders,
        store,
        decode=decoder(kit.modality, limits=places.limits),
        batch=_BATCH[kit.modality],
        total=total,
        progress=progress,
    )
    aside = tuple(each for each in report.set_aside if not each[0].startswith(_FETCHED))
    kept = addresses - (len(report.set_aside) - len(aside))
    skipped = sum(1 for item in items if seen and getattr(item, kit.modality) in seen)
    return EncodeReport(
        encoded=report.encoded, known=report.known - kept + skipped, set_aside=aside
    )


def kinds_there(places: Places) -> set[Modality]:
    """The kinds of media that folders and archives hold, by the endings of names.

    Raises:
        DataError: If an archive cannot be read.
    """
    found = set[Modality]()
    for modality, suffixes in _SUFFIXES.items():
        for place in (*places.limits.folders, *places.archives):
            own = replace(places.limits, folders=(place.absolute().parent,))
            if next(files_in(place, limits=own, suffixes=suffixes), None) is not None:
                found.add(modality)
                break
    return found


def encode_sound_tracks(
    items: Sequence[Item],
    kit: Kit,
    store: VectorStore,
    *,
    places: Places,
    progress: Progress = silent,
) -> EncodeReport:
    """Encode the sound tracks of films for items that have no sound of their own.

    Films that cannot be read or are silent are passed over: the pictures' encoding names them.

    Args:
        items: Whose films.
        kit: Encoders of sounds.
        store: Where the vectors go, under the items' ids.
        places: Where films may come from.
        progress: Told after every batch.
    """

    def heard(_name: str, content: bytes) -> object:
        sound = read_film(content, limits=VideoLimits(max_bytes=places.limits.max_bytes)).sound
        if sound is None:
            raise DataError("it has no sound track.")
        if is_silent(sound):
            raise DataError("its sound track is silent.")
        return sound

    mute = [item for item in items if item.video and not item.audio]
    for view in kit.views:
        store.use(view.name, view.encoder.version)
    report = encode_all(
        _media(mute, "video", places=places),
        [view.encoder for view in kit.views],
        store,
        decode=heard,
        batch=_BATCH["video"],
        total=len(mute),
        progress=progress,
    )
    return EncodeReport(encoded=report.encoded, known=report.known, set_aside=())


def read_source(source: str, *, limits: MediaLimits) -> bytes:
    """What an item's picture, sound or film holds; a path may be relative to an allowed folder.

    Raises:
        DataError: With the reason why it cannot be used.
    """
    if source.startswith(_ADDRESS) or Path(source).is_absolute():
        return read_media(source, limits=limits)
    if "://" in source:
        raise DataError(f"{source.partition('://')[0]} addresses are not read; http and https are.")
    found = [folder / source for folder in limits.folders if (folder / source).exists()]
    if not found:
        raise DataError("there is no such file in the allowed folders.")
    return read_media(str(found[0]), limits=limits)


def _sources(
    items: Sequence[Item], modality: Modality, *, places: Places, seen: Collection[str]
) -> tuple[Iterable[Source], int]:
    """What is to be encoded, and about how much that is."""
    if modality == "text":
        written = [(item.item_id, item_text(item)) for item in items]
        texts = [(item_id, text.encode()) for item_id, text in written if text]
        return texts, len(texts)
    named = sum(1 for item in items if getattr(item, modality))
    return _media(items, modality, places=places, seen=seen), named


def _media(
    items: Sequence[Item], modality: Modality, *, places: Places, seen: Collection[str] = ()
) -> Iterator[Source]:
    """Every item's file or address, then the members of archives and files named by ids.

    Args:
        items: Whose media.
        modality: Which.
        places: Where they may come from.
        seen: Addresses that need not be fetched.
    """
    wanted = _Wanted()
    for item in items:
        source: str | None = getattr(item, modality)
        if source is None:
            wanted.unnamed.add(item.item_id)
        elif source.startswith(_ADDRESS):
            if source not in seen:
                content = _or_reason(source, places.limits)
                yield item.item_id, content
                if isinstance(content, bytes):
                    yield _FETCHED + source, content
        elif places.archives and not _is_file(source, places.limits):
            wanted.by_name.setdefault(source, []).append(item.item_id)
        else:
            yield item.item_id, _or_reason(source, places.limits)
    yield from _by_name(wanted, places, suffixes=_SUFFIXES[modality])


def _by_name(wanted: _Wanted, places: Places, *, suffixes: tuple[str, ...]) -> Iterator[Source]:
    """What archives and folders hold for the items, and what is nowhere."""
    found: set[str] = set()
    for place in (*places.archives, *(places.limits.folders if wanted.unnamed else ())):
        for name, content in _named(place, wanted, limits=places.limits, suffixes=suffixes):
            if name not in found:
                yield name, content
            found.add(name)
    for source, takers in wanted.by_name.items():
        for item_id in takers:
            if item_id not in found:
                yield item_id, DataError(f"{source} is in no folder and no archive.")


def _named(
    place: Path, wanted: _Wanted, *, limits: MediaLimits, suffixes: tuple[str, ...]
) -> Iterator[Source]:
    """The files of one place that some item wants, under the items' ids."""
    if not place.is_dir():
        # Whoever names an archive allows it, and nothing beside it.
        own = replace(limits, folders=(place.absolute().parent,))
        for name, content in files_in(place, limits=own, suffixes=suffixes):
            for item_id in wanted.takers(name):
                yield item_id, content
        return
    for file in sorted(place.rglob("*")):
        if file.suffix.lower() in suffixes and file.stem in wanted.unnamed:
            yield file.stem, _or_reason(str(file.absolute()), limits)


def _seen_addresses(
    items: Sequence[Item], modality: Modality, store: VectorStore, *, encoders: Sequence[str]
) -> set[str]:
    """Addresses whose content every encoder has seen; the items get its vectors."""
    names = {
        item.item_id: _FETCHED + source
        for item in items
        if (source := getattr(item, modality)) is not None and source.startswith(_ADDRESS)
    }
    known = [store.digests(encoder, list(names.values())) for encoder in encoders]
    everywhere = set(names.values()).intersection(*known)
    for encoder, digests in zip(encoders, known, strict=True):
        linked = [(item_id, digests[name]) for item_id, name in names.items() if name in everywhere]
        store.put(encoder, vectors={}, names=linked)
    return {name.removeprefix(_FETCHED) for name in everywhere}


def _is_file(source: str, limits: MediaLimits) -> bool:
    return any((folder / source).is_file() for folder in limits.folders)


def _or_reason(source: str, limits: MediaLimits) -> bytes | DataError:
    try:
        return read_source(source, limits=limits)
    except DataError as error:
        return error
