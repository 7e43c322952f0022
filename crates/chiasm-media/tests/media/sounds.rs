//! Sounds: every format against known tones, odd WAV files, truncation, limits, spectra, real recordings.
use std::path::Path;

use crate::common::{files_below, golden, open, real_data, refusal, sound, wav};
use chiasm_core::Waveform;
use chiasm_media::spectrum::{LogMel, LogMelConfig, Stft};
use chiasm_media::{Limits, decode, read_npy_f32, resample};

/// The average of the golden tones' two channels.
fn tones(rate: u32, n: usize) -> Vec<f32> {
    let tone = |hz: f64, i: usize| 0.4 * (2.0 * std::f64::consts::PI * hz * i as f64 / f64::from(rate)).sin();
    (0..n).map(|i| ((tone(440.0, i) + tone(660.0, i)) / 2.0) as f32).collect()
}

/// Signal to noise against the tones, in dB, at the best of the delays that an encoder may leave in front.
fn snr_db(wave: &Waveform) -> f64 {
    let ideal = tones(wave.sample_rate_hz, wave.samples.len());
    let margin = 2_400;
    let n = wave.samples.len() - 2 * margin;
    let noise_at = |delay: usize| -> f64 {
        let pairs = wave.samples[margin + delay..][..n - 2_400].iter().zip(&ideal[margin..]);
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
    };
    let signal: f64 = ideal[margin..][..n - 2_400].iter().map(|v| f64::from(*v).powi(2)).sum();
    let noise = (0..2_400).map(noise_at).fold(f64::INFINITY, f64::min);
    10.0 * (signal / noise.max(1e-12)).log10()
}

#[test]
fn every_format_gives_the_tones_back() {
    for (name, format, rate, n_channels, floor_db) in [
        ("tones.flac", "FLAC", 16_000, 2, 85.0),
        ("tones.aiff", "AIFF (PCM)", 16_000, 2, 85.0),
        ("tones_24.wav", "WAV", 16_000, 2, 100.0),
        ("tones_extensible.wav", "WAV", 16_000, 2, 100.0),
        ("tones_ulaw.wav", "WAV (PCM)", 16_000, 2, 30.0),
        ("tones.ogg", "OGG (Vorbis)", 16_000, 2, 20.0),
        ("tones.mp3", "MP3", 44_100, 2, 20.0),
        ("riff_mp3.wav", "WAV (MP3)", 44_100, 2, 20.0),
        ("tones_aac.m4a", "M4A (AAC)", 44_100, 2, 20.0),
    ] {
        let decoded = open(name, &golden(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let m = decoded.metadata.clone();
        assert_eq!((m.format.as_str(), m.sample_rate_hz, m.n_channels), (format, Some(rate), Some(n_channels)), "{name}");
        assert_eq!(m.notes, Vec::<String>::new(), "{name}");
        let wave = sound(decoded);
        assert!((wave.duration_s() - 0.5).abs() < 0.08, "{name}: {} s", wave.duration_s());
        let snr = snr_db(&wave);
        println!("{name}: {snr:.1} dB, {:.4} s", wave.duration_s());
        assert!(snr > floor_db, "{name}: {snr:.1} dB");
    }
    let alac = open("x.m4a", &golden("tones_alac.m4a")).unwrap();
    assert_eq!(alac.metadata.format, "M4A (ALAC)");
    let wave = sound(alac);
    let ideal = tones(44_100, wave.samples.len());
    assert!(wave.samples.len() >= 44_100 / 8);
    assert!(wave.samples.iter().zip(&ideal).take(44_100 / 8).all(|(a, b)| (a - b).abs() < 3e-5));
    // One channel, so the left tone alone; ADPCM is coarse.
    assert_eq!(open("x.wav", &golden("tones_ima.wav")).unwrap().metadata.n_channels, Some(1));
}

#[test]
fn sample_formats_have_their_scale() {
    let first = |bytes: Vec<u8>| sound(open("x.wav", &bytes).unwrap()).samples;
    assert_eq!(first(wav(1, 1, 8_012, 8, &[0, 64, 128, 192])), [-1.0, -0.5, 0.0, 0.5], "8 bits are unsigned");
    assert_eq!(first(wav(1, 1, 8_000, 16, &[0, 0x80, 0, 0x40])), [-1.0, 0.5]);
    assert_eq!(first(wav(1, 1, 8_000, 24, &[0, 0, 0x80, 0, 0, 0x40])), [-1.0, 0.5]);
    assert_eq!(first(wav(1, 1, 8_000, 32, &[0, 0, 0, 0x80, 0, 0, 0, 0x40])), [-1.0, 0.5]);
    assert_eq!(first(wav(3, 1, 8_000, 32, &0.25f32.to_le_bytes())), [0.25]);
    assert_eq!(first(wav(3, 1, 8_000, 64, &(-0.25f64).to_le_bytes())), [-0.25]);
    assert_eq!(first(wav(1, 2, 8_000, 16, &[0, 0x40, 0, 0x20, 0, 0x40, 0, 0xc0])), [0.375, 0.0], "channels are averaged");
    let odd = open("x.wav", &wav(1, 1, 11_127, 8, &[128; 40])).unwrap();
    assert_eq!(odd.metadata.sample_rate_hz, Some(11_127));
}

#[test]
fn hound_and_we_agree() {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let spec =
        hound::WavSpec { channels: 2, sample_rate: 22_050, bits_per_sample: 24, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    let values: Vec<i32> = (0..200).map(|i| (i * 7_919_777) % 8_388_607).collect();
    values.iter().for_each(|v| writer.write_sample(*v).unwrap());
    writer.finalize().unwrap();
    let expected: Vec<f32> =
        values.chunks(2).map(|p| ((f64::from(p[0]) + f64::from(p[1])) / 2.0 / 8_388_608.0) as f32).collect();
    assert_eq!(sound(open("x.wav", bytes.get_ref()).unwrap()).samples, expected);
}

#[test]
fn truncated_sounds_say_that_they_end_early() {
    let bytes = wav(1, 1, 8_000, 16, &[7; 16_000]);
    let decoded = open("x.wav", &bytes[..8_045]).unwrap();
    assert_eq!(decoded.metadata.notes, ["ends early: 0.500 s could be decoded, its header promises more"]);
    assert_eq!(sound(decoded).samples.len(), 4_000, "an incomplete last sample is left out");
    for name in ["tones.flac", "tones_aac.m4a", "riff_mp3.wav", "tones.aiff"] {
        let whole = golden(name);
        match open(name, &whole[..whole.len() * 7 / 10]) {
            Ok(decoded) => {
                assert!(decoded.metadata.notes.iter().any(|n| n.starts_with("ends early")), "{name}: {:?}", decoded.metadata)
            }
            // An M4A keeps its table of contents at the end, and AIFF chunks are looked up before they are read.
            Err(error) => {
                assert!(
                    ["tones_aac.m4a", "tones.aiff"].contains(&name) && error.to_string().contains("damaged"),
                    "{name}: {error}"
                );
            }
        }
    }
}

#[test]
fn sounds_without_sound_are_refused() {
    assert_eq!(refusal(open("x.wav", b"")), "is empty: the file has 0 bytes");
    assert_eq!(refusal(open("x.wav", &wav(1, 1, 8_000, 16, &[]))), "is empty: the WAV file has no sample");
    assert!(refusal(open("x.wav", &wav(1, 1, 8_000, 16, &[0; 100])[..40])).contains("ends before its samples begin"));
    assert!(refusal(open("x.wav", &wav(1, 0, 8_000, 16, &[0; 100]))).contains("0 channels"));
    assert!(refusal(open("x.wav", &wav(1, 1, 0, 16, &[0; 100]))).contains("WAV of 0 samples per second"));
    assert!(refusal(open("x.wav", &wav(1, 1, 1, 16, &[0; 100]))).contains("expected 1000 to 1000000"));
    assert!(refusal(open("x.wav", &wav(0x161, 1, 8_000, 16, &[0; 100]))).contains("method 0x161"));
    assert!(refusal(open("x.mp3", b"RIFF")).contains("damaged"));
    assert!(refusal(open("x.flac", &golden("tones.flac")[..40])).contains("damaged sound"));
    assert!(
        refusal(open("x.opus", b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead....")).contains("is Opus")
    );
}

#[test]
fn a_stream_written_to_a_pipe_has_no_length() {
    let mut bytes = wav(1, 1, 8_000, 16, &[1; 200]);
    for unknown in [0u32, u32::MAX] {
        bytes[40..44].copy_from_slice(&unknown.to_le_bytes());
        let decoded = open("x.wav", &bytes).unwrap();
        assert!(decoded.metadata.notes.is_empty());
        assert_eq!(sound(decoded).samples.len(), 100);
    }
}

#[test]
fn values_that_are_no_number_are_refused_by_place() {
    let mut data = vec![0u8; 8_000];
    data[4_000..4_004].copy_from_slice(&f32::NAN.to_le_bytes());
    let message = refusal(open("x.wav", &wav(3, 1, 8_000, 32, &data)));
    assert_eq!(message, "holds NaN at sample 1000 (0.125 s), expected finite numbers: remove or replace it");
}

#[test]
fn the_sample_limit_holds_while_decoding() {
    let limits = Limits { max_audio_samples: 4_000, ..Limits::default() };
    for name in ["tones.flac", "tones.mp3", "tones_24.wav", "tones.ogg"] {
        let message = refusal(decode(Path::new(name), &golden(name), &limits));
        assert!(message.contains("the limit is 4000 samples: cut it into pieces, or raise `max_audio_samples`"), "{message}");
    }
}

#[test]
fn resampling_equals_scipy() {
    for (name, from, to) in [("down", 44_100, 16_000), ("up", 8_012, 16_000), ("half", 16_000, 8_000)] {
        let (samples, _) = read_npy_f32(&golden(&format!("resample_{name}_{from}_{to}_in.npy")), 1 << 20).unwrap();
        let (expected, _) = read_npy_f32(&golden(&format!("resample_{name}_{from}_{to}_out.npy")), 1 << 20).unwrap();
        let ours = resample(&Waveform { sample_rate_hz: from, samples }, to).samples;
        assert_eq!(ours.len(), expected.len());
        // Both sum some hundred products, ours in f32: rounding of 1e-6, with room.
        let largest = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{from} -> {to}: largest difference {largest:e}");
        assert!(largest < 5e-6, "{from} -> {to}: {largest}");
    }
}

#[test]
fn log_mel_equals_numpy() {
    let (samples, _) = read_npy_f32(&golden("log_mel_in.npy"), 1 << 20).unwrap();
    let (expected, shape) = read_npy_f32(&golden("log_mel_out.npy"), 1 << 20).unwrap();
    let config = LogMelConfig {
        sample_rate_hz: 22_050,
        window_samples: 512,
        hop_samples: 200,
        fft_size: 1_024,
        n_mels: 40,
        min_hz: 0.0,
        max_hz: 8_000.0,
        power: true,
        log_offset: 1e-6,
    };
    let mel = LogMel::new(config.clone()).unwrap();
    assert_eq!(shape, [mel.n_frames(samples.len()), mel.n_mels()]);
    let ours = mel.compute(&samples);
    // ln of sums in f32: 1e-3 at most where power is near the offset.
    let largest = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-3, "{largest}");
    assert!(mel.compute(&samples[..511]).is_empty(), "shorter than a window: no frame");
    for wrong in [
        LogMelConfig { hop_samples: 0, ..config.clone() },
        LogMelConfig { window_samples: 2_000, ..config.clone() },
        LogMelConfig { max_hz: 20_000.0, ..config.clone() },
        LogMelConfig { min_hz: f64::NAN, ..config.clone() },
        LogMelConfig { log_offset: 0.0, ..config },
    ] {
        assert!(LogMel::new(wrong).is_err());
    }
}

#[test]
fn a_tone_peaks_in_its_bin() {
    let stft = Stft::new(400, 160, 512);
    let samples: Vec<f32> = (0..1_000).map(|i| (2.0 * std::f32::consts::PI * 1_000.0 * i as f32 / 16_000.0).cos()).collect();
    let magnitude = stft.magnitude(&samples);
    assert_eq!(magnitude.len(), stft.n_frames(1_000) * stft.n_bins());
    let frame = &magnitude[..stft.n_bins()];
    let peak = (0..frame.len()).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap();
    assert_eq!(peak, 32); // 1000 Hz of 31.25 Hz bins
    assert!(
        (frame[peak] - 100.0).abs() < 0.5,
        "a Hann window of 400 halves amplitude 1 over 400 samples twice: {}",
        frame[peak]
    );
}

/// The named f32 tensor of a safetensors file.
fn tensor(bytes: &[u8], name: &str) -> Vec<f32> {
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let at = |i: usize| 8 + n + header[name]["data_offsets"][i].as_u64().unwrap() as usize;
    bytes[at(0)..at(1)].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn yamnets_log_mel_equals_its_golden() {
    let Some(folder) = real_data("small_models") else { return };
    let bytes = std::fs::read(folder.join("golden_yamnet.safetensors")).unwrap();
    let mel = LogMel::yamnet();
    for name in ["chirp", "dog"] {
        let ours = mel.compute(&tensor(&bytes, &format!("{name}.waveform")));
        let expected = tensor(&bytes, &format!("{name}.log_mel"));
        assert_eq!((ours.len(), expected.len()), (96 * 64, 96 * 64));
        let largest = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{name}: largest log-mel difference {largest:e}");
        assert!(largest < 1e-3, "{name}: {largest}");
    }
}

#[test]
fn real_recordings_decode() {
    // Every recording with CHIASM_ALL_RECORDINGS set; a sample of them otherwise, to keep the tests quick.
    let all = std::env::var_os("CHIASM_ALL_RECORDINGS").is_some();
    for (folder, step) in [("animal_sounds", 7), ("fsdd", 97), ("flickr8k/spoken_captions", 15)] {
        let Some(path) = real_data(folder) else { return };
        let files = files_below(&path, &["wav", "mp3"]);
        assert!(files.len() >= 100, "{folder}: {} files", files.len());
        let (mut n, mut seconds, mut notes) = (0, 0.0, Vec::new());
        for file in files.iter().step_by(if all { 1 } else { step }) {
            let decoded = open(file.to_str().unwrap(), &std::fs::read(file).unwrap())
                .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            notes.extend(decoded.metadata.notes.iter().map(|note| format!("{}: {note}", file.display())));
            let wave = sound(decoded);
            assert!(wave.samples.iter().all(|s| s.abs() <= 1.5), "{}", file.display());
            assert!(wave.samples.iter().any(|s| s.abs() > 0.01), "{} is silent", file.display());
            (n, seconds) = (n + 1, seconds + wave.duration_s());
        }
        println!("{folder}: {n} of {} files, {seconds:.1} s, notes {notes:?}", files.len());
    }
}
