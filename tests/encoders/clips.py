"""A tiny CLIP: real in everything but that its weights are drawn at random."""

import json

import torch

_LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
_WORDS = [*_LETTERS, *(f"{each}</w>" for each in _LETTERS), "<|startoftext|>", "<|endoftext|>"]


def save_tiny_clip(folder):
    """Write it to a folder, as `from_pretrained` reads it."""
    from transformers import CLIPConfig, CLIPModel

    (folder / "vocab.json").write_text(json.dumps({word: at for at, word in enumerate(_WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = "<|endoftext|>"
    tokens = {"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end, "unk_token": end}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 24, **tokens})
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 32},
                "crop_size": {"height": 32, "width": 32},
            }
        )
    )
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **small,
            "vocab_size": len(_WORDS),
            "max_position_embeddings": 24,
            "bos_token_id": len(_WORDS) - 2,
            "eos_token_id": len(_WORDS) - 1,
            "pad_token_id": len(_WORDS) - 1,
        },
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
