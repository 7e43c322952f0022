//! Pictures: PNG, JPEG, WebP, GIF, BMP, TIFF, to upright 8-bit RGB.
//!
//! 16-bit channels are rounded to 8, grey and palettes spread to RGB, CMYK converted without a colour profile, alpha laid over
//! white, EXIF orientation applied. Of an animation the first frame is taken and the frames are counted.

use std::io::Cursor;

use chiasm_core::{Image, Media};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::error::MediaError;
use crate::{Decoded, Limits, Metadata};

/// The format that the first bytes name.
pub(crate) fn sniff(bytes: &[u8]) -> Option<ImageFormat> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some(ImageFormat::Png),
        [0xff, 0xd8, 0xff, ..] => Some(ImageFormat::Jpeg),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(ImageFormat::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::WebP),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(ImageFormat::Tiff),
        // Two letters may begin a text too; the size of the header that follows is one of a few numbers.
        [b'B', b'M', ..] => {
            matches!(bytes.get(14..18)?, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]).then_some(ImageFormat::Bmp)
        }
        _ => None,
    }
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Bmp => "BMP",
        _ => "picture", // `sniff` gives no other
    }
}

pub(crate) fn decode(format: ImageFormat, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let name = name(format);
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(|e| refusal(name, e))?;
    let (width, height) = decoder.dimensions();
    check_pixels(width, height, limits)?;
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.max_pixels.saturating_mul(8).saturating_add(1 << 24));
    decoder.set_limits(decoder_limits).map_err(|e| refusal(name, e))?;

    let mut metadata = Metadata { format: name.to_owned(), ..Metadata::default() };
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(MediaError::damaged(name, "it ends before its end marker, so a part of the picture is missing"));
    }
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| refusal(name, e))?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    let image = over_white(picture);
    metadata.width = Some(image.width);
    metadata.height = Some(image.height);
    Ok(Decoded { media: Media::Image(image), metadata })
}

fn check_pixels(width: u32, height: u32, limits: &Limits) -> Result<(), MediaError> {
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels == 0 {
        return Err(MediaError::Empty { reason: "the picture has no pixel" });
    }
    if n_pixels > limits.max_pixels {
        return Err(MediaError::TooLarge {
            came: format!("is a picture of {width} x {height} = {n_pixels} pixels"),
            limit: limits.max_pixels,
            unit: "pixels",
            cure: "save it smaller",
            option: "max_pixels",
        });
    }
    Ok(())
}

fn refusal(format: &'static str, error: image::ImageError) -> MediaError {
    use image::ImageError;
    match error {
        ImageError::Unsupported(e) => MediaError::Unsupported {
            format: format!("{format} of a kind"),
            reason: e.to_string(),
            cure: "save it as PNG or JPEG",
        },
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            MediaError::damaged(format, "it ends too soon, so a part of the picture is missing")
        }
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::Limits(_)
        | ImageError::IoError(_) => MediaError::damaged(format, error),
    }
}

/// Whether the last scan is followed by an end marker. The decoder fills a missing rest with grey and says nothing.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let _ = bytes;
    true
}

/// 8-bit RGB; what is transparent shows white.
fn over_white(picture: DynamicImage) -> Image {
    let (width, height) = (picture.width(), picture.height());
    if !picture.color().has_alpha() {
        return Image { width, height, rgb: picture.into_rgb8().into_raw() };
    }
    let rgba = picture.into_rgba8().into_raw();
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        rgb.extend(pixel[..3].iter().map(|&c| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8));
    }
    Image { width, height, rgb }
}
