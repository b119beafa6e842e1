"""Broken, huge and hostile files are refused with their reason."""

import http.server
import io
import os
import struct
import tarfile
import threading
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from momentary.encoders.media import MediaLimits, pictures_in, read_media, read_picture
from momentary.errors import DataError

LIMITS = MediaLimits(max_pixels=1_000_000, max_bytes=200_000)


def picture(colour="red", size=(20, 10), kind="PNG"):
    held = io.BytesIO()
    Image.new("RGB", size, colour).save(held, kind)
    return held.getvalue()


def huge_png():
    """A header that promises 10,000 x 10,000 pixels, in a few bytes."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


def test_a_picture_is_rows_by_columns_by_colours():
    found = read_picture(picture(), limits=LIMITS)
    assert found.shape == (10, 20, 3)
    assert found[0, 0].tolist() == [255, 0, 0]


def test_a_see_through_picture_stands_on_white():
    held = io.BytesIO()
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(held, "PNG")
    assert read_picture(held.getvalue(), limits=LIMITS)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (np.array([[0, 128 * 257, 65_535]], dtype=np.uint16), "PNG"),
        (np.array([[0, 128 * 257, 65_535]], dtype=np.int32), "TIFF"),
        (np.array([[0, 128 * 1_000, 255 * 1_000]], dtype=np.int32), "TIFF"),
        (np.array([[0, 128, 255]], dtype=np.int32), "TIFF"),
        (np.array([[0, 128, 255]], dtype=np.float32), "TIFF"),
        (np.array([[0, 128 / 255, 1]], dtype=np.float32), "TIFF"),
    ],
)
def test_a_deep_grey_picture_is_scaled_not_clipped(pixels, kind):
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind)
    found = read_picture(held.getvalue(), limits=LIMITS)
    assert np.abs(found[0].astype(int) - [[0], [128], [255]]).max() <= 1


def test_a_picture_of_what_is_no_number_is_refused():
    held = io.BytesIO()
    Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32)).save(held, "TIFF")
    with pytest.raises(DataError, match="no numbers"):
        read_picture(held.getvalue(), limits=LIMITS)


def test_a_see_through_picture_of_sixteen_bits_is_read():
    held = io.BytesIO()
    deep = Image.fromarray(np.full((2, 2), 40_000, dtype=np.uint16))
    deep.save(held, "PNG", transparency=65_535)
    assert read_picture(held.getvalue(), limits=LIMITS)[0, 0].tolist() == [155, 155, 155]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (picture(kind="JPEG", size=(300, 300))[:400], "damaged"),
        (huge_png(), "pixels"),
        (b"<svg xmlns='x'><image href='file:///etc/passwd'/></svg>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"\xef\xbb\xbf<!-- drawn --><svg xmlns='x'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC or AVIF"),
        (b"PK\x03\x04 and more", "ZIP archive.*ends in .jpg"),
        (b"%PDF-1.7", "PDF"),
        (os.urandom(500), "no picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(content, reason):
    with pytest.raises(DataError, match=reason):
        read_picture(content, name="a.jpg", limits=LIMITS)


def test_files_are_read_below_the_allowed_folders_only(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "secret.png"
    inside.mkdir()
    outside.write_bytes(picture())
    (inside / "link.png").symlink_to(outside)
    (inside / "own.png").write_bytes(picture())
    limits = MediaLimits(folders=(inside,))
    assert read_media(str(inside / "own.png"), limits=limits) == picture()
    for path in (outside, inside / "link.png", inside / ".." / "secret.png"):
        with pytest.raises(DataError, match="outside"):
            read_media(str(path), limits=limits)


def test_a_pipe_and_a_large_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "large.png").write_bytes(bytes(300_000))
    limits = MediaLimits(folders=(tmp_path,), max_bytes=200_000)
    with pytest.raises(DataError, match="no regular file"):
        read_media(str(tmp_path / "pipe.png"), limits=limits)
    with pytest.raises(DataError, match="300,000 bytes"):
        read_media(str(tmp_path / "large.png"), limits=limits)


def test_an_archive_gives_its_pictures_and_names_the_rest(tmp_path):
    members = {"a.png": picture(), "b/big.png": bytes(300_000), "notes.txt": b"no"}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, content in {**members, f"{'long' * 40}.png": picture("blue")}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    limits = MediaLimits(folders=(tmp_path,), max_bytes=200_000)
    for file in ("a.zip", "a.tar.gz"):
        found = dict(pictures_in(tmp_path / file, limits=limits))
        assert found["a.png"] == picture()
        assert "300,000 bytes" in str(found["b/big.png"])
        assert "notes.txt" not in found
        assert "link.png" not in found
    assert found[f"{'long' * 40}.png"] == picture("blue")


def test_an_archive_that_is_not_read_is_named_as_what_it_is(tmp_path):
    for packing, what in (("xz", "xz"), ("bz2", "bzip2")):
        file = tmp_path / f"plates.tar.{packing}"
        with tarfile.open(file, f"w:{packing}"):
            pass
        with pytest.raises(DataError, match=f"packed by {what}; make it ZIP, tar or tar.gz"):
            list(pictures_in(file, limits=MediaLimits(folders=(tmp_path,))))


def test_an_archive_that_unpacks_to_too_much_is_stopped(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.png", bytes(100_000))
    limits = MediaLimits(folders=(tmp_path,), max_archive_bytes=250_000)
    with pytest.raises(DataError, match="unpacks to more"):
        list(pictures_in(tmp_path / "a.zip", limits=limits))
    with pytest.raises(DataError, match="more than 3 members"):
        list(
            pictures_in(tmp_path / "a.zip", limits=MediaLimits(folders=(tmp_path,), max_members=3))
        )


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/ok/away.png":
            self.send_response(302)
            self.send_header("Location", "/other/a.png")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        try:
            if self.path == "/ok/endless.png":
                while True:
                    self.wfile.write(bytes(65_536))
            if self.path == "/ok/slow.png":
                for _ in range(80):
                    self.wfile.write(b"0")
                    time.sleep(0.05)
            self.wfile.write(picture())
        except OSError:
            pass

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_are_fetched_from_the_allow_list_only(address):
    limits = MediaLimits(urls=(f"{address}/ok/",), max_bytes=200_000, download_s=2)
    assert read_media(f"{address}/ok/a.png", limits=limits) == picture()
    for path, reason in [
        ("/other/a.png", "none of the allowed"),
        ("/ok/../other/a.png", "climbs"),
        ("/ok/away.png", "redirects to 127.0.0.1, but its address begins with none of the allowed"),
        ("/ok/endless.png", "bytes; at most"),
        ("/ok/slow.png", "took longer"),
    ]:
        with pytest.raises(DataError, match=reason):
            read_media(address + path, limits=limits)


def test_a_picture_is_decoded_small_however_large():
    found = read_picture(picture(size=(990, 990), kind="JPEG"), limits=LIMITS)
    assert max(found.shape) <= 1024
    assert found.dtype == np.uint8
