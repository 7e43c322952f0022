//! Animated pictures as videos: GIF, WebP and PNG of more than one frame.
//!
//! Each frame is the whole canvas as it is shown then, laid over white. A frame that states less than 0.02 s is shown for 0.1 s, as
//! browsers do: such files mean "as fast as you like". A file that ends among its frames gives those before, with a note.

use std::io::Cursor;

use chiasm_core::{Media, Video};
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageFormat, ImageResult};

use crate::error::MediaError;
use crate::picture::over_white;
use crate::video::Keeper;
use crate::{Decoded, Limits, Metadata};

/// Delays below this are not meant, and the one that is taken instead.
const LEAST_S: f64 = 0.02;
const INSTEAD_S: f64 = 0.1;

/// Decodes all frames of a canvas of this size; `None` where fewer than two can be decoded, so that the file is a picture.
pub(crate) fn decode(
    format: ImageFormat,
    bytes: &[u8],
    [width, height]: [u32; 2],
    n_frames: u32,
    mut metadata: Metadata,
    limits: &Limits,
) -> Result<Option<Decoded>, MediaError> {
    // Frames cost a canvas each, however few bytes they take in the file.
    let n_pixels = u64::from(width) * u64::from(height) * u64::from(n_frames);
    if n_pixels > limits.max_animation_pixels {
        return Err(MediaError::TooLarge {
            came: format!("is an animation of {n_frames} frames of {width} x {height} pixels"),
            limit: limits.max_animation_pixels,
            unit: "pixels in all",
            cure: "save it smaller or shorter",
            option: "max_animation_pixels",
        });
    }
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.max_pixels.saturating_mul(12).saturating_add(1 << 24));
    let Ok(frames) = frames(format, bytes, decoder_limits) else { return Ok(None) };
    let mut keeper = Keeper::new(limits);
    let (mut time_s, mut n) = (0.0, 0u32);
    for frame in frames {
        let Ok(frame) = frame else {
            // That the file ends early was told already.
            if metadata.notes.is_empty() {
                metadata.notes.push(format!("is damaged: {n} of its {n_frames} frames could be decoded"));
            }
            break;
        };
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let delay_s = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
        if keeper.wants(time_s) {
            keeper.take(time_s, over_white(DynamicImage::ImageRgba8(frame.into_buffer())));
        }
        time_s += if delay_s >= LEAST_S { delay_s } else { INSTEAD_S };
        n += 1;
        if time_s >= limits.max_video_s as f64 {
            metadata.notes.push(format!("only its first {} seconds are read, or raise `max_video_s`", limits.max_video_s));
            break;
        }
    }
    let Some(video) = keeper.finish(time_s).filter(|_| n > 1) else { return Ok(None) };
    let Video { duration_s, .. } = video;
    metadata.duration_s = Some(duration_s);
    (metadata.width, metadata.height) = (Some(width), Some(height));
    Ok(Some(Decoded { media: Media::Video(video), metadata }))
}

/// The frames, decoded one by one.
fn frames<'a>(format: ImageFormat, bytes: &'a [u8], limits: image::Limits) -> ImageResult<Frames<'a>> {
    let source = Cursor::new(bytes);
    Ok(if format == ImageFormat::Gif {
        let mut decoder = GifDecoder::new(source)?;
        decoder.set_limits(limits)?;
        decoder.into_frames()
    } else if format == ImageFormat::WebP {
        let mut decoder = WebPDecoder::new(source)?;
        decoder.set_limits(limits)?;
        decoder.into_frames()
    } else {
        PngDecoder::with_limits(source, limits)?.apng()?.into_frames()
    })
}
