"""Goldens of chiasm-media: pictures, sounds, resizing, resampling and log-mel by reference implementations.

Pinned: Python 3.11, pillow 12.0.0, numpy 2.4.6, scipy 1.17.1, av 18.1.0 (FFmpeg inside), soundfile 0.14.0. Seed 7.
All content is synthetic. Run from the repository's root:

    python -m venv .venv && .venv/bin/pip install pillow==12.0.0 numpy==2.4.6 scipy==1.17.1 av==18.1.0 soundfile==0.14.0
    .venv/bin/python reference/media_goldens.py
"""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import scipy.signal
import soundfile
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "media"
RNG = np.random.default_rng(7)


def synthetic(width: int, height: int) -> np.ndarray:
    """[height, width, 3] u8: gradients, hard edges and noise, each in a part of the picture."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 127 + 100 * np.sin(x / 3 + y / 5)], -1)
    rgb[(x // 5 + y // 5) % 2 == 0] = 255 - rgb[(x // 5 + y // 5) % 2 == 0]
    noisy = x > 2 * width // 3
    rgb[noisy] = RNG.integers(0, 256, (int(noisy.sum()), 3))
    return rgb.clip(0, 255).astype(np.uint8)


def resizing() -> None:
    """Pillow's BILINEAR resize, no reducing gap: reduced, enlarged, one way each, to a single pixel."""
    source = Image.fromarray(synthetic(97, 61))
    source.save(OUT / "resize_source.png")
    for width, height in [(224, 224), (31, 20), (96, 60), (200, 13), (13, 130), (1, 1)]:
        source.resize((width, height), Image.Resampling.BILINEAR).save(OUT / f"resize_{width}x{height}.png")


def pictures() -> None:
    """One small file of each kind and, as `<name>.expected.png`, what Pillow makes of it over white, upright."""
    rgb = synthetic(24, 16)
    base = Image.fromarray(rgb)
    alpha = np.tile(np.linspace(0, 255, 24).astype(np.uint8), (16, 1))
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    grey = base.convert("L")
    grey16 = (np.asarray(grey).astype(np.uint32) * 257).astype(np.uint16)
    palette = base.quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2021:07:04 18:30:05"
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[3], gps[4] = "S", (33.0, 51.0, 24.0), "E", (151.0, 12.0, 36.0)

    def expect(name: str, picture: Image.Image) -> None:
        if picture.mode in ("RGBA", "LA", "PA"):
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture.convert("RGBA"))
        picture.convert("RGB").save(OUT / f"{name}.expected.png")

    def both(name: str, picture: Image.Image, expected: Image.Image | None = None, **options) -> None:
        picture.save(OUT / name, **options)
        expect(name, expected or Image.open(OUT / name))

    both("rgb.png", base)
    both("rgba.png", rgba)
    both("grey.png", grey)
    both("grey_alpha.png", rgba.convert("LA"))
    both("grey16.png", Image.fromarray(grey16), expected=grey)
    both("palette.png", palette)
    both("bilevel.png", base.convert("1"))
    both("colour.jpg", base.resize((48, 32), Image.Resampling.BICUBIC), quality=90)
    both("progressive.jpg", base.resize((48, 32), Image.Resampling.BICUBIC), quality=90, progressive=True)
    both("full_chroma.jpg", base, quality=95, subsampling=0)
    both("grey.jpg", grey, quality=95)
    both("cmyk.jpg", base.convert("CMYK"), quality=95, subsampling=0)
    base.save(OUT / "turned.jpg", quality=95, subsampling=0, exif=exif)
    expect("turned.jpg", Image.open(OUT / "turned.jpg").transpose(Image.Transpose.ROTATE_270))
    both("lossy.webp", base, quality=90)
    both("lossless.webp", rgba, lossless=True, exact=True)
    both("colour.bmp", base)
    both("palette.bmp", palette)
    both("colour.tiff", base)
    both("lzw.tiff", base, compression="tiff_lzw")
    both("deflate.tiff", rgba, compression="tiff_adobe_deflate")
    both("grey16.tiff", Image.fromarray(grey16), expected=grey)
    both("cmyk.tiff", base.convert("CMYK"))
    frames = [Image.fromarray(np.roll(rgb, 3 * i, axis=1)).quantize(64) for i in range(3)]
    both("three.gif", frames[0], save_all=True, append_images=frames[1:], duration=80)
    frames = [Image.fromarray(np.roll(rgb, 3 * i, axis=1)) for i in range(3)]
    both("three.webp", frames[0], save_all=True, append_images=frames[1:], duration=80, lossless=True)
    both("three.png", frames[0], save_all=True, append_images=frames[1:], duration=80)


def encode(name: str, codec: str, rate: int, samples: np.ndarray, container: str | None = None, **options) -> None:
    """`samples` [channels, n] s16 through FFmpeg."""
    with av.open(str(OUT / name), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="stereo" if len(samples) == 2 else "mono")
        for key, value in options.items():
            setattr(stream, key, value)
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).copy(), format="s16", layout=stream.layout.name)
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in [frame, None]:
            file.mux(stream.encode(part))


def sounds() -> None:
    """Half a second: left 440 Hz, right 660 Hz, amplitude 0.4 each, so their average is known in closed form."""
    for rate in (16000, 44100):
        t = np.arange(rate // 2) / rate
        stereo = np.stack([0.4 * np.sin(2 * np.pi * hz * t) for hz in (440, 660)])
        s16 = (stereo * 32768).round().astype(np.int16)
        if rate == 16000:
            soundfile.write(OUT / "tones.flac", s16.T, rate)
            soundfile.write(OUT / "tones_ulaw.wav", s16.T, rate, subtype="ULAW")
            soundfile.write(OUT / "tones_ima.wav", s16[0], rate, subtype="IMA_ADPCM")
            soundfile.write(OUT / "tones.aiff", s16.T, rate, subtype="PCM_16")
            soundfile.write(OUT / "tones.ogg", stereo.T, rate, format="OGG", subtype="VORBIS")
            soundfile.write(OUT / "tones_24.wav", stereo.T, rate, subtype="PCM_24")
            soundfile.write(OUT / "tones_extensible.wav", stereo.T, rate, format="WAVEX", subtype="FLOAT")
        else:
            encode("tones.mp3", "libmp3lame", rate, s16, bit_rate=96000)
            encode("tones_aac.m4a", "aac", rate, s16, container="ipod", bit_rate=96000)
            encode("tones_alac.m4a", "alac", rate, s16[:, : rate // 8], container="ipod")
    mp3 = (OUT / "tones.mp3").read_bytes()
    form = struct.pack("<HHIIHHH", 0x55, 2, 44100, 12000, 1, 0, 12) + bytes(12)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(mp3)) + mp3
    (OUT / "riff_mp3.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def resampling() -> None:
    """scipy.signal.resample_poly of noise with the filter that resample.rs documents."""
    for name, source, target in [("down", 44100, 16000), ("up", 8012, 16000), ("half", 16000, 8000)]:
        x = RNG.uniform(-0.9, 0.9, 1500).astype(np.float32)
        g = np.gcd(source, target)
        up, down = target // g, source // g
        stretch = max(1.0, down / up)
        reach = int(np.ceil(64 * stretch * up))
        t = np.arange(-reach, reach + 1) / up
        inside = np.clip(1 - (t / (64 * stretch)) ** 2, 0, None)
        h = 0.95 / stretch * np.sinc(0.95 / stretch * t) * np.i0(10 * np.sqrt(inside)) / np.i0(10)
        h[np.abs(t) > 64 * stretch] = 0
        y = scipy.signal.resample_poly(x.astype(np.float64), up, down, window=h / up)  # it multiplies by `up` itself
        np.save(OUT / f"resample_{name}_{source}_{target}_in.npy", x)
        np.save(OUT / f"resample_{name}_{source}_{target}_out.npy", y.astype(np.float32))


def log_mel() -> None:
    """A generic log-mel by numpy in f64: 22,050 Hz, window 512, hop 200, FFT 1024, 40 bands 0 to 8000 Hz, power, ln(x + 1e-6)."""
    rate, window, hop, fft, n_mels = 22050, 512, 200, 1024, 40
    t = np.arange(3000) / rate
    x = (0.5 * np.sin(2 * np.pi * (300 * t + 20000 * t * t)) + RNG.normal(0, 0.01, t.size)).astype(np.float32)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.stack([x[i : i + window] * hann for i in range(0, x.size - window + 1, hop)])
    power = np.abs(np.fft.rfft(frames, fft)) ** 2
    mel = lambda f: 1127 * np.log(1 + f / 700)
    edges = np.linspace(mel(0.0), mel(8000.0), n_mels + 2)
    bins = mel(np.arange(fft // 2 + 1) * rate / fft)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.clip(np.minimum(rising, falling), 0, None)
    filters[:, 0] = 0
    np.save(OUT / "log_mel_in.npy", x)
    np.save(OUT / "log_mel_out.npy", np.log(power @ filters.T + 1e-6).astype(np.float32))


def arrays() -> None:
    """NumPy files of every type and order that is read, with the same content."""
    a = np.arange(12).reshape(4, 3) - (np.arange(12).reshape(4, 3) == 5) * 2
    for kind in ["<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", ">f4", ">i2"]:
        np.save(OUT / f"array_{kind.replace('<', 'l').replace('>', 'b').replace('|', '')}.npy", a.astype(kind))
    np.save(OUT / "array_fortran.npy", np.asfortranarray(a.astype("<f4")))
    np.save(OUT / "array_1d.npy", a.ravel().astype("<f4"))


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    resizing()
    pictures()
    sounds()
    resampling()
    log_mel()
    arrays()
    print(f"{sum(f.stat().st_size for f in OUT.iterdir())} bytes in {len(list(OUT.iterdir()))} files under {OUT}")
