//! Texts: plain, Markdown, JSON lines, in any common encoding.

use chiasm_core::Media;
use encoding_rs::{Encoding, GB18030, SHIFT_JIS, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use serde_json::Value;

use crate::error::{MediaError, excerpt};
use crate::{Decoded, Limits, Metadata};

/// Stands between the records of a decoded JSON lines file (ASCII "record separator", as in RFC 7464), so that
/// [`crate::segments`] knows where one ends; it belongs to no segment.
pub const RECORD_SEPARATOR: char = '\u{1e}';

/// A plain text or Markdown, which is read as text.
pub(crate) fn decode_text(markdown: bool, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let mut metadata = Metadata { format: if markdown { "Markdown" } else { "text" }.to_owned(), ..Metadata::default() };
    let text = to_unicode(bytes, limits, &mut metadata)?;
    if text.trim().is_empty() {
        return Err(MediaError::Empty { reason: "it holds only white space" });
    }
    Ok(Decoded { media: Media::Text(text), metadata })
}

/// One JSON value per line. Of an object: the fields `title`, `caption`, `text`, `description` that are strings, in the
/// order of the file; where there is none of them, every field that is a string. A line may also be a bare string. Each
/// record becomes one line of text, records parted by [`RECORD_SEPARATOR`]. Blank lines are passed over.
pub(crate) fn decode_json_lines(bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let mut metadata = Metadata { format: "JSON lines".to_owned(), ..Metadata::default() };
    let lines = to_unicode(bytes, limits, &mut metadata)?;
    let mut text = String::new();
    for (line, number) in lines.split('\n').zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        let record = text_of_record(line).map_err(|reason| MediaError::BadLine { line: number, reason })?;
        if !text.is_empty() {
            text.push('\n');
            text.push(RECORD_SEPARATOR);
        }
        // One line each, and no separator of ours inside a record.
        text.extend(record.trim().chars().map(|c| if matches!(c, '\0' | '\n' | '\r' | RECORD_SEPARATOR) { ' ' } else { c }));
    }
    if text.is_empty() {
        return Err(MediaError::Empty { reason: "it holds no JSON line" });
    }
    Ok(Decoded { media: Media::Text(text), metadata })
}

const TEXT_FIELDS: [&str; 4] = ["title", "caption", "text", "description"];

fn text_of_record(line: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(line)
        .map_err(|e| format!("`{}` is not JSON ({e}): expected one object per line", excerpt(line, 40)))?;
    let fields: Vec<&str> = match &value {
        Value::String(text) => vec![text],
        Value::Object(object) => {
            let strings = || object.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
            let known: Vec<&str> = strings()
                .filter(|(name, _)| TEXT_FIELDS.iter().any(|f| f.eq_ignore_ascii_case(name)))
                .map(|(_, s)| s)
                .collect();
            if known.is_empty() { strings().map(|(_, s)| s).collect() } else { known }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err("expected an object or a string".to_owned());
        }
    };
    let text = fields.into_iter().map(str::trim).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        Err("holds no text: expected a string field such as `text` or `caption`".to_owned())
    } else {
        Ok(text)
    }
}

/// The text of the bytes as Unicode, without its byte order mark; a note where the encoding was not plain.
///
/// A byte order mark decides; then valid UTF-8; then UTF-16 where every other byte is 0. What is left is guessed: GB18030 where
/// the bytes beyond ASCII come in its common pairs, Shift JIS where that gives kana, Windows-1252 otherwise.
pub(crate) fn to_unicode(bytes: &[u8], limits: &Limits, metadata: &mut Metadata) -> Result<String, MediaError> {
    if bytes.len() as u64 > limits.max_text_bytes {
        return Err(MediaError::TooLarge {
            came: format!("is a text of {} bytes", bytes.len()),
            limit: limits.max_text_bytes,
            unit: "bytes",
            cure: "split it",
            option: "max_text_bytes",
        });
    }
    let (encoding, guessed) = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => (encoding, false),
        // UTF-16 of plain English is valid UTF-8 too, full of zero bytes.
        None if !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok() => (UTF_8, false),
        None => (guess(bytes), true),
    };
    let (text, had_errors) = encoding.decode_with_bom_removal(bytes);
    if text.contains('\0') || binary(&text) {
        return Err(MediaError::Unsupported {
            format: "binary data under a text's name".to_owned(),
            reason: "it holds NUL or many control characters".to_owned(),
            cure: "rename it, or save it as UTF-8 text",
        });
    }
    if had_errors {
        metadata.notes.push(format!("some bytes are not valid {} and were replaced", encoding.name()));
    }
    if guessed {
        metadata.notes.push(format!("not UTF-8: read as {}, guessed from its bytes", encoding.name()));
    } else if encoding != UTF_8 {
        metadata.notes.push(format!("read as {}", encoding.name()));
    }
    Ok(text.into_owned())
}

/// More than one in a hundred characters, and more than 4, are controls other than white space and escape.
fn binary(text: &str) -> bool {
    let mut n_chars = 0usize;
    let mut n_controls = 0usize;
    for c in text.chars() {
        n_chars += 1;
        let fine = matches!(c, '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1a}' | '\u{1b}' | RECORD_SEPARATOR | '\u{85}');
        n_controls += usize::from(c.is_control() && !fine);
    }
    n_controls > 4 && n_controls * 100 > n_chars
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    let sample = &bytes[..bytes.len().min(1 << 16)];
    let zeros = |offset: usize| sample.iter().skip(offset).step_by(2).filter(|&&b| b == 0).count();
    let n_pairs = sample.len() / 2;
    // In UTF-16 every ASCII character has a zero byte, always on the same side. Text of other scripts without a byte order
    // mark is not recognised: it cannot be told from other data.
    if n_pairs > 0 && zeros(1) * 5 > n_pairs * 2 && zeros(0) * 50 < n_pairs {
        return UTF_16LE;
    }
    if n_pairs > 0 && zeros(0) * 5 > n_pairs * 2 && zeros(1) * 50 < n_pairs {
        return UTF_16BE;
    }
    if decodes(GB18030, bytes) && common_pairs(bytes) {
        return GB18030;
    }
    if decodes(SHIFT_JIS, bytes)
        && SHIFT_JIS.decode_without_bom_handling(sample).0.chars().any(|c| ('\u{3041}'..='\u{30fa}').contains(&c))
    {
        return SHIFT_JIS;
    }
    WINDOWS_1252
}

fn decodes(encoding: &'static Encoding, bytes: &[u8]) -> bool {
    encoding.decode_without_bom_handling_and_without_replacement(bytes).is_some()
}

/// Whether at least 9 in 10 of the bytes beyond ASCII stand in pairs of GB 2312 (both bytes 0xA1..=0xFE). In Western
/// single-byte text they mostly stand alone between letters.
fn common_pairs(bytes: &[u8]) -> bool {
    let (mut n_paired, mut n_high, mut i) = (0usize, 0usize, 0);
    while i < bytes.len() {
        if bytes[i] < 0x80 {
            i += 1;
        } else if bytes[i] >= 0xa1 && bytes.get(i + 1).is_some_and(|&b| b >= 0xa1) {
            n_paired += 2;
            n_high += 2;
            i += 2;
        } else {
            n_high += 1;
            i += 1;
        }
    }
    n_paired * 10 >= n_high * 9
}
