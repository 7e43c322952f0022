"""Goldens of sounds' preprocessing, by the feature extractors of transformers; versions in encode_shared.py.

    python reference/encode_sounds.py                       made-up sounds, testdata/goldens/encode/sounds/
    python reference/encode_sounds.py --files DIR FILE...   real WAV files, into DIR, compared by
    CHIASM_PARITY_SOUNDS=DIR cargo test -p chiasm-encode --lib real_sounds -- --nocapture

NAME.safetensors holds `samples`, f32, at the rate that the front end wants, and `spectrum`, f32 [frames, bands, channels]; its metadata
what kind of front end it is under `kind`, and the description under `config`. Where ClapFeatureExtractor draws the place of a cut at
random, it is given the middle one.

AST's front end is transformers' own of numpy: the one of torchaudio, taken where that is installed, computes in f32. The front end of
PANNs is written out here with torch.stft in f64; its mel filters are those of transformers, equal to librosa's `filters.mel`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import ASTFeatureExtractor, ClapFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from encode_shared import numbers

np.random.choice = lambda places: places[len(places) // 2]
np.random.randint = lambda low, high: low + (high - 1 - low) // 2


def ast(samples, config):
    extractor = ASTFeatureExtractor(**config)
    spectrum = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"][0]
    return torch.from_numpy(spectrum)[..., None]


def clap(samples, config):
    extractor = ClapFeatureExtractor(**config)
    spectra, longer = extractor._get_input_mel(samples, extractor.nb_max_samples, extractor.truncation, extractor.padding)
    # Of a sound that is not longer the network looks at the first of four equal ones.
    return torch.from_numpy(np.stack(spectra, -1) if longer else spectra[0][..., None])


def cnn14(samples, config):
    size, hop, rate = config["window_size"], config["hop_size"], config["sample_rate"]
    shortest = 31 * hop
    samples = torch.from_numpy(samples).double()
    samples = torch.nn.functional.pad(samples, (0, max(0, shortest - len(samples))))
    window = torch.hann_window(size, periodic=True, dtype=torch.float64)
    stft = torch.stft(samples, size, hop, window=window, center=True, pad_mode="reflect", return_complex=True)
    filters = mel_filter_bank(size // 2 + 1, config["mel_bins"], config["fmin"], config["fmax"], rate, norm="slaney", mel_scale="slaney")
    mel = (stft.abs() ** 2).T @ torch.from_numpy(filters)
    return (10 * torch.log10(mel.clamp(min=1e-10))).float()[..., None]


KINDS = {"ast": (ast, 16000), "clap": (clap, 48000), "cnn14": (cnn14, 32000)}
CNN14 = {"model_type": "cnn14", "sample_rate": 32000, "window_size": 1024, "hop_size": 320, "mel_bins": 64, "fmin": 50, "fmax": 14000}
CNN14 |= {"classes_num": 527}


def made_up(name, n, rate):
    """A glide with overtones, a fading click and a little noise, louder and quieter by 60 dB."""
    t = np.arange(n) / rate
    glide = sum(np.sin(2 * np.pi * k * (200 * t + 900 * t * t)) / k for k in range(1, 8))
    click = np.exp(-((t - 0.6 * t[-1]) ** 2) * 1e5)
    loudness = 10 ** (-3 * np.abs(np.sin(2 * np.pi * 3 * t)))
    return (0.2 * loudness * glide + 0.3 * click + numbers(name, (n,), 0.01, 1e-4)).astype(np.float32)


def write(out, name, kind, samples, config):
    out.mkdir(parents=True, exist_ok=True)
    spectrum = KINDS[kind][0](samples, config).float().contiguous()
    tensors = {"samples": torch.from_numpy(samples), "spectrum": spectrum}
    save_file(tensors, out / f"{name}.safetensors", metadata={"kind": kind, "config": json.dumps(config)})
    print(name, tuple(samples.shape), "->", tuple(spectrum.shape))


if len(sys.argv) > 3 and sys.argv[1] == "--files":
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    for file in map(Path, sys.argv[3:]):
        rate, samples = wavfile.read(file)
        samples = (samples - 128.0) / 128 if samples.dtype == np.uint8 else samples / 32768.0
        samples = samples.mean(1) if samples.ndim == 2 else samples
        for name, kind, config in [
            ("ast", "ast", {}),
            ("clap_unfused", "clap", {"truncation": "rand_trunc"}),
            ("clap_fused", "clap", {"truncation": "fusion"}),
            ("cnn14", "cnn14", CNN14),
        ]:
            wanted = KINDS[kind][1]
            divisor = np.gcd(rate, wanted)
            resampled = resample_poly(samples, wanted // divisor, rate // divisor).astype(np.float32)
            write(Path(sys.argv[2]), f"{name}_{file.parent.name}_{file.stem}", kind, resampled, config)
else:
    out = Path(__file__).resolve().parent.parent / "testdata" / "goldens" / "encode" / "sounds"
    write(out, "ast_short", "ast", made_up("a", 4000, 16000), {"max_length": 30})
    write(out, "ast_cut", "ast", made_up("b", 5000, 16000), {"max_length": 20, "num_mel_bins": 64, "do_normalize": False})
    small = {"sampling_rate": 4000, "max_length_s": 1, "hop_length": 100, "fft_window_size": 256, "frequency_max": 1900}
    small |= {"feature_size": 24}
    write(out, "clap_repeated", "clap", made_up("c", 1500, 4000), small | {"truncation": "rand_trunc", "padding": "repeat"})
    write(out, "clap_repeated_whole", "clap", made_up("d", 1500, 4000), small | {"truncation": "fusion"})
    write(out, "clap_silence", "clap", made_up("e", 1500, 4000), small | {"truncation": "rand_trunc", "padding": "pad"})
    write(out, "clap_cut", "clap", made_up("f", 5001, 4000), small | {"truncation": "rand_trunc"})
    # The reference shrinks every spectrum to 64 bands, so that a fused one must have as many.
    fused = small | {"truncation": "fusion", "feature_size": 64, "fft_window_size": 512, "hop_length": 200}
    write(out, "clap_fused", "clap", made_up("g", 7000, 4000), fused)
    write(out, "clap_barely_longer", "clap", made_up("h", 4099, 4000), small | {"truncation": "fusion"})
    cnn14_small = CNN14 | {"sample_rate": 8000, "window_size": 256, "hop_size": 80, "fmax": 3900, "mel_bins": 32}
    write(out, "cnn14", "cnn14", made_up("i", 4000, 8000), cnn14_small)
    write(out, "cnn14_filled_up", "cnn14", made_up("j", 500, 8000), cnn14_small)
