"""Small films, made for the tests."""

import io

import numpy as np

RED, GREEN, BLUE = (210, 30, 30), (30, 190, 40), (30, 40, 220)


def film(colours, *, frames_each=12, sound_hz=None, size=(64, 48), kind="mp4"):
    """A film of plain scenes with a little noise, and a tone."""
    held = io.BytesIO()
    rng = np.random.default_rng(0)
    import av

    with av.open(held, "w", format=kind) as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        tone = container.add_stream("aac", rate=22_050) if sound_hz else None
        for colour in colours:
            for _ in range(frames_each):
                field = np.full((size[1], size[0], 3), 255, dtype=np.int16)
                field[8:-8, 8:-8] = colour
                field += rng.integers(-4, 5, field.shape, dtype=np.int16)
                frame = av.VideoFrame.from_ndarray(field.clip(0, 255).astype(np.uint8), "rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            seconds = len(colours) * frames_each / 12
            wave = 0.5 * np.sin(2 * np.pi * sound_hz * np.arange(int(22_050 * seconds)) / 22_050)
            sound = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
            sound.sample_rate = 22_050
            container.mux(tone.encode(sound))
            container.mux(tone.encode())
    return held.getvalue()
