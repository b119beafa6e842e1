"""Open files that may be broken, huge or hostile: what cannot be used is named with its reason.

Nothing is opened outside of the allowed folders and URL prefixes, only regular files are read, and
never more than the limits say. A picture's size is known from its header before it is decoded.
"""

from __future__ import annotations

import gzip
import http.client
import io
import math
import os
import stat
import threading
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from momentary.encoders.connections import public_handlers
from momentary.encoders.protocol import Picture
from momentary.errors import DataError

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_DETAIL = 512
_CHUNK = 1 << 16
_TAR_BLOCK = 512
_SUMMARY = 22  # bytes of the end record of a ZIP archive, which a comment may follow
_HEAD = 512
_PHONE_PICTURES = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
_DEEP_GREYS = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_FULL = {"I": (255, 65_535), "F": (1, 255, 65_535)}
"""What white may be in a deep grey picture; the brightest pixel, if it is more than any."""

PICTURES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".svg", ".heic", ".avif"),
)
"""Endings of pictures' names; the last three are refused with a reason, not passed over."""

_KNOWN = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF"),
    (b"RIFF", "a sound or another RIFF file"),
    (b"ID3", "an MP3"),
    (b"\x7fELF", "a program"),
    (b"\x1f\x8b", "a gzip file"),
)
_OTHER_ARCHIVES = (
    (b"\xfd7zX", "xz"),
    (b"BZh", "bzip2"),
    (b"(\xb5/\xfd", "Zstandard"),
    (b"7z\xbc\xaf", "7-Zip"),
    (b"Rar!", "RAR"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What may be opened, and how much of it.

    Attributes:
        folders: Files must lie below one of these, links followed.
        urls: URLs must begin with one of these, such as "https://cdn.example.com/shop/". A name
            must lead to a public address; one of a private network is named as that address.
        max_bytes: Largest file, download, or member of an archive.
        max_pixels: Largest picture.
        max_members: Most members of an archive.
        max_archive_bytes: Most bytes that an archive may unpack to.
        download_s: Longest download, from the first byte sent to the last received.
    """

    folders: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    max_bytes: int = 50_000_000
    max_pixels: int = 50_000_000
    max_members: int = 1_000_000
    max_archive_bytes: int = 20_000_000_000
    download_s: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_members", "max_archive_bytes", "download_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path:
                raise ValueError(
                    f"urls holds {url!r}; write scheme, host and path, as in "
                    "'https://cdn.example.com/'."
                )


def read_media(source: str, *, limits: MediaLimits) -> bytes:
    """What a file or a URL holds.

    Raises:
        DataError: With the reason why it cannot be used.
    """
    if source.startswith(("http://", "https://")):
        return _download(source, limits)
    return _read_file(Path(source), limits)


def read_picture(content: bytes, *, name: str = "", limits: MediaLimits) -> Picture:
    """Decode a picture, upright, in red, green and blue. Shape (height, width, 3).

    Raises:
        DataError: With the reason why it cannot be used.
    """
    if not content:
        raise DataError("the file is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return _decode(image, limits)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"it is larger than {limits.max_pixels:,} pixels.") from None
    except UnidentifiedImageError:
        raise DataError(_what_else(content, name)) from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise DataError(f"it is damaged: {error}.") from None
    except Exception as error:  # noqa: BLE001 - decoders fail on hostile files in any way
        raise DataError(f"it is damaged: {type(error).__name__} {error}.") from None


def pictures_in(place: Path, *, limits: MediaLimits) -> Iterator[tuple[str, bytes | DataError]]:
    """Every picture file of a folder or an archive; see `files_in`."""
    yield from files_in(place, limits=limits, suffixes=PICTURES)


def files_in(
    place: Path, *, limits: MediaLimits, suffixes: tuple[str, ...]
) -> Iterator[tuple[str, bytes | DataError]]:
    """Every file of a folder or an archive (ZIP, tar, tar.gz) whose name ends so, by name.

    Archives inside archives are not opened, and nothing is unpacked to the disk.

    Args:
        place: A folder, or an archive in an allowed one.
        limits: What may be opened.
        suffixes: In lower case, with their dot.

    Yields:
        Name, and what it holds or the reason why it cannot be read.

    Raises:
        DataError: If the folder or the archive itself cannot be read.
    """
    if place.is_dir():
        for file in sorted(place.rglob("*")):
            if file.suffix.lower() in suffixes:
                yield str(file.relative_to(place)), _or_reason(file, limits)
        return
    _require_allowed(place, limits)
    with place.open("rb") as opened:
        start = opened.read(4)
    packed_by = next((what for mark, what in _OTHER_ARCHIVES if start.startswith(mark)), None)
    if packed_by is not None:
        raise DataError(f"{place} is packed by {packed_by}; make it ZIP, tar or tar.gz.")
    if start.startswith(b"PK"):
        members = _zip_members(place, limits, suffixes)
    else:
        packed = start.startswith(b"\x1f\x8b")
        members = _tar_members(place, limits, suffixes=suffixes, packed=packed)
    yield from members


def _decode(image: Image.Image, limits: MediaLimits) -> Picture:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise DataError(
            f"it has {width:,} x {height:,} pixels; at most {limits.max_pixels:,} are decoded."
        )
    if image.format == "JPEG":
        image.draft("RGB", (_DETAIL, _DETAIL))
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _DEEP_GREYS:
        upright = _in_eight_bits(upright)
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        clear = upright.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        upright = Image.alpha_composite(white, clear)
    colours = upright.convert("RGB")
    colours.thumbnail((2 * _DETAIL, 2 * _DETAIL))
    return np.asarray(colours)


def _in_eight_bits(grey: Image.Image) -> Image.Image:
    """A grey picture of 16 or 32 bits or of floats, scaled; Pillow would clip it to white."""
    wide = grey if grey.mode == "F" else grey.convert("I")
    high = float(cast("tuple[float, float]", wide.getextrema())[1])
    if not math.isfinite(high):
        raise DataError("it holds values that are no numbers.")
    full = next((each for each in _FULL[wide.mode] if high <= each), high)
    scaled = wide.point(lambda value: value * (255 / full)).convert("L")
    scaled.info.pop("transparency", None)  # a grey of the old depth
    return scaled


def _what_else(content: bytes, name: str) -> str:
    """What a file holds that is no picture which is decoded."""
    start = content[:_HEAD].lower()
    if any(mark in start for mark in (b"<svg", b"<?xml", b"<!doc", b"<html")):
        return "SVG and HTML are not decoded, for they may refer to other files."
    if content[4:12] in _PHONE_PICTURES:
        return "it is a HEIC or AVIF picture, which is not decoded; save it as JPEG."
    held = next((what for mark, what in _KNOWN if content.startswith(mark)), "no picture")
    ending = Path(name).suffix
    named = f"; its name ends in {ending}" if ending else ""
    return f"it holds {held}{named}."


def _require_allowed(file: Path, limits: MediaLimits) -> Path:
    try:
        real = file.resolve(strict=True)
    except OSError as error:
        raise DataError(f"it cannot be opened ({error.strerror}).") from None
    if not any(real.is_relative_to(folder.resolve()) for folder in limits.folders):
        raise DataError("it lies outside of the allowed folders.")
    return real


def _read_file(file: Path, limits: MediaLimits) -> bytes:
    real = _require_allowed(file, limits)
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer forever.
        handle = os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as opened:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise DataError("it is no regular file.")
            if status.st_size > limits.max_bytes:
                raise DataError(_too_large(status.st_size, limits))
            content = opened.read(limits.max_bytes + 1)
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror}).") from None
    if len(content) > limits.max_bytes:
        raise DataError(_too_large(len(content), limits))
    return content


def _or_reason(file: Path, limits: MediaLimits) -> bytes | DataError:
    try:
        return _read_file(file, limits)
    except DataError as error:
        return error


def _too_large(size: int, limits: MediaLimits) -> str:
    return f"it has {size:,} bytes; at most {limits.max_bytes:,} are read."


def _require_url(url: str, limits: MediaLimits) -> None:
    asked = urlsplit(url)
    if ".." in asked.path or "\\" in url or "%2e" in url.lower():
        raise DataError("its address climbs out of its folder.")
    for prefix in limits.urls:
        allowed = urlsplit(prefix)
        same = (asked.scheme, asked.netloc.lower()) == (allowed.scheme, allowed.netloc.lower())
        if same and asked.path.startswith(allowed.path):
            return
    raise DataError("its address begins with none of the allowed ones (--url, media_urls).")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where the allow-list leads."""

    def __init__(self, limits: MediaLimits) -> None:
        self.limits = limits

    def redirect_request(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            _require_url(args[5], self.limits)
        except DataError as error:
            args[1].close()
            host = urlsplit(args[5]).hostname
            raise DataError(f"it redirects to {host}, but {error}") from None
        return super().redirect_request(*args, **kwargs)


def _download(url: str, limits: MediaLimits) -> bytes:
    """Read a URL in a thread of its own, so that a server that drips cannot hold the run."""
    _require_url(url, limits)
    answer: list[bytes | DataError] = []
    late = threading.Event()

    def fetch() -> None:
        answer.append(_fetch(url, limits, late=late))

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(limits.download_s)
    if not answer:
        late.set()
        raise DataError(f"it took longer than {limits.download_s:g} s to arrive.")
    if isinstance(answer[0], DataError):
        raise answer[0]
    return answer[0]


def _fetch(url: str, limits: MediaLimits, *, late: threading.Event) -> bytes | DataError:
    opener = urllib.request.OpenerDirector()
    for handler in (
        *public_handlers(urlsplit(url).hostname or "" for url in limits.urls),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(limits),
    ):
        opener.add_handler(handler)
    try:
        with opener.open(url, timeout=limits.download_s) as reply:
            parts, size = [], 0
            while size <= limits.max_bytes and not late.is_set() and (part := reply.read1(_CHUNK)):
                parts.append(part)
                size += len(part)
    except DataError as error:
        return error
    except (OSError, http.client.HTTPException, ValueError) as error:
        return DataError(f"it cannot be fetched ({str(error).partition(chr(10))[0]}).")
    return b"".join(parts) if size <= limits.max_bytes else DataError(_too_large(size, limits))


def _zip_members(
    place: Path, limits: MediaLimits, suffixes: tuple[str, ...]
) -> Iterator[tuple[str, bytes | DataError]]:
    _require_small_directory(place, limits)
    try:
        archive = zipfile.ZipFile(place)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{place} is no readable ZIP archive ({error}).") from None
    left = limits.max_archive_bytes
    with archive:
        for member in archive.infolist():
            if not member.filename.lower().endswith(suffixes):
                continue
            content = _unzip(archive, member, limits=limits)
            left -= len(content) if isinstance(content, bytes) else 0
            if left < 0:
                raise DataError(f"{place} unpacks to more than {limits.max_archive_bytes:,} bytes.")
            yield member.filename, content


def _unzip(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, limits: MediaLimits
) -> bytes | DataError:
    if member.flag_bits & 1:
        return DataError("it is encrypted.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return DataError("it is compressed in another way than deflate.")
    if member.file_size > limits.max_bytes:
        return DataError(_too_large(member.file_size, limits))
    try:
        with archive.open(member) as opened:
            content = opened.read(limits.max_bytes + 1)
    except Exception as error:  # noqa: BLE001 - damaged archives fail in any way
        return DataError(f"it is damaged: {error}.")
    return content if len(content) <= limits.max_bytes else DataError(_too_large(-1, limits))


def _require_small_directory(place: Path, limits: MediaLimits) -> None:
    """Zipfile reads the whole table of contents into memory: look at its length first."""
    with place.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(size - _SUMMARY - _CHUNK, 0))
        end = opened.read()
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + _SUMMARY:
        raise DataError(f"{place} is no readable ZIP archive (it has no end record).")
    members = int.from_bytes(end[at + 10 : at + 12], "little")
    table = int.from_bytes(end[at + 12 : at + 16], "little")
    long = end.rfind(b"PK\x06\x06", 0, at)
    if long >= 0:
        members = int.from_bytes(end[long + 32 : long + 40], "little")
        table = int.from_bytes(end[long + 40 : long + 48], "little")
    if members > limits.max_members or table > 400 * limits.max_members:
        raise DataError(f"{place} has more than {limits.max_members:,} members.")


def _tar_members(
    place: Path, limits: MediaLimits, *, suffixes: tuple[str, ...], packed: bool
) -> Iterator[tuple[str, bytes | DataError]]:
    """Plain headers are read by hand: tarfile would read a header of any length into memory."""
    import tarfile

    opened: Any = gzip.open(place, "rb") if packed else place.open("rb")  # noqa: SIM115
    name, left = "", limits.max_archive_bytes
    with opened:
        try:
            while (header := opened.read(_TAR_BLOCK)) and header.strip(b"\0"):
                member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
                if not 0 <= member.size <= left:
                    raise DataError(f"{place} unpacks to more than it may.")
                left -= member.size
                blocks = -(-member.size // _TAR_BLOCK) * _TAR_BLOCK
                small = member.size <= limits.max_bytes
                content = opened.read(blocks)[: member.size] if small else b""
                if not small:
                    opened.seek(blocks, os.SEEK_CUR)
                if member.type == tarfile.GNUTYPE_LONGNAME:
                    name = content.rstrip(b"\0").decode("utf-8", "replace")
                    continue
                if member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
                    name = _pax_path(content) or name
                    continue
                found, name = name or member.name, ""
                if member.isreg() and found.lower().endswith(suffixes):
                    whole = len(content) == member.size
                    reason = (
                        "the archive ends inside it." if small else _too_large(member.size, limits)
                    )
                    yield found, content if whole and small else DataError(reason)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{place} is no readable tar archive ({error}).") from None


def _pax_path(content: bytes) -> str:
    """The long name among "LENGTH key=value" lines."""
    for line in content.split(b"\n"):
        _, _, pair = line.partition(b" ")
        if pair.startswith(b"path="):
            return pair[5:].decode("utf-8", "replace")
    return ""
