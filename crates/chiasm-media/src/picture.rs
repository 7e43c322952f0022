//! Pictures: PNG, JPEG, WebP, GIF, BMP, TIFF, to upright 8-bit RGB.
//!
//! 16-bit channels are rounded to 8, grey and palettes spread to RGB, CMYK converted without a colour profile, alpha laid over
//! white, EXIF orientation applied. Files of more than one frame are videos, see `animation.rs`.

use std::io::Cursor;

use chiasm_core::{Image, Media};
use exif::{In, Tag};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::error::{MediaError, excerpt};
use crate::{Decoded, Limits, Metadata, animation};

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
    let names = [
        (ImageFormat::Png, "PNG"),
        (ImageFormat::Jpeg, "JPEG"),
        (ImageFormat::Gif, "GIF"),
        (ImageFormat::WebP, "WebP"),
        (ImageFormat::Tiff, "TIFF"),
        (ImageFormat::Bmp, "BMP"),
    ];
    names.into_iter().find(|(known, _)| *known == format).map_or("picture", |(_, name)| name)
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
    let (n_frames, ends_early) = n_frames(format, bytes);
    metadata.n_frames = n_frames;
    if ends_early {
        metadata.notes.push("ends early: its later frames are incomplete".to_owned());
    }
    if let Some(n) = n_frames.filter(|n| *n > 1)
        && let Some(video) = animation::decode(format, bytes, [width, height], n, metadata.clone(), limits)?
    {
        return Ok(video);
    }
    let exif = if format == ImageFormat::Tiff {
        // A TIFF file is its own EXIF structure; only small ones are photographs with a camera's tags worth a copy.
        (bytes.len() < 64 << 20).then(|| bytes.to_vec())
    } else {
        decoder.exif_metadata().ok().flatten()
    };
    if let Some(exif) = exif {
        read_exif(exif, &mut metadata);
    }
    // A broken orientation tag leaves the picture as it is stored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(MediaError::damaged(name, "it ends before its end marker, so a part of the picture is missing"));
    }
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| refusal(name, e))?;
    picture.apply_orientation(orientation);
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
            reason: excerpt(&e.to_string(), 200),
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

/// Whether the end marker stands where the scans end. The decoder fills a missing rest with grey and says nothing.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut rest = &bytes[2..];
    // Rubbish between segments, fill bytes and the coded data itself are all passed over to the next 0xFF.
    while let Some(at) = rest.iter().position(|&b| b == 0xff) {
        rest = &rest[at + 1..];
        match rest {
            [0xd9, ..] => return true,
            // A coded 0xFF, a restart, or a fill byte: none has a length.
            [0x00 | 0x01 | 0xd0..=0xd8, after @ ..] => rest = after,
            [0xff, ..] | [] => {}
            [_, high, low, ..] => rest = rest.get(1 + usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or(&[]),
            [_, ..] => return false,
        }
    }
    false
}

/// Frames of an animation, counted by its chunks without decoding, and whether the file ends among them; `None` for formats
/// and files that hold one picture.
fn n_frames(format: ImageFormat, bytes: &[u8]) -> (Option<u32>, bool) {
    if format == ImageFormat::Gif {
        return gif_frames(bytes);
    }
    let n = if format == ImageFormat::WebP {
        u32::try_from(webp_chunks(bytes).filter(|id| id == b"ANMF").count()).ok().filter(|&n| n > 0)
    } else if format == ImageFormat::Png {
        apng_frames(bytes)
    } else {
        None
    };
    (n, false)
}

/// What an animated PNG says in an acTL chunk before its first data.
fn apng_frames(bytes: &[u8]) -> Option<u32> {
    let head = &bytes[..bytes.windows(4).position(|w| w == b"IDAT")?];
    let at = head.windows(4).position(|w| w == b"acTL")?;
    head.get(at + 4..at + 8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// Chunk names of a WebP file's RIFF.
fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    let mut rest = bytes.get(12..).unwrap_or(&[]);
    std::iter::from_fn(move || {
        let id = *rest.first_chunk::<4>()?;
        let length = rest.get(4..8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)?;
        rest = rest.get(8usize.saturating_add(length).saturating_add(length % 2)..).unwrap_or(&[]);
        Some(id)
    })
}

/// Image blocks of a GIF, and whether it ends without its trailer.
fn gif_frames(bytes: &[u8]) -> (Option<u32>, bool) {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3usize << ((flags & 7) + 1) };
    let mut at = 13 + bytes.get(10).map_or(0, |&flags| table(flags));
    let mut n = 0;
    loop {
        match bytes.get(at) {
            Some(0x2c) => {
                n += 1;
                let Some(flags) = bytes.get(at + 9) else { return (Some(n), true) };
                at += 11 + table(*flags); // descriptor, colour table, code size
            }
            Some(0x21) => at += 2,
            Some(_) => return (Some(n), false), // the trailer
            None => return (Some(n), true),
        }
        // Blocks of data, each led by its length, to one of length 0.
        while let Some(&length) = bytes.get(at) {
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
}

/// Date and place from EXIF. What is missing, blank or impossible there is left out: many programs write such tags.
fn read_exif(bytes: Vec<u8>, metadata: &mut Metadata) {
    let Ok(exif) = exif::Reader::new().continue_on_error(true).read_raw(bytes).or_else(|e| e.distill_partial_result(|_| {}))
    else {
        return;
    };
    let ascii = |tag| {
        let exif::Value::Ascii(lines) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
        lines.first().map(Vec::as_slice)
    };
    metadata.taken = [
        (Tag::DateTimeOriginal, Tag::OffsetTimeOriginal),
        (Tag::DateTimeDigitized, Tag::OffsetTimeDigitized),
        (Tag::DateTime, Tag::OffsetTime),
    ]
    .into_iter()
    .find_map(|(date, offset)| iso_date(ascii(date)?, ascii(offset)));
    let degrees = |tag, reference, negative: u8, limit: f64| {
        let exif::Value::Rational(parts) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
        let [degrees, minutes, seconds] = parts.get(..3)? else { return None };
        let size = degrees.to_f64() + minutes.to_f64() / 60.0 + seconds.to_f64() / 3_600.0;
        let sign = if ascii(reference)?.first()?.eq_ignore_ascii_case(&negative) { -1.0 } else { 1.0 };
        Some(sign * size).filter(|d| d.abs() <= limit) // NaN from a denominator of 0 fails this too
    };
    let latitude = degrees(Tag::GPSLatitude, Tag::GPSLatitudeRef, b'S', 90.0);
    let longitude = degrees(Tag::GPSLongitude, Tag::GPSLongitudeRef, b'W', 180.0);
    if latitude.is_some() && longitude.is_some() {
        (metadata.latitude, metadata.longitude) = (latitude, longitude);
    }
}

/// `2021:07:04 18:30:00` and `+02:00` to `2021-07-04T18:30:00+02:00`; `None` for dates that no calendar has.
fn iso_date(date: &[u8], offset: Option<&[u8]>) -> Option<String> {
    let t = exif::DateTime::from_ascii(date).ok()?;
    let leap = t.year % 4 == 0 && (t.year % 100 != 0 || t.year % 400 == 0);
    let n_days = match t.month {
        2 => 28 + u8::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if t.year == 0 || !(1..=n_days).contains(&t.day) || t.hour > 23 || t.minute > 59 || t.second > 60 {
        return None;
    }
    let offset = offset.and_then(|o| std::str::from_utf8(o).ok()).map(str::trim).filter(
        |o| matches!(o.as_bytes(), [b'+' | b'-', h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|d| d.is_ascii_digit())),
    );
    let exif::DateTime { year, month, day, hour, minute, second, .. } = t;
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{}", offset.unwrap_or("")))
}

/// 8-bit RGB; what is transparent shows white.
pub(crate) fn over_white(picture: DynamicImage) -> Image {
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
