"""Goldens of CLAP's two towers, by ClapModel of transformers; versions and use in encode_shared.py.

    python reference/encode_clap.py [--full DIR]

The hidden states of the sound tower are those before the first block, and after every block and every merging of patches. `input` has as
many channels as our tower is given: four for a sound longer than the network takes, else one.
"""

import torch
from transformers import ClapConfig, ClapModel
from transformers.models.clap.modeling_clap import ClapAudioLayer, ClapAudioPatchEmbed, ClapAudioPatchMerging

from encode_shared import fill, full_dir, ids, inputs, vocabulary, write

FULL = full_dir()


def states_of(tower, spectra, longer):
    """The pooled output, and the states on the way."""
    states = []

    def after(module, args, out):
        states.append(out[0] if isinstance(out, tuple) else out)

    kinds = (ClapAudioPatchEmbed, ClapAudioLayer, ClapAudioPatchMerging)
    hooks = [m.register_forward_hook(after) for m in tower.modules() if isinstance(m, kinds)]
    out = tower(input_features=spectra, is_longer=torch.full((len(spectra), 1), longer))
    for hook in hooks:
        hook.remove()
    return out.pooler_output, states


def golden(name, config, preprocessor, lengths, n_sounds=2, longer=False, texts=True):
    model = ClapModel(config).eval()
    recipes = fill(model)
    vocab = config.text_config.vocab_size
    files = {
        "config.json": config.to_dict(),
        "preprocessor_config.json": preprocessor,
        "tokenizer.json": vocabulary(vocab, {"<s>": 0, "<pad>": 1, "</s>": 2}),
    }
    files["config.json"].pop("transformers_version", None)

    bands = config.audio_config.num_mel_bins
    frames = preprocessor["max_length_s"] * preprocessor["sampling_rate"] // preprocessor["hop_length"] + 1
    spectra = inputs(f"{name}.spectra", (n_sounds, 4 if longer else 1, frames, bands))
    seen = spectra.repeat(1, 4, 1, 1) if config.audio_config.enable_fusion and not longer else spectra
    pooled, states = states_of(model.audio_model, seen, longer)
    tensors = {"input": spectra, "embedding": model.audio_projection(pooled)}
    tensors |= {f"hidden.{i}": h for i, h in enumerate(states)}
    write(f"{name}_audio", "audio", files, recipes, tensors, FULL)
    if not texts:
        return

    texts = ids(f"{name}.ids", lengths, 3, vocab, 0, 2)
    outs = [model.text_model(input_ids=torch.tensor([t]), output_hidden_states=True) for t in texts]
    tensors = {
        "input": torch.tensor(sum(texts, [])),
        "lengths": torch.tensor(lengths),
        "embedding": torch.cat([model.text_projection(o.pooler_output) for o in outs]),
    }
    for i in range(len(outs[0].hidden_states)):
        tensors[f"hidden.{i}"] = torch.cat([o.hidden_states[i][0] for o in outs])
    write(f"{name}_text", "text", files, recipes, tensors, FULL)


def small(**audio):
    text = dict(vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
    text |= dict(max_position_embeddings=14, pad_token_id=1, layer_norm_eps=1e-5)
    sound = dict(window_size=4, num_mel_bins=16, spec_size=32, patch_size=2, patch_stride=[2, 2], depths=[2, 1])
    sound |= dict(num_attention_heads=[1, 2], patch_embeds_hidden_size=8, hidden_size=16, mlp_ratio=2.0)
    return ClapConfig(text_config=text, audio_config=sound | audio, projection_dim=12)


# A second of 4 kHz, whose 51 frames are stretched to 64.
SMALL = {"sampling_rate": 4000, "max_length_s": 1, "hop_length": 80, "fft_window_size": 256, "frequency_max": 1900}
SMALL |= {"feature_size": 16}
if FULL:
    published = {"sampling_rate": 48000, "max_length_s": 10, "hop_length": 480}
    golden("clap_htsat_unfused", ClapConfig(), published | {"truncation": "rand_trunc"}, [5, 77], 1)
    golden("clap_htsat_fused", ClapConfig(audio_config={"enable_fusion": True}), published, [], 1, longer=True, texts=False)
else:
    golden("clap", small(), SMALL | {"truncation": "rand_trunc"}, [3, 7, 12])
    fused = small(enable_fusion=True, aff_block_r=2)
    golden("clap_fused", fused, SMALL | {"truncation": "fusion"}, [], 1, longer=True, texts=False)
    golden("clap_fused_short", fused, SMALL | {"truncation": "fusion"}, [], 1, texts=False)
    # Stretched along the bands, without biases in the attention; the reference can stretch but one of the two.
    stretched = small(num_mel_bins=15, qkv_bias=False)
    as_long = SMALL | {"sampling_rate": 5040, "feature_size": 15, "truncation": "rand_trunc"}
    golden("clap_stretched", stretched, as_long, [], 1, texts=False)
