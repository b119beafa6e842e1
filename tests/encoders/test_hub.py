"""Models by name: tiny ones, drawn at random and saved by the tests."""

import json
import shutil

import numpy as np
import pytest
import torch

from momentary.encoders.audio import Sound
from momentary.encoders.defaults import load_kit, models_of
from momentary.encoders.hub import HubPictureEncoder, HubSoundEncoder
from momentary.encoders.revisions import loaded_revision, split_model
from momentary.encoders.store import VectorStore, encode_all
from momentary.errors import SettingsError

SIDE = {"height": 32, "width": 32}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def saved(model, folder, processor):
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return str(folder)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    text = {**SMALL, "vocab_size": 30, "max_position_embeddings": 8}
    config = SiglipConfig(
        text_config=text, vision_config={**SMALL, "image_size": 32, "patch_size": 8}
    )
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 32, "width": 32},
    }
    return saved(SiglipModel(config), tmp_path_factory.mktemp("siglip"), processor)


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    config = DINOv3ViTConfig(**SMALL, image_size=32, patch_size=8)
    processor = {"image_processor_type": "ViTImageProcessor", "size": SIDE}
    return saved(DINOv3ViTModel(config), tmp_path_factory.mktemp("dino"), processor)


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    from transformers import ClapConfig, ClapModel

    torch.manual_seed(0)
    audio = {
        "window_size": 4,
        "num_mel_bins": 16,
        "spec_size": 64,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "hidden_size": 16,
        "enable_fusion": False,
    }
    config = ClapConfig(
        text_config={**SMALL, "vocab_size": 30, "max_position_embeddings": 10},
        audio_config=audio,
        projection_dim=12,
    )
    processor = {
        "feature_extractor_type": "ClapFeatureExtractor",
        "feature_size": 16,
        "sampling_rate": 16_000,
        "max_length_s": 2,
        "fft_window_size": 1_024,
        "frequency_min": 50,
        "frequency_max": 7_000,
        "hop_length": 500,
        "truncation": "rand_trunc",
        "padding": "repeatpad",
    }
    return saved(ClapModel(config), tmp_path_factory.mktemp("clap"), processor)


@pytest.mark.parametrize("name", ["siglip", "dino"])
def test_a_picture_has_one_vector_alone_or_among_others(name, request):
    encoder = HubPictureEncoder(request.getfixturevalue(name))
    rng = np.random.default_rng(0)
    pictures = [rng.integers(256, size=(40 + k, 30, 3), dtype=np.uint8) for k in range(18)]
    together = encoder.encode(pictures)
    assert together.shape == (18, 16)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder.encode(pictures[17:])[0], together[17], atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3
    assert encoder.encode([]).shape[0] == 0


def test_a_sound_is_heard_in_windows_that_nothing_draws(clap):
    encoder = HubSoundEncoder(clap)
    rng = np.random.default_rng(0)

    def sound(seconds, rate_hz):
        samples = rng.normal(size=int(seconds * rate_hz)).astype(np.float32) / 4
        return Sound(excerpts=(samples,), rate_hz=rate_hz, seconds=seconds)

    sounds = [sound(1.5, 16_000), sound(5.0, 8_000)]
    together = encoder.encode(sounds)
    assert together.shape == (2, 12)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder.encode(sounds[1:])[0], together[1], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-6


def test_kits_look_with_a_named_model_and_know_it_again(siglip, clap):
    image = load_kit("image", model=siglip)
    assert [view.name for view in image.views] == ["image", "colour"]
    found = image.encode(np.zeros((20, 20, 3), dtype=np.uint8))
    assert found["image"].shape == (16,)
    audio = load_kit("audio", model=clap)
    assert [view.name for view in audio.views] == ["sound", "timbre"]
    film = load_kit("video", model=siglip)
    versions = {
        view.name: view.encoder.version for kit in (image, audio, film) for view in kit.views
    }
    models = models_of(versions)
    assert {kind: model.partition("@sha256-")[0] for kind, model in models.items()} == {
        "image": siglip,
        "audio": clap,
        "video": siglip,
    }
    again = load_kit("image", model=models["image"])
    assert again.views[0].encoder.version == image.views[0].encoder.version
    assert models_of({"text": "use-multilingual-3/1", "image": "hub"}) == {}


@pytest.mark.parametrize("encoder", [HubPictureEncoder, HubSoundEncoder])
def test_a_name_that_leads_nowhere_is_refused(encoder, tmp_path):
    with pytest.raises(SettingsError, match="check the name"):
        encoder(str(tmp_path / "nowhere"))


def commit_of(hub, folder, commit):
    """Put a model into a hub's cache as what its main branch holds now."""
    kept = hub / "models--acme--tiny"
    shutil.copytree(folder, kept / "snapshots" / commit)
    (kept / "refs").mkdir(exist_ok=True)
    (kept / "refs" / "main").write_text(commit)


def test_a_newer_commit_of_a_model_encodes_anew_and_the_older_is_found_again(
    siglip, tmp_path, monkeypatch
):
    from huggingface_hub import constants

    hub, old, new = tmp_path / "hub", "a" * 40, "b" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit_of(hub, siglip, old)
    picture = np.zeros((20, 20, 3), dtype=np.uint8)

    def encoded(model, store):
        encoder = load_kit("image", model=model).views[0].encoder
        source = [("dark", b"dark")]
        report = encode_all(source, encoder, store, decode=lambda *_: picture)
        return encoder.version, report.encoded

    with VectorStore(tmp_path / "vectors.sqlite") as store:
        first, count = encoded("acme/tiny", store)
        assert (first, count) == (f"transformers:acme/tiny@{old}", 1)
        assert encoded("acme/tiny", store) == (first, 0)
        commit_of(hub, siglip, new)
        assert encoded("acme/tiny", store) == (f"transformers:acme/tiny@{new}", 1)
        # What a store says of its encoder loads just that, whatever main holds by now.
        model = models_of({"image": first})["image"]
        assert encoded(model, store) == (first, 0)


def test_where_no_cache_tells_the_commit_it_is_what_was_asked_for(tmp_path):
    assert loaded_revision("acme/none", None, cache=str(tmp_path)) == "main"
    assert loaded_revision("acme/none", "v2", cache=str(tmp_path)) == "v2"


def test_a_folder_whose_weights_change_is_another_model(siglip, tmp_path):
    folder = tmp_path / "own@home"
    shutil.copytree(siglip, folder)
    before = HubPictureEncoder(str(folder)).version
    (folder / "README.md").write_text("weights of today")
    assert HubPictureEncoder(str(folder)).version == before
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert HubPictureEncoder(str(folder)).version != before
    name = before.removeprefix("transformers:")
    assert split_model(name) == (str(folder), None)
    assert split_model(str(folder)) == (str(folder), None)
