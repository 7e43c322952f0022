//! Sounds: WAV, FLAC, MP3, OGG Vorbis, M4A (AAC, ALAC), AIFF, to a mono waveform at the stored rate.

use std::io::Cursor;
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
use crate::{Decoded, Limits, Metadata};

/// Whether the first bytes name a sound.
pub(crate) fn sniff(bytes: &[u8]) -> bool {
    match bytes {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..]
        | [_, _, _, _, b'f', b't', b'y', b'p', ..]
        | [b'f', b'L', b'a', b'C', ..]
        | [b'O', b'g', b'g', b'S', ..]
        | [b'I', b'D', b'3', ..] => true,
        // The sync word of MPEG layer 3, or of ADTS AAC (layer bits 0).
        [0xff, b, ..] => b & 0xe6 == 0xe2 || b & 0xf6 == 0xf0,
        _ => false,
    }
}

pub(crate) fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let format = "sound";
    let mut hint = Hint::new();
    if let Some(extension) = extension(path) {
        hint.with_extension(&extension);
    }
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes.to_vec())), Default::default());
    let mut reader = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|e| MediaError::damaged(format, e))?;
    let track = reader.default_track(TrackType::Audio).ok_or(MediaError::Empty { reason: "it has no sound track" })?;
    let track_id = track.id;
    let Some(CodecParameters::Audio(parameters)) = track.codec_params.clone() else {
        return Err(MediaError::damaged(format, "its sound track does not say how it is coded"));
    };
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(&parameters, &AudioDecoderOptions::default())
        .map_err(|e| MediaError::damaged(format, e))?;
    let mut samples: Vec<f32> = Vec::new();
    let mut interleaved: Vec<f32> = Vec::new();
    let (mut rate, mut n_channels) = (0, 0);
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(e) => {
                let _: Error = e;
                break;
            }
        };
        if packet.track_id != track_id {
            continue;
        }
        let Ok(buffer) = decoder.decode(&packet) else { continue };
        rate = buffer.spec().rate();
        n_channels = buffer.spec().channels().count();
        buffer.copy_to_vec_interleaved(&mut interleaved);
        samples.extend(interleaved.chunks_exact(n_channels.max(1)).map(|f| f.iter().sum::<f32>() / n_channels as f32));
        if samples.len() as u64 > limits.max_audio_samples {
            return Err(MediaError::TooLarge {
                came: format!("holds more than {} samples", limits.max_audio_samples),
                limit: limits.max_audio_samples,
                unit: "samples",
                cure: "cut it into pieces",
                option: "max_audio_samples",
            });
        }
    }
    if samples.is_empty() {
        return Err(MediaError::Empty { reason: "no sample could be decoded" });
    }
    let wave = Waveform { sample_rate_hz: rate, samples };
    let metadata = Metadata {
        format: "sound".into(),
        duration_s: Some(wave.duration_s()),
        sample_rate_hz: Some(rate),
        n_channels: Some(n_channels as u32),
        ..Metadata::default()
    };
    Ok(Decoded { media: Media::Audio(wave), metadata })
}
