//! The RIFF container of WAV: its chunks, and uncompressed samples read straight from them.
//!
//! Read here rather than by the general decoder because files found in the wild lie in their headers: lengths of 0 or 2^32 - 1
//! from programs that wrote to a pipe, a data chunk longer than the file, a RIFF that holds an MP3 stream.

use crate::error::MediaError;

/// What a WAV file says about its samples, and where they are.
pub(crate) struct Wav<'a> {
    pub(crate) coding: Coding,
    pub(crate) n_channels: usize,
    pub(crate) sample_rate_hz: u32,
    /// Bytes of one sample of one channel.
    width: usize,
    pub(crate) data: &'a [u8],
    /// Bytes that the header promises and the file does not have.
    pub(crate) n_missing: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// Integers: 8 bits unsigned, more bits signed.
    Integer,
    /// IEEE 754.
    Float,
    /// An MP3 stream.
    Mp3,
    /// Anything else, by its tag; the general decoder knows ADPCM, A-law and mu-law.
    Other(u16),
}

impl<'a> Wav<'a> {
    /// Finds the format and the data among the chunks of a RIFF whose first 12 bytes were already recognised.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, MediaError> {
        let mut rest = &bytes[12..];
        let mut format: Option<&[u8]> = None;
        while let Some((head, body)) = rest.split_at_checked(8) {
            let declared = u32_at(head, 4) as usize;
            let present = declared.min(body.len());
            match &head[..4] {
                b"fmt " => format = Some(&body[..present]),
                b"data" => {
                    let format = format.ok_or_else(|| MediaError::damaged("WAV", "its samples come before their format"))?;
                    // A program that wrote to a pipe could not fill in the length.
                    let unknown = declared == u32::MAX as usize || (declared == 0 && !body.is_empty());
                    let data = if unknown { body } else { &body[..present] };
                    let n_missing = if unknown { 0 } else { declared - present };
                    return Self::from_chunks(format, data, n_missing);
                }
                _ => {}
            }
            // Chunks begin at even positions.
            rest = body.get(declared.saturating_add(declared % 2)..).unwrap_or(&[]);
        }
        Err(MediaError::damaged("WAV", "it ends before its samples begin"))
    }

    fn from_chunks(format: &[u8], data: &'a [u8], n_missing: usize) -> Result<Self, MediaError> {
        if format.len() < 16 {
            return Err(MediaError::damaged("WAV", "its format chunk is shorter than 16 bytes"));
        }
        let n_channels = usize::from(u16_at(format, 2));
        let n_bits = u16_at(format, 14);
        // The extensible form keeps the true tag at the head of a 16-byte identifier.
        let tag = if u16_at(format, 0) == 0xfffe && format.len() >= 26 { u16_at(format, 24) } else { u16_at(format, 0) };
        let coding = match (tag, n_bits) {
            (1, 1..=32) => Coding::Integer,
            (3, 32 | 64) => Coding::Float,
            (0x55, _) => Coding::Mp3,
            _ => Coding::Other(tag),
        };
        if n_channels == 0 {
            return Err(MediaError::damaged("WAV", "its header states 0 channels"));
        }
        let width = usize::from(n_bits).div_ceil(8);
        Ok(Wav { coding, n_channels, sample_rate_hz: u32_at(format, 4), width, data, n_missing })
    }

    /// Sampling instants of uncompressed data.
    pub(crate) fn n_frames(&self) -> usize {
        self.data.len() / (self.width * self.n_channels)
    }

    /// Uncompressed samples, channels averaged, full scale 1; may hold what a float file holds, NaN too.
    pub(crate) fn mono(&self) -> Vec<f32> {
        let read: fn(&[u8]) -> f64 = match (self.coding, self.width) {
            (Coding::Float, 4) => |b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            (Coding::Float, _) => |b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            (_, 1) => |b| (f64::from(b[0]) - 128.0) / 128.0,
            (_, 2) => |b| f64::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0,
            (_, 3) => |b| f64::from(i32::from_le_bytes([0, b[0], b[1], b[2]])) / 2_147_483_648.0,
            _ => |b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])) / 2_147_483_648.0,
        };
        let n_channels = self.n_channels as f64;
        self.data
            .chunks_exact(self.width * self.n_channels)
            .map(|frame| (frame.chunks_exact(self.width).map(read).sum::<f64>() / n_channels) as f32)
            .collect()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
