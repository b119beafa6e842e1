"""Raw content to vectors: pictures, texts, sounds and films."""
