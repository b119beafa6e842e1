"""Which encoders look at an item: the best that are installed, or a plain one that says so.

A view is what one encoder sees of a kind of content; a picture has two (what it shows, and its
colours), a sound up to three. Vectors of one view compare; those of two views never do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from momentary.encoders.protocol import Encoder, Modality
from momentary.encoders.revisions import split_model
from momentary.errors import DataError, SettingsError
from momentary.types import FloatArray

if TYPE_CHECKING:
    from momentary.encoders.audio import AudioLimits
    from momentary.encoders.media import MediaLimits
    from momentary.encoders.video import VideoLimits

_LONGEST_TEXT = 100_000
_MAKERS = ("transformers", "sentence-transformers")
_FILM = "film-1:"
_SEEN_BY: Mapping[str, Modality] = {
    "text": "text",
    "image": "image",
    "sound": "audio",
    "film": "video",
}
"""The views that a model of the hub may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One encoder at work.

    Attributes:
        name: One of `protocol.WORDS`.
        encoder: Turns contents of the modality into vectors.
    """

    name: str
    encoder: Encoder[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """The encoders of one modality.

    Attributes:
        modality: Which.
        views: At least one.
        remedy: What is missing and how to get it; None where nothing is.
    """

    modality: Modality
    views: tuple[View, ...]
    remedy: str | None

    def encode(self, content: object) -> dict[str, FloatArray]:
        """What every view says of one content, by view. Shapes (width,)."""
        return {view.name: view.encoder.encode([content])[0] for view in self.views}


def load_kit(modality: Modality, *, model: str | None = None) -> Kit:
    """Load what is installed for one modality; it takes up to seconds.

    Args:
        modality: Which.
        model: A name that sentence-transformers (texts) or transformers (pictures and sounds) can
            load, instead of the default; for films, that of a picture model. NAME@COMMIT loads
            that commit.

    Raises:
        SettingsError: If `model` cannot be loaded, or nothing at all can read the modality.
    """
    return _LOADERS[modality](model)


def models_of(encoders: Mapping[str, str]) -> dict[Modality, str]:
    """The models of the hub among encoders with their commits, by what they look at.

    Others need no name.

    Args:
        encoders: By view, the version of its encoder.

    >>> models_of({"image": "transformers:facebook/dinov3@8f2c", "text": "use-multilingual-3/1"})
    {'image': 'facebook/dinov3@8f2c'}
    """
    found: dict[Modality, str] = {}
    for view, modality in _SEEN_BY.items():
        maker, colon, name = encoders.get(view, "").removeprefix(_FILM).partition(":")
        if colon and maker in _MAKERS:
            found[modality] = name
    return found


def decoder(
    modality: Modality, *, limits: MediaLimits
) -> Callable[[str, bytes], Any]:  # a content of that modality
    """What turns a name and a file's bytes into a content; it raises `DataError` with reasons."""
    if modality == "text":
        return _read_text
    # Decoders load slowly, and a service that compares nothing needs none.
    if modality == "image":
        return partial(_read_picture, limits=limits)
    if modality == "audio":
        from momentary.encoders.audio import AudioLimits

        return partial(_read_sound, limits=AudioLimits(max_bytes=limits.max_bytes))
    from momentary.encoders.video import VideoLimits

    return partial(_read_film, limits=VideoLimits(max_bytes=limits.max_bytes))


def _text(model: str | None) -> Kit:
    from momentary.encoders.hashed import HashedWords
    from momentary.encoders.text import SentenceEncoder

    if model is not None:
        return _kit("text", [View(name="text", encoder=_sentences(model))])
    try:
        return _kit("text", [View(name="text", encoder=SentenceEncoder())])
    except SettingsError as error:
        remedy = f"texts are compared by their words, not by meaning: {error}"
        return _kit("text", [View(name="text", encoder=HashedWords())], remedy=remedy)


def _image(model: str | None) -> Kit:
    from momentary.encoders.colour import ColourHistogram

    colour = View(name="colour", encoder=ColourHistogram())
    if model is not None:
        return _kit("image", [View(name="image", encoder=_picture_network(model)), colour])
    try:
        return _kit("image", [View(name="image", encoder=_picture_network()), colour])
    except SettingsError as error:
        remedy = f"pictures are compared by their colours alone: {error}"
        return _kit("image", [colour], remedy=remedy)


def _audio(model: str | None) -> Kit:
    from momentary.encoders.audio import MFCC

    timbre = View(name="timbre", encoder=MFCC())
    if model is not None:
        from momentary.encoders.hub import HubSoundEncoder

        name, revision = split_model(model)
        sound = View(name="sound", encoder=HubSoundEncoder(name, revision=revision))
        return _kit("audio", [sound, timbre])
    views, missing = [timbre], []
    for name, load in (("music", _musicnn), ("sound", _aisfx)):
        try:
            views.insert(0, View(name=name, encoder=load()))
        except SettingsError as error:
            missing.append(str(error))
    remedy = f"sounds are compared by timbre alone: {'; '.join(missing)}"
    return _kit("audio", views, remedy=remedy if len(views) == 1 else None)


def _video(model: str | None) -> Kit:
    from momentary.encoders.colour import ColourHistogram
    from momentary.encoders.video import FilmEncoder

    if model is not None:
        film = FilmEncoder(_picture_network(model))
        return _kit("video", [View(name="film", encoder=film)])
    try:
        return _kit("video", [View(name="film", encoder=FilmEncoder(_picture_network()))])
    except SettingsError as error:
        plain = View(name="film", encoder=FilmEncoder(ColourHistogram()))
        remedy = f"films are compared by the colours of their scenes alone: {error}"
        return _kit("video", [plain], remedy=remedy)


_LOADERS: Mapping[Modality, Callable[[str | None], Kit]] = {
    "text": _text,
    "image": _image,
    "audio": _audio,
    "video": _video,
}


def _kit(modality: Modality, views: Sequence[View], *, remedy: str | None = None) -> Kit:
    return Kit(modality=modality, views=tuple(views), remedy=remedy)


def _sentences(model: str) -> Encoder[Any]:
    from momentary.encoders.text import HubSentenceEncoder

    name, revision = split_model(model)
    return HubSentenceEncoder(name, revision=revision)


def _picture_network(model: str | None = None) -> Encoder[Any]:
    if model is not None:
        from momentary.encoders.hub import HubPictureEncoder

        name, revision = split_model(model)
        return HubPictureEncoder(name, revision=revision)
    from momentary.encoders.image import EfficientNetLite

    return EfficientNetLite()


def _musicnn() -> Encoder[Any]:
    from momentary.encoders.musicnn import Musicnn

    return Musicnn()


def _aisfx() -> Encoder[Any]:
    from momentary.encoders.aisfx import AiSFX

    return AiSFX()


def _read_text(_name: str, content: bytes) -> str:
    text = content.decode("utf-8", "replace")[:_LONGEST_TEXT]
    if not any(each.isalnum() for each in text):
        raise DataError("it holds no word.")
    return text


def _read_picture(name: str, content: bytes, *, limits: MediaLimits) -> Any:  # noqa: ANN401
    from momentary.encoders.media import read_picture

    return read_picture(content, name=name, limits=limits)


def _read_sound(_name: str, content: bytes, *, limits: AudioLimits) -> Any:  # noqa: ANN401
    from momentary.encoders.audio import is_silent, read_sound

    sound = read_sound(content, limits=limits)
    if is_silent(sound):
        raise DataError("it is silent.")
    return sound


def _read_film(_name: str, content: bytes, *, limits: VideoLimits) -> Any:  # noqa: ANN401
    from momentary.encoders.video import read_film

    return read_film(content, limits=limits)
