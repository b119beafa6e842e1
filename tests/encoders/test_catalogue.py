"""A catalogue's contents are encoded where they may be read, once, and what cannot is named."""

import http.server
import io
import threading
import wave
import zipfile

import numpy as np
import pytest
from PIL import Image

from momentary.encoders.catalogue import (
    Places,
    encode_items,
    encode_sound_tracks,
    kinds_there,
    read_source,
)
from momentary.encoders.colour import ColourHistogram
from momentary.encoders.defaults import Kit, View, decoder, load_kit
from momentary.encoders.hashed import HashedWords
from momentary.encoders.media import MediaLimits
from momentary.encoders.protocol import MODALITIES, WORDS
from momentary.encoders.store import VectorStore
from momentary.errors import DataError, SettingsError
from momentary.types import Item


class Sides:
    """Height and width of a picture; counts what it sees."""

    version = "sides/1"

    def __init__(self):
        self.seen = 0

    def encode(self, contents):
        self.seen += len(contents)
        return np.array([each.shape[:2] for each in contents], dtype=np.float32).reshape(-1, 2)


def png(side=3, colour="red"):
    held = io.BytesIO()
    Image.new("RGB", (side, 4), colour).save(held, "PNG")
    return held.getvalue()


def wav(hz, seconds=1.0):
    held = io.BytesIO()
    samples = np.sin(2 * np.pi * hz * np.arange(int(8_000 * seconds)) / 8_000)
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes((samples * 12_000).astype("<i2").tobytes())
    return held.getvalue()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "media"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.png").write_bytes(png(3))
    (folder / "deep" / "b.png").write_bytes(png(5))
    (folder / "broken.png").write_bytes(b"no picture at all")
    (folder / "i.e.png").write_bytes(png(7))
    return folder


def kit(encoder, name="image", modality="image"):
    return Kit(modality=modality, views=(View(name=name, encoder=encoder),), remedy=None)


def test_files_are_found_by_path_and_by_id_and_the_others_are_named(tmp_path, pictures):
    items = [
        Item(item_id="1", image="a.png"),
        Item(item_id="2", image=str(pictures / "deep" / "b.png")),
        Item(item_id="3", image="broken.png"),
        Item(item_id="4", image="gone.png"),
        Item(item_id="5", image="../../etc/passwd"),
        Item(item_id="i.e"),
        Item(item_id="nothing"),
    ]
    places = Places(limits=MediaLimits(folders=(pictures,)))
    sides = Sides()
    two = Kit(
        modality="image",
        views=(View(name="image", encoder=sides), View(name="colour", encoder=ColourHistogram())),
        remedy=None,
    )
    with VectorStore(tmp_path / "v.sqlite") as store:
        first = encode_items(items, two, store, places=places)
        assert (first.encoded, first.known) == (3, 0)
        reasons = dict(first.set_aside)
        assert set(reasons) == {"3", "4", "5"}
        assert "no picture" in reasons["3"]
        assert "no such file" in reasons["4"]
        vectors, there = store.read("sides/1", ["1", "2", "i.e", "3", "nothing"])
        assert vectors[:3].tolist() == [[4, 3], [4, 5], [4, 7]]
        assert there.tolist() == [True, True, True, False, False]
        assert store.views() == {"image": "sides/1", "colour": "colour-histogram/1"}
        again = encode_items(items, two, store, places=places)
        assert (again.encoded, again.known, sides.seen) == (0, 3, 3)
        (pictures / "a.png").write_bytes(png(9))
        assert encode_items(items, two, store, places=places).encoded == 1
        store.forget("1")
        assert not store.read("sides/1", ["1"])[1].any()


def test_a_second_encoder_looks_at_what_the_first_has_seen(tmp_path, pictures):
    items = [Item(item_id="1", image="a.png")]
    places = Places(limits=MediaLimits(folders=(pictures,)))
    sides = Sides()
    with VectorStore(tmp_path / "v.sqlite") as store:
        encode_items(items, kit(sides), store, places=places)
        both = Kit(
            modality="image",
            views=(View(name="image", encoder=sides), View(name="c", encoder=ColourHistogram())),
            remedy=None,
        )
        encode_items(items, both, store, places=places)
        assert store.read("colour-histogram/1", ["1"])[1].all()
    assert sides.seen == 1


def test_members_of_archives_are_named_as_items_name_them_or_by_ids(tmp_path):
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("shop/one.png", png(3))
        file.writestr("shop/7.png", png(5))
        file.writestr("shop/8.png", b"broken")
    items = [
        Item(item_id="x", image="shop/one.png"),
        Item(item_id="y", image="one.png"),
        Item(item_id="7"),
        Item(item_id="8"),
        Item(item_id="z", image="two.png"),
    ]
    places = Places(limits=MediaLimits(folders=(tmp_path,)), archives=(archive,))
    with VectorStore(tmp_path / "v.sqlite") as store:
        report = encode_items(items, kit(Sides()), store, places=places)
        assert store.read("sides/1", ["x", "y", "7", "8"])[1].tolist() == [True, True, True, False]
    assert {name for name, _ in report.set_aside} == {"8", "z"}
    assert (report.encoded, report.known) == (2, 1)  # x and y share one


def test_an_address_is_fetched_once_and_only_where_allowed(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = png(3) if "good" in self.path else b"broken"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}"
        items = [
            Item(item_id="1", image=f"{base}/shop/good.png"),
            Item(item_id="2", image=f"{base}/shop/bad.png"),
            Item(item_id="3", image=f"{base}/admin/secret"),
        ]
        limits = MediaLimits(urls=(f"{base}/shop/",))
        with VectorStore(tmp_path / "v.sqlite") as store:
            places = Places(limits=limits)
            first = encode_items(items, kit(Sides()), store, places=places)
            assert (first.encoded, first.known) == (1, 0)
            assert [name for name, _ in first.set_aside] == ["2", "3"]
            again = encode_items(items, kit(Sides()), store, places=places)
            assert (again.encoded, again.known) == (0, 1)
            assert sorted(asked) == ["/shop/bad.png", "/shop/bad.png", "/shop/good.png"]
            encode_items(items, kit(Sides()), store, places=Places(limits=limits, refetch=True))
            assert asked.count("/shop/good.png") == 2
        server.shutdown()


def test_texts_are_encoded_from_what_is_written_of_an_item(tmp_path):
    items = [Item(item_id="1", name="Blue mug"), Item(item_id="2"), Item(item_id="3", name="---")]
    words = kit(HashedWords(), name="text", modality="text")
    with VectorStore(tmp_path / "v.sqlite") as store:
        report = encode_items(items, words, store, places=Places(limits=MediaLimits()))
        assert report.set_aside == (("3", "it holds no word."),)
        assert store.read("hashed-words/1", ["1", "2"])[1].tolist() == [True, False]


def test_hashed_words_know_spelling_and_no_meaning():
    mug, mugs, sofa, couch, empty = HashedWords().encode(
        ["a blue mug", "blue mugs", "sofa", "couch", "..."]
    )
    assert mug @ mugs > 0.4
    assert abs(sofa @ couch) < 0.2
    assert not empty.any()
    assert mug @ mug == pytest.approx(1, abs=1e-5)


def test_every_modality_has_encoders_that_say_what_they_are():
    contents = {
        "text": b"a blue mug",
        "image": png(40),
        "audio": wav(440),
    }
    for modality in MODALITIES:
        loaded = load_kit(modality)
        assert loaded.views
        assert all(view.name in WORDS for view in loaded.views)
        if modality in contents:
            content = decoder(modality, limits=MediaLimits())("x", contents[modality])
            vectors = loaded.encode(content)
            assert set(vectors) == {view.name for view in loaded.views}
            assert all(np.linalg.norm(vector) > 0 for vector in vectors.values())


def test_where_no_network_is_installed_the_kit_says_so(monkeypatch):
    def missing(*_args, **_kw):
        raise SettingsError("the picture encoder needs a package; run: pip install it")

    monkeypatch.setattr("momentary.encoders.image.EfficientNetLite", missing)
    monkeypatch.setattr("momentary.encoders.text.SentenceEncoder", missing)
    monkeypatch.setattr("momentary.encoders.musicnn.Musicnn", missing)
    monkeypatch.setattr("momentary.encoders.aisfx.AiSFX", missing)
    found = {modality: load_kit(modality) for modality in MODALITIES}
    names = {
        each.modality: [view.encoder.version for view in each.views] for each in found.values()
    }
    assert names == {
        "text": ["hashed-words/1"],
        "image": ["colour-histogram/1"],
        "audio": ["mfcc/1"],
        "video": ["film-1:colour-histogram/1"],
    }
    for each in found.values():
        assert "pip install" in each.remedy
    assert "colours alone" in found["image"].remedy
    assert "not by meaning" in found["text"].remedy


def test_folders_and_archives_say_which_kinds_they_hold(tmp_path):
    folder, archive = tmp_path / "songs", tmp_path / "p.zip"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "one.WAV").write_bytes(wav(440))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("shop/drawn.svg", "<svg/>")
    limits = MediaLimits(folders=(folder,))
    assert kinds_there(Places(limits=limits)) == {"audio"}
    assert kinds_there(Places(limits=limits, archives=(archive,))) == {"audio", "image"}
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:20])
    with pytest.raises(DataError, match=r"cut\.zip is no readable ZIP"):
        kinds_there(Places(limits=limits, archives=(tmp_path / "cut.zip",)))


def test_silence_and_what_is_elsewhere_are_refused(tmp_path):
    with pytest.raises(DataError, match="silent"):
        decoder("audio", limits=MediaLimits())("x", wav(0))
    with pytest.raises(DataError, match="no such file"):
        read_source("x.png", limits=MediaLimits(folders=(tmp_path,)))
    with pytest.raises(DataError, match="file addresses are not read"):
        read_source("file:///etc/hostname", limits=MediaLimits(folders=(tmp_path,)))
    with pytest.raises(DataError, match="outside"):
        read_source("/etc/hostname", limits=MediaLimits(folders=(tmp_path,)))


def test_sound_tracks_count_for_items_without_a_sound(tmp_path):
    pytest.importorskip("av")
    from tests.encoders.films import BLUE, RED, film

    (tmp_path / "loud.mp4").write_bytes(film([RED, BLUE], sound_hz=440))
    (tmp_path / "mute.mp4").write_bytes(film([RED]))
    (tmp_path / "still.mp4").write_bytes(film([RED], sound_hz=22_050))  # all samples are zero
    (tmp_path / "own.wav").write_bytes(wav(300))
    items = [
        Item(item_id="loud", video="loud.mp4"),
        Item(item_id="mute", video="mute.mp4"),
        Item(item_id="still", video="still.mp4"),
        Item(item_id="own", video="loud.mp4", audio="own.wav"),
    ]
    places = Places(limits=MediaLimits(folders=(tmp_path,)))
    from momentary.encoders.audio import MFCC

    sounds = kit(MFCC(), name="timbre", modality="audio")
    with VectorStore(tmp_path / "v.sqlite") as store:
        report = encode_sound_tracks(items, sounds, store, places=places)
        assert (report.encoded, report.set_aside) == (1, ())
        assert set(store.digests("mfcc/1", [each.item_id for each in items])) == {"loud"}
