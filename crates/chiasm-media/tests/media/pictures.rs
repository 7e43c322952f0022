//! Pictures: every format against Pillow, orientation, dates and places, bombs, truncation, resizing.
use std::path::Path;

use crate::common::{golden, open, picture, refusal};
use chiasm_core::Image;
use chiasm_media::{Limits, decode, resize};

/// Largest and mean absolute difference over all channels.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let all = || a.rgb.iter().zip(&b.rgb).map(|(x, y)| x.abs_diff(*y));
    (all().max().unwrap(), all().map(f64::from).sum::<f64>() / a.rgb.len() as f64)
}

#[test]
fn every_format_decodes_as_the_reference_does() {
    // Exact where the format is lossless; a rounding step where 16 bits or alpha meet 8; a few where two decoders may differ
    // in the inverse transform and in how they enlarge chroma.
    for (name, format, tolerance) in [
        ("rgb.png", "PNG", 0),
        ("rgba.png", "PNG", 1),
        ("grey.png", "PNG", 0),
        ("grey_alpha.png", "PNG", 1),
        ("grey16.png", "PNG", 0),
        ("palette.png", "PNG", 0),
        ("bilevel.png", "PNG", 0),
        ("colour.jpg", "JPEG", 4),
        ("progressive.jpg", "JPEG", 4),
        ("full_chroma.jpg", "JPEG", 4),
        ("grey.jpg", "JPEG", 2),
        ("cmyk.jpg", "JPEG", 4),
        ("turned.jpg", "JPEG", 4),
        ("lossy.webp", "WebP", 4),
        ("lossless.webp", "WebP", 1),
        ("colour.bmp", "BMP", 0),
        ("palette.bmp", "BMP", 0),
        ("colour.tiff", "TIFF", 0),
        ("lzw.tiff", "TIFF", 0),
        ("deflate.tiff", "TIFF", 1),
        ("grey16.tiff", "TIFF", 0),
        ("cmyk.tiff", "TIFF", 2),
    ] {
        let decoded = open(name, &golden(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded.metadata.format, format);
        let expected = picture(open("x.png", &golden(&format!("{name}.expected.png"))).unwrap());
        assert_eq!((decoded.metadata.width, decoded.metadata.height), (Some(expected.width), Some(expected.height)), "{name}");
        let (largest, mean) = difference(&picture(decoded), &expected);
        println!("{name}: largest difference {largest}, mean {mean:.3}");
        assert!(largest <= tolerance, "{name}: differs by {largest}, mean {mean}");
    }
}

#[test]
fn the_camera_tells_when_and_where_and_which_way_is_up() {
    let decoded = open("turned.jpg", &golden("turned.jpg")).unwrap();
    let m = &decoded.metadata;
    assert_eq!(m.taken.as_deref(), Some("2021-07-04T18:30:05+02:00"));
    assert!((m.latitude.unwrap() + 33.856_666_7).abs() < 1e-6, "{:?}", m.latitude);
    assert!((m.longitude.unwrap() - 151.21).abs() < 1e-6, "{:?}", m.longitude);
    assert_eq!((m.width, m.height), (Some(16), Some(24)), "a quarter turn swaps the sides");
}

#[test]
fn impossible_dates_are_left_out() {
    let bytes = golden("turned.jpg");
    let at = bytes.windows(19).position(|w| w == b"2021:07:04 18:30:05").unwrap();
    for date in
        [b"2021:02:30 18:30:05", b"0000:00:00 00:00:00", b"2021:13:01 00:00:00", b"                   ", b"2021-07-04T18:30:05"]
    {
        let mut bytes = bytes.clone();
        bytes[at..at + 19].copy_from_slice(date);
        assert_eq!(open("x.jpg", &bytes).unwrap().metadata.taken, None, "{}", String::from_utf8_lossy(date));
    }
}

#[test]
fn content_decides_over_the_extension() {
    let decoded = decode(Path::new("liar.txt"), &golden("rgb.png"), &Limits::default()).unwrap();
    assert_eq!(decoded.metadata.format, "PNG");
    assert_eq!(decode(Path::new("no extension"), &golden("three.gif"), &Limits::default()).unwrap().metadata.format, "GIF");
}

/// A PNG header of any size with little behind it.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = golden("rgb.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let message = refusal(open("bomb.png", &png_claiming(20_000, 20_000)));
    assert_eq!(
        message,
        "is a picture of 20000 x 20000 = 400000000 pixels, the limit is 120000000 pixels: save it smaller, or raise `max_pixels`"
    );
    refusal(open("bomb.png", &png_claiming(1 << 30, 1 << 30)));
    // A size within the limit that the data do not fill is damage, not a grey picture.
    assert!(refusal(open("short.png", &png_claiming(3_000, 3_000))).contains("damaged PNG"));
    let limits = Limits { max_pixels: 24 * 16 - 1, ..Limits::default() };
    for name in ["rgb.png", "three.gif", "lossy.webp", "colour.bmp", "colour.tiff", "full_chroma.jpg"] {
        let message = refusal(decode(Path::new(name), &golden(name), &limits));
        assert!(message.contains("24 x 16 = 384 pixels"), "{name}: {message}");
    }
}

#[test]
fn truncated_pictures_are_refused() {
    for name in [
        "rgb.png",
        "colour.jpg",
        "progressive.jpg",
        "lossless.webp",
        "lossy.webp",
        "three.gif",
        "colour.bmp",
        "colour.tiff",
        "lzw.tiff",
    ] {
        let bytes = golden(name);
        for percent in [3, 30, 60, 90] {
            let cut = &bytes[..bytes.len() * percent / 100];
            match open(name, cut) {
                // The first frame of an animation may be whole where a later one is not.
                Ok(decoded) => {
                    assert_eq!(
                        decoded.metadata.notes,
                        ["ends early: its later frames are incomplete"],
                        "{name} at {percent} %"
                    );
                    assert!(name == "three.gif" && percent > 30);
                }
                Err(error) => {
                    let message = error.to_string();
                    let clear = message.contains("damaged") || message.contains("no known format") || message.contains("NUL");
                    assert!(clear, "{name} at {percent} %: {message}");
                }
            }
        }
    }
    let jpeg = golden("colour.jpg");
    assert!(refusal(open("x.jpg", &jpeg[..jpeg.len() - 9])).contains("ends before its end marker"));
}

#[test]
fn known_formats_without_a_decoder_say_what_to_do() {
    let message = refusal(open("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"));
    assert_eq!(message, "is HEIC, which is not decoded here (no decoder for it is built in): convert it to JPEG or PNG");
    assert!(refusal(open("a.png", b"<html>not found</html>")).contains("expected PNG, JPEG"));
}

#[test]
fn resizing_equals_pillow() {
    let source = picture(open("x.png", &golden("resize_source.png")).unwrap());
    for (width, height) in [(224, 224), (31, 20), (96, 60), (200, 13), (13, 130), (1, 1)] {
        let expected = picture(open("x.png", &golden(&format!("resize_{width}x{height}.png"))).unwrap());
        let (largest, mean) = difference(&resize(&source, width, height), &expected);
        println!("{width} x {height}: largest difference {largest}, mean {mean:.5}");
        assert!(largest <= 1, "{width} x {height}: differs by {largest}");
    }
    assert_eq!(resize(&source, 97, 61), source);
}

/// Not a gate but a figure for the crate's documentation: run with `--nocapture` and `CHIASM_PILLOW_DECODED`, a folder of
/// `<name>.png` that Pillow wrote from `flickr8k/images/<name>.jpg`.
#[test]
fn real_photos_against_pillow() {
    let Some(photos) = crate::common::real_data("flickr8k/images") else { return };
    let photos = crate::common::files_below(&photos, &["jpg"]);
    assert!(!photos.is_empty());
    let reference = std::env::var_os("CHIASM_PILLOW_DECODED");
    let (mut largest, mut mean, mut resized_largest, mut resized_mean, mut n) = (0, 0.0, 0, 0.0, 0.0);
    for path in photos.iter().step_by(if reference.is_some() { 1 } else { 100 }) {
        let image = picture(open("x.jpg", &std::fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        let Some(folder) = &reference else { continue };
        let expected = Path::new(folder).join(path.with_extension("png").file_name().unwrap());
        let expected = picture(open("x.png", &std::fs::read(expected).unwrap()).unwrap());
        let d = difference(&image, &expected);
        let r = difference(&resize(&image, 224, 224), &resize(&expected, 224, 224));
        (largest, mean, n) = (largest.max(d.0), mean + d.1, n + 1.0);
        (resized_largest, resized_mean) = (resized_largest.max(r.0), resized_mean + r.1);
    }
    if n > 0.0 {
        println!(
            "{n} photos: largest {largest}, mean {:.4}; at 224 x 224 largest {resized_largest}, mean {:.4}",
            mean / n,
            resized_mean / n
        );
    }
}
