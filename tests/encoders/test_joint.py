"""Pictures and texts in one space: a tiny CLIP, drawn at random and saved by the test."""

import numpy as np
import pytest

from momentary.encoders.joint import HubJointEncoder
from momentary.errors import SettingsError
from tests.encoders.clips import save_tiny_clip

_TEXTS = ["a dark photo", "sharp", "x" * 500]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_tiny_clip(folder)
    return folder


def test_both_kinds_come_into_one_space_alone_as_among_others(tiny):
    encoder = HubJointEncoder(str(tiny))
    assert "@sha256-" in encoder.version
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 20 + 9 * k, 3)).astype(np.uint8) for k in range(19)]
    for contents, encode in (
        (pictures, encoder.encode_pictures),
        (_TEXTS, encoder.encode_texts),
    ):
        together = encode(contents)
        assert together.shape == (len(contents), 12)
        assert together.dtype == np.float32
        assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
        alone = np.concatenate([encode([each]) for each in contents])
        assert np.allclose(together, alone, atol=1e-5)
        assert np.ptp(together, axis=0).max() > 1e-3
        assert encode([]).shape[0] == 0


def test_a_model_that_is_not_there_or_sees_only_pictures_is_refused(tiny, tmp_path):
    with pytest.raises(SettingsError, match="check the name"):
        HubJointEncoder(str(tmp_path / "none"))
    from transformers import CLIPConfig, CLIPVisionModel

    CLIPVisionModel(CLIPConfig.from_pretrained(tiny).vision_config).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(SettingsError, match="both pictures and texts"):
        HubJointEncoder(str(tmp_path))
