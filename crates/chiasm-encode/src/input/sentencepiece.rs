//! The files of SentencePiece (`spiece.model`), read as far as a unigram tokeniser needs it.
//!
//! # Reference
//! Kudo and Richardson, "SentencePiece", EMNLP 2018; the messages `ModelProto`, `SentencePiece`, `TrainerSpec` and `NormalizerSpec` of its
//! `sentencepiece_model.proto`. The table of replacements in it (`precompiled_charsmap`) is a double array over bytes: a number says how
//! long it is, cells of four bytes follow, then the replacements, each closed by a zero.
//!
//! Such files come from strangers, and the library that looks the replacements up trusts its table: every place that any text can lead to is
//! therefore visited here first.

use std::collections::HashSet;

/// Bytes of a file at most.
const FILE_LEN_MAX: usize = 64 << 20;
/// Pieces at most: four times as many as any published model has.
const PIECES_MAX: usize = 1 << 20;

/// What a piece is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// It stands for what no piece covers.
    Unknown,
    /// It marks something and is found in no text.
    Control,
    /// It is found in texts whatever surrounds it.
    UserDefined,
    Unused,
    Byte,
}

/// A piece and the logarithm of its probability.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// A unigram model.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    /// The piece that stands for what is unknown.
    pub(super) unknown: usize,
    /// The table of replacements, checked; empty where nothing is replaced.
    pub(super) charsmap: Vec<u8>,
}

/// Reads a file, or says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Model, String> {
    if bytes.len() > FILE_LEN_MAX {
        return Err(format!("it has {} bytes, expected at most {FILE_LEN_MAX}", bytes.len()));
    }
    let (mut pieces, mut charsmap, mut unknown) = (Vec::new(), Vec::new(), 0);
    let mut fields = Fields { rest: bytes };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(message)) => {
                if pieces.len() == PIECES_MAX {
                    return Err(format!("it has more than {PIECES_MAX} pieces"));
                }
                pieces.push(piece(message).map_err(|reason| format!("piece {}: {reason}", pieces.len()))?);
            }
            (2, Value::Bytes(message)) => unknown = trainer(message)?,
            (3, Value::Bytes(message)) => charsmap = normaliser(message)?,
            (_, _) => {}
        }
    }
    let mut seen = HashSet::new();
    if let Some(twice) = pieces.iter().find(|piece: &&Piece| !seen.insert(piece.text.as_str())) {
        return Err(format!("it has the piece `{}` twice", twice.text.escape_debug()));
    }
    if pieces.get(unknown).is_none_or(|piece| piece.kind != Kind::Unknown) {
        return Err(format!("piece {unknown} of {} does not stand for what is unknown", pieces.len()));
    }
    check_charsmap(&charsmap)?;
    Ok(Model { pieces, unknown, charsmap })
}

fn piece(message: &[u8]) -> Result<Piece, String> {
    let (mut text, mut score, mut kind) = (String::new(), 0.0, Kind::Normal);
    let mut fields = Fields { rest: message };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => {
                text = String::from_utf8(bytes.to_vec()).map_err(|_| "its text is not UTF-8".to_owned())?;
            }
            (2, Value::Four(bytes)) => score = f32::from_le_bytes(bytes),
            (3, Value::Number(n)) => {
                kind = match n {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    other => return Err(format!("its type is {other}, expected 1 to 6")),
                }
            }
            (_, _) => {}
        }
    }
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if !score.is_finite() {
        return Err(format!("`{}` has the score {score}", text.escape_debug()));
    }
    Ok(Piece { text, score, kind })
}

/// The number of the piece for what is unknown; any model but a unigram one is refused.
fn trainer(message: &[u8]) -> Result<usize, String> {
    let mut unknown = 0;
    let mut fields = Fields { rest: message };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (3, Value::Number(model)) if model != 1 => {
                let names = ["byte pairs", "words", "characters"];
                let name =
                    usize::try_from(model).ok().and_then(|n| names.get(n.checked_sub(2)?)).copied().unwrap_or("no known kind");
                return Err(format!("it is a model of {name}, expected a unigram one: take a folder with tokenizer.json"));
            }
            (35, Value::Number(1)) => {
                return Err(
                    "what is unknown is cut into bytes, which is not known here: take a folder with tokenizer.json".to_owned()
                );
            }
            (40, Value::Number(id)) => {
                unknown = usize::try_from(id).map_err(|_| format!("unk_id is {id}"))?;
            }
            (_, _) => {}
        }
    }
    Ok(unknown)
}

fn normaliser(message: &[u8]) -> Result<Vec<u8>, String> {
    let mut charsmap = Vec::new();
    let mut fields = Fields { rest: message };
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Bytes(bytes)) => charsmap = bytes.to_vec(),
            // Whether a space is put before the text, and whether spaces are written as a mark.
            (3 | 5, Value::Number(0)) => {
                let field = if number == 3 { "add_dummy_prefix" } else { "escape_whitespaces" };
                return Err(format!("{field} is false, which is not known here: take a folder with tokenizer.json"));
            }
            (_, _) => {}
        }
    }
    Ok(charsmap)
}

/// The fields of a message of protocol buffers, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    Eight,
}

impl<'a> Fields<'a> {
    /// The next field's number and value; none at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Eight
            }
            2 => {
                let len = self.number()?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| damaged())?)?)
            }
            5 => Value::Four(self.take(4)?.try_into().map_err(|_| damaged())?),
            _ => return Err(damaged()),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first; all but the last byte have the eighth set.
    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return Err(damaged()) };
            let bits = u64::from(byte & 0x7f);
            // Of a tenth byte a single bit has room.
            if shift == 63 && bits > 1 {
                return Err(damaged());
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged())
    }
}

fn damaged() -> String {
    "it is no model of SentencePiece, or damaged".to_owned()
}

/// Refuses a table of replacements in which some text would lead beyond the end.
pub(super) fn check_charsmap(table: &[u8]) -> Result<(), String> {
    if table.is_empty() {
        return Ok(());
    }
    let refuse = |reason: &str| Err(format!("the table of replacements is damaged: {reason}"));
    let Some((len, rest)) = table.split_first_chunk() else { return refuse("it ends too early") };
    let len = u32::from_le_bytes(*len) as usize;
    let Some((cells, replacements)) = rest.split_at_checked(len / 4 * 4) else { return refuse("it ends too early") };
    let cells: Vec<u32> = cells.as_chunks().0.iter().map(|cell| u32::from_le_bytes(*cell)).collect();
    let Ok(replacements) = std::str::from_utf8(replacements) else { return refuse("the replacements are not UTF-8") };
    if cells.is_empty() {
        return refuse("it has no cells");
    }
    // Where the children of a cell lie: its own place with some bits turned; each child's place is that with its byte's bits turned.
    let children = |at: usize| at ^ ((cells[at] >> 10) << ((cells[at] & (1 << 9)) >> 6)) as usize;
    let mut seen = vec![false; cells.len()];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        let base = children(at);
        if base | 0xff >= cells.len() {
            return refuse("a cell leads beyond its end");
        }
        for byte in 1..=0xff {
            let child = base ^ byte;
            let is_child = cells[child] & (1 << 31 | 0xff) == byte as u32;
            if !is_child || std::mem::replace(&mut seen[child], true) {
                continue;
            }
            open.push(child);
            if cells[child] >> 8 & 1 == 1 {
                let Some(leaf) = cells.get(children(child)) else { return refuse("a cell leads beyond its end") };
                if !replacements.is_char_boundary((leaf & !(1 << 31)) as usize) {
                    return refuse("a replacement begins within a character or beyond the end");
                }
            }
        }
    }
    Ok(())
}

/// Bytes as base64 writes them.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let letter = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// The bytes that base64 wrote; none where it did not.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for four in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in four {
            bits = bits << 6 | DIGITS.iter().position(|d| d == digit)? as u32;
        }
        bits <<= 6 * (4 - four.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    Some(out)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, message: &[u8]) -> Vec<u8> {
        assert!(message.len() < 128);
        [&[number << 3 | 2, message.len() as u8], message].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        field(
            1,
            &[field(1, text.as_bytes()), [&[2 << 3 | 5], score.to_le_bytes().as_slice()].concat(), vec![3 << 3, kind]].concat(),
        )
    }

    #[test]
    fn a_file_is_read_and_what_is_wrong_is_said() {
        let unk = piece("<unk>", 0.0, 2);
        let model =
            read(&[unk.clone(), piece("\u{2581}a", -1.5, 1), vec![9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat()).unwrap();
        let second = Piece { text: "\u{2581}a".to_owned(), score: -1.5, kind: Kind::Normal };
        assert_eq!((model.unknown, &model.pieces[1], model.pieces.len()), (0, &second, 2));
        for (file, reason) in [
            (vec![], "piece 0 of 0 does not stand for what is unknown"),
            (piece("a", 0.0, 1), "piece 0 of 1 does not stand for what is unknown"),
            ([unk.clone(), piece("", 0.0, 1)].concat(), "piece 1: it is empty"),
            ([unk.clone(), piece("a", f32::NAN, 1)].concat(), "piece 1: `a` has the score NaN"),
            ([unk.clone(), piece("a", 0.0, 7)].concat(), "piece 1: its type is 7"),
            ([unk.clone(), unk.clone()].concat(), "the piece `<unk>` twice"),
            (field(1, &field(1, &[0xff])), "piece 0: its text is not UTF-8"),
            ([unk.clone(), field(2, &[3 << 3, 2])].concat(), "a model of byte pairs, expected a unigram one"),
            ([unk.clone(), field(2, &[3 << 3, 9])].concat(), "a model of no known kind"),
            ([unk.clone(), field(2, &[0x98, 0x02, 1])].concat(), "cut into bytes"),
            ([unk.clone(), field(2, &[0xc0, 0x02, 5])].concat(), "piece 5 of 1"),
            ([unk.clone(), field(3, &[3 << 3, 0])].concat(), "add_dummy_prefix is false"),
            (
                [unk.clone(), field(3, &field(2, &[8, 0, 0, 0, 0]))].concat(),
                "the table of replacements is damaged: it ends too early",
            ),
            (vec![1 << 3 | 2, 0xff], "damaged"),
            (vec![1 << 3 | 3], "damaged"),
            (vec![0xff; 11], "damaged"),
            (b"not a model".to_vec(), "damaged"),
        ] {
            let message = read(&file).unwrap_err();
            assert!(message.contains(reason), "{message}, expected {reason}");
        }
    }

    #[test]
    fn base64_is_what_others_write() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[0xfb, 0xff, 0xbf, 0], "+/+/AA==")]
        {
            assert_eq!(to_base64(bytes), text);
            assert_eq!(from_base64(text).unwrap(), bytes);
        }
        assert_eq!(from_base64("a b"), None);
    }
}
