//! What a file is: by extension for a folder walk, by content for decoding.

use std::path::Path;

use chiasm_core::Modality;

use crate::error::{MediaError, first_bytes};
use crate::{Decoded, Limits, picture, series, shape, sound, text, video};

/// Every extension a folder walk looks at, lower case. Formats that are known but not decoded (HEIC, Opus, WMA) stand here too:
/// their files are then listed as refused, with the cure, instead of being passed over in silence.
const EXTENSIONS: &[(Modality, &[&str])] = &[
    (
        Modality::Image,
        &["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "dib", "tif", "tiff", "heic", "heif", "avif"],
    ),
    (Modality::Audio, &["wav", "wave", "flac", "mp3", "ogg", "oga", "m4a", "m4b", "aac", "aif", "aiff", "aifc", "opus", "wma"]),
    (Modality::Text, &["txt", "text", "md", "markdown", "jsonl", "ndjson"]),
    (Modality::Series, &["csv", "tsv", "npy"]),
    (
        Modality::Video,
        &[
            "mp4", "m4v", "mov", "qt", "3gp", "mkv", "webm", "avi", "mpg", "mpeg", "m2ts", "mts", "flv", "ogv", "wmv", "asf",
            "apng",
        ],
    ),
    (Modality::Shape, &["stl", "obj", "ply", "off"]),
];

/// The modality a file's extension announces, whatever its case: which files a walk considers at all. `None` for any other.
pub fn modality_of(path: &Path) -> Option<Modality> {
    let extension = extension(path)?;
    EXTENSIONS.iter().find(|(_, extensions)| extensions.contains(&extension.as_str())).map(|(modality, _)| *modality)
}

/// The extension in lower case.
pub(crate) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Decodes, and turns a panic inside a decoder into a refusal: hundreds of thousands of lines by others read hostile bytes
/// here, and one file must not end a run over a folder. (Fuzzing still sees such a panic and stops at it.)
pub(crate) fn decode(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    std::panic::catch_unwind(|| dispatch(path, bytes, limits)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(MediaError::damaged("media", format!("its decoder failed: {}", message.unwrap_or("no reason given"))))
    })
}

/// Sends the bytes to the decoder that their beginning names; where they name none, the extension decides.
fn dispatch(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    if let Some(format) = picture::sniff(bytes) {
        return picture::decode(format, bytes, limits);
    }
    if bytes.starts_with(series::NPY_MAGIC) {
        return series::decode_npy(bytes, limits);
    }
    if let Some(container) = video::sniff(path, bytes) {
        return video::decode(container, path, bytes, limits);
    }
    let extension = extension(path);
    if let Some(format) = shape::sniff(extension.as_deref(), bytes) {
        return shape::decode(format, bytes, limits);
    }
    if let Some(refusal) = known_but_not_decoded(bytes) {
        return Err(refusal);
    }
    if sound::sniff(bytes) {
        return sound::decode(path, bytes, limits);
    }
    let expected = match (modality_of(path), extension.as_deref()) {
        (Some(Modality::Series), Some("csv" | "tsv")) => {
            return series::decode_table(extension.as_deref() == Some("tsv"), bytes, limits);
        }
        (Some(Modality::Text), Some("jsonl" | "ndjson")) => return text::decode_json_lines(bytes, limits),
        (Some(Modality::Text), _) => return text::decode_text(extension.as_deref() == Some("md"), bytes, limits),
        // An MP3 or AAC stream may begin with rubbish, so the extension is believed and the decoder searches.
        (Some(Modality::Audio), Some("mp3" | "aac")) => return sound::decode(path, bytes, limits),
        (Some(Modality::Audio), _) => "WAV, FLAC, MP3, OGG Vorbis, M4A or AIFF",
        (Some(Modality::Video), _) => "MP4, QuickTime, Matroska, WebM, AVI, MPEG, FLV, Ogg Theora or an animated picture",
        (Some(Modality::Image), _) => "PNG, JPEG, WebP, GIF, BMP or TIFF",
        (Some(Modality::Series), _) => "a NumPy array, which begins with 93 4e 55 4d 50 59",
        (Some(Modality::Shape), _) => "STL, OBJ, PLY or OFF",
        (None, _) => {
            "a picture, a sound, a video, a NumPy array, or a name ending in .txt, .md, .jsonl, .csv, .tsv, .stl, .obj, .ply or .off"
        }
    };
    Err(MediaError::Unrecognised { begins: first_bytes(bytes), expected })
}

/// Formats people do have, with what to do about them.
fn known_but_not_decoded(bytes: &[u8]) -> Option<MediaError> {
    let unsupported = |format: &str, cure| {
        Some(MediaError::Unsupported { format: format.to_owned(), reason: "no decoder for it is built in".to_owned(), cure })
    };
    match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4)? {
            b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1" => {
                unsupported("HEIC", "convert it to JPEG or PNG")
            }
            b"avif" | b"avis" => unsupported("AVIF", "convert it to JPEG or PNG"),
            _ => None,
        },
        [b'O', b'g', b'g', b'S', ..] if bytes.get(28..36) == Some(b"OpusHead") => {
            unsupported("Opus", "convert it to FLAC, WAV or OGG Vorbis")
        }
        [0x30, 0x26, 0xb2, 0x75, ..] => unsupported("Windows Media", "convert it to FLAC, WAV or MP3"),
        [b'%', b'P', b'D', b'F', b'-', ..] => unsupported("PDF", "extract its text as .txt"),
        [b'P', b'K', 3, 4, ..] => unsupported("a ZIP archive (also DOCX, EPUB, NPZ)", "unpack it"),
        [0x1f, 0x8b, 8, ..] => unsupported("gzip", "unpack it"),
        [0x7f, b'E', b'L', b'F', ..] => unsupported("a program", "leave it out"),
        _ => None,
    }
}
