//! Sounds: WAV, FLAC, MP3, OGG Vorbis, M4A (AAC, ALAC), AIFF, to a mono waveform at the stored rate.
//!
//! Channels are averaged. A file that ends early, or breaks off in the middle, gives what could be decoded and a note; one of
//! which nothing can be decoded is refused, and so is one with a sample that is not finite.

use std::io::Cursor;
use std::ops::RangeInclusive;
use std::path::Path;

use chiasm_core::{Media, Waveform};
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use crate::error::MediaError;
use crate::format::extension;
use crate::wav::{Coding, Wav};
use crate::{Decoded, Limits, Metadata};

/// Sample rates that recordings have. Others are a damaged or hostile header: at 1 Hz a small file would claim years, and
/// resampling it to an encoder's rate would take all memory.
const RATES_HZ: RangeInclusive<u32> = 1_000..=1_000_000;

/// Broken packets in a row after which decoding stops; each is skipped as players do.
const MAX_BROKEN_PACKETS: usize = 64;

/// Whether the first bytes name a sound.
pub(crate) fn sniff(bytes: &[u8]) -> bool {
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', ..]
        | [b'f', b'L', b'a', b'C', ..]
        | [b'O', b'g', b'g', b'S', ..]
        | [b'I', b'D', b'3', ..] => true,
        // The sync word of MPEG layer 3, or of ADTS AAC (layer bits 0). Layer 1 would be a UTF-16 byte order mark as well.
        [0xff, b, ..] => b & 0xe6 == 0xe2 || b & 0xf6 == 0xf0,
        _ => false,
    }
}

pub(crate) fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    if !(bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE")) {
        return finish(decode_stream(bytes, extension(path).as_deref(), limits)?);
    }
    let wav = Wav::parse(bytes)?;
    if wav.data.is_empty() {
        return Err(MediaError::Empty { reason: "the WAV file has no sample" });
    }
    let sound = match wav.coding {
        Coding::Integer | Coding::Float => {
            check_samples(wav.n_frames() as u64, limits)?;
            let ends_early = wav.n_missing > 0;
            let wave = Waveform { sample_rate_hz: wav.sample_rate_hz, samples: wav.mono() };
            Sound { format: "WAV".to_owned(), wave, n_channels: wav.n_channels, notes: Vec::new(), ends_early }
        }
        Coding::Mp3 => {
            let sound = decode_stream(wav.data, Some("mp3"), limits)?;
            Sound { format: "WAV (MP3)".to_owned(), ends_early: sound.ends_early || wav.n_missing > 0, ..sound }
        }
        Coding::Other(tag) => decode_stream(bytes, Some("wav"), limits).map_err(|e| {
            if !matches!(e, MediaError::Unsupported { .. } | MediaError::Damaged { .. }) {
                return e;
            }
            MediaError::Unsupported {
                format: "WAV".to_owned(),
                reason: format!("its samples are coded by method {tag:#x}"),
                cure: "convert it to plain 16-bit WAV or FLAC",
            }
        })?,
    };
    finish(sound)
}

/// What a decoder gives, before it is judged.
struct Sound {
    format: String,
    wave: Waveform,
    n_channels: usize,
    notes: Vec<String>,
    ends_early: bool,
}

fn finish(sound: Sound) -> Result<Decoded, MediaError> {
    let Sound { format, wave, n_channels, mut notes, ends_early } = sound;
    if wave.samples.is_empty() {
        return Err(MediaError::Empty { reason: "no sample could be decoded" });
    }
    if !RATES_HZ.contains(&wave.sample_rate_hz) {
        return Err(MediaError::Unsupported {
            format: format!("{format} of {} samples per second", wave.sample_rate_hz),
            reason: format!("expected {} to {}", RATES_HZ.start(), RATES_HZ.end()),
            cure: "resample it, or repair its header",
        });
    }
    if let Some(i) = wave.samples.iter().position(|s| !s.is_finite()) {
        let place = format!("sample {i} ({:.3} s)", i as f64 / f64::from(wave.sample_rate_hz));
        return Err(MediaError::NotFinite { came: wave.samples[i].to_string(), place });
    }
    if ends_early {
        notes.push(format!("ends early: {:.3} s could be decoded, its header promises more", wave.duration_s()));
    }
    let metadata = Metadata {
        format,
        duration_s: Some(wave.duration_s()),
        sample_rate_hz: Some(wave.sample_rate_hz),
        n_channels: u32::try_from(n_channels).ok(),
        notes,
        ..Metadata::default()
    };
    Ok(Decoded { media: Media::Audio(wave), metadata })
}

fn check_samples(n_samples: u64, limits: &Limits) -> Result<(), MediaError> {
    if n_samples > limits.max_audio_samples {
        return Err(MediaError::TooLarge {
            came: format!("is a sound of {n_samples} samples or more"),
            limit: limits.max_audio_samples,
            unit: "samples",
            cure: "cut it into pieces",
            option: "max_audio_samples",
        });
    }
    Ok(())
}

/// Any container and codec that the general decoder knows.
fn decode_stream(bytes: &[u8], extension: Option<&str>, limits: &Limits) -> Result<Sound, MediaError> {
    let mut hint = Hint::new();
    if let Some(extension) = extension {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let mut reader = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|e| MediaError::damaged("sound", format!("no stream was found in it: {e}")))?;
    let container = container_name(reader.format_info().short_name);
    let track = reader.default_track(TrackType::Audio).ok_or(MediaError::Empty { reason: "it has no sound track" })?;
    let (track_id, n_promised) = (track.id, track.num_frames);
    let Some(CodecParameters::Audio(parameters)) = &track.codec_params else {
        return Err(MediaError::damaged(container, "its sound track does not say how it is coded"));
    };
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|e| refusal(container, e))?;
    let codec = codec_name(decoder.codec_info().short_name);
    let format = if codec == container { container.to_owned() } else { format!("{container} ({codec})") };

    let mut wave = Waveform { sample_rate_hz: 0, samples: Vec::new() };
    let mut interleaved: Vec<f32> = Vec::new();
    let (mut n_channels, mut n_broken, mut n_broken_in_a_row) = (0, 0usize, 0usize);
    let mut notes = Vec::new();
    let mut ends_early = false;
    while n_broken_in_a_row < MAX_BROKEN_PACKETS {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(Error::ResetRequired) => {
                notes.push("holds several streams one after the other: only the first is read".to_owned());
                break;
            }
            Err(Error::DecodeError(_)) => {
                n_broken += 1;
                n_broken_in_a_row += 1;
                continue;
            }
            Err(_) => {
                ends_early = true;
                break;
            }
        };
        if packet.track_id != track_id {
            continue;
        }
        let Ok(buffer) = decoder.decode(&packet) else {
            n_broken += 1;
            n_broken_in_a_row += 1;
            continue;
        };
        n_broken_in_a_row = 0;
        let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count());
        if channels == 0 || buffer.frames() == 0 {
            continue;
        }
        if wave.samples.is_empty() {
            (wave.sample_rate_hz, n_channels) = (rate, channels);
        } else if rate != wave.sample_rate_hz {
            notes.push(format!(
                "changes from {} to {rate} samples per second: only the first part is read",
                wave.sample_rate_hz
            ));
            break;
        }
        check_samples(wave.samples.len() as u64 + buffer.frames() as u64, limits)?;
        buffer.copy_to_vec_interleaved(&mut interleaved);
        wave.samples.extend(interleaved.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32));
    }
    if wave.samples.is_empty() {
        return Err(MediaError::damaged(container, "no sample of it could be decoded"));
    }
    if n_broken > 0 {
        notes.push(format!("{n_broken} broken packets were skipped"));
    }
    // Lossy encoders pad their first and last packets and estimate their length, so a few thousand samples are no loss.
    let slack = |n: u64| if matches!(container, "FLAC" | "AIFF" | "WAV") { 0 } else { n / 50 + 4_608 };
    ends_early |= n_promised.is_some_and(|n| (wave.samples.len() as u64) < n.saturating_sub(slack(n)));
    Ok(Sound { format, wave, n_channels, notes, ends_early })
}

fn refusal(format: &'static str, error: Error) -> MediaError {
    let Error::Unsupported(reason) = error else { return MediaError::damaged(format, error) };
    MediaError::Unsupported {
        format: format!("{format} of a kind"),
        reason: reason.to_owned(),
        cure: "convert it to WAV, FLAC or MP3",
    }
}

fn container_name(short: &str) -> &'static str {
    match short {
        "wave" => "WAV",
        "aiff" => "AIFF",
        "flac" => "FLAC",
        "mp3" => "MP3",
        "aac" => "AAC",
        "ogg" => "OGG",
        "isomp4" => "M4A",
        _ => "sound",
    }
}

fn codec_name(short: &str) -> String {
    match short {
        "vorbis" => "Vorbis".to_owned(),
        pcm if pcm.starts_with("pcm_") => "PCM".to_owned(),
        other => other.to_ascii_uppercase().replace('_', " "),
    }
}
