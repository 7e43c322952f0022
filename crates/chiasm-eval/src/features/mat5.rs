//! MAT v5 (MATLAB 5 to 7.2, `-v6` and `-v7`): elements of a tag and its data, each variable one of them, usually deflated.
//!
//! # Reference
//! MathWorks, MAT-File Format, chapter 1 "Level 5 MAT-Files". Checked against scipy.io 1.17.

use std::io::{BufReader, Read};

use flate2::read::ZlibDecoder;

use super::error::{At, FeatureError};
use super::input::{Input, InputReader};
use super::numbers::{Numbers, Sparse, Type, decode_all};
use super::{Content, Entry, Limits, Loaded};

pub(super) const FORMAT: &str = "MAT v5";

const HEADER: u64 = 128;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// Whether the first bytes are those of a MAT v5 file, and whether it is big-endian.
pub(super) fn endianness(start: &[u8]) -> Option<bool> {
    match start.get(124..128)? {
        [0x00, 0x01, b'I', b'M'] => Some(false),
        [0x01, 0x00, b'M', b'I'] => Some(true),
        _ => None,
    }
}

/// Where a variable's element lies, with what its head says.
struct Variable {
    offset: u64,
    head: Head,
}

struct Head {
    class: u8,
    complex: bool,
    logical: bool,
    dims: Vec<usize>,
    name: String,
}

impl Head {
    fn class_name(&self) -> &'static str {
        match self.class {
            1 => "cell",
            2 => "struct",
            3 => "object",
            4 => "char",
            5 => "sparse",
            _ if self.logical => "bool",
            6 => "f64",
            7 => "f32",
            8 => "i8",
            9 => "u8",
            10 => "i16",
            11 => "u16",
            12 => "i32",
            13 => "u32",
            14 => "i64",
            15 => "u64",
            16 => "function",
            17 => "object (such as string or table)",
            _ => "unknown class",
        }
    }
}

pub(super) fn list(input: &Input, big_endian: bool) -> Result<Vec<Entry>, FeatureError> {
    Ok(variables(input, big_endian)?.iter().map(|v| entry(&v.head)).collect())
}

fn entry(head: &Head) -> Entry {
    Entry { name: head.name.clone(), shape: head.dims.clone(), kind: head.class_name().to_owned() }
}

pub(super) fn load(input: &Input, big_endian: bool, name: Option<&str>, limits: &Limits) -> Result<Loaded, FeatureError> {
    let at = input.at(FORMAT);
    let variables = variables(input, big_endian)?;
    let entries: Vec<Entry> = variables.iter().map(|v| entry(&v.head)).collect();
    let variable = &variables[at.choose("variable", name, &entries)?];
    let mut stream = Stream::open(input, variable.offset, big_endian)?;
    let head = stream.head()?;
    let label = format!("variable {}", head.name);
    let content = stream.content(&head, &label, limits, 0)?;
    Ok(Loaded { label, format: FORMAT, content })
}

fn variables(input: &Input, big_endian: bool) -> Result<Vec<Variable>, FeatureError> {
    let at = input.at(FORMAT);
    let mut found = Vec::new();
    let mut offset = HEADER;
    while offset < input.len() {
        let Some(tag) = input.bytes(offset, 8).map_err(|e| at.io(e))? else {
            return Err(at.damaged(format!("it ends within the tag at byte {offset}")));
        };
        let (kind, n) = (word(&tag, big_endian), u64::from(word(&tag[4..], big_endian)));
        if input.part(offset + 8, n).is_none() {
            return Err(at.damaged(format!(
                "the element at byte {offset} says that it has {n} bytes, but the file has {} left",
                input.len() - offset - 8
            )));
        }
        if kind == MATRIX || kind == COMPRESSED {
            let head = Stream::open(input, offset, big_endian)?.head()?;
            // MATLAB keeps data of its own in a variable without a name.
            if !head.name.is_empty() {
                found.push(Variable { offset, head });
            }
        }
        // Writers pad plain elements to eight bytes and deflated ones not.
        offset += 8 + if kind == COMPRESSED { n } else { n.next_multiple_of(8) };
    }
    Ok(found)
}

fn word(bytes: &[u8], big_endian: bool) -> u32 {
    let own = [bytes[0], bytes[1], bytes[2], bytes[3]];
    if big_endian { u32::from_be_bytes(own) } else { u32::from_le_bytes(own) }
}

/// The numeric type that a data tag names.
fn type_of(tag: u32) -> Option<Type> {
    Some(match tag {
        1 => Type::I8,
        2 => Type::U8,
        3 => Type::I16,
        4 => Type::U16,
        5 => Type::I32,
        6 => Type::U32,
        7 => Type::F32,
        9 => Type::F64,
        12 => Type::I64,
        13 => Type::U64,
        _ => return None,
    })
}

/// The inside of one variable, read from front to back.
struct Stream<'a> {
    at: At<'a>,
    from: From,
    big_endian: bool,
    /// No part can be longer than this.
    left: u64,
}

enum From {
    Plain(InputReader),
    Deflated(Box<ZlibDecoder<BufReader<InputReader>>>),
}

/// The data of a tag.
struct Part {
    tag: u32,
    data: Input,
}

impl<'a> Stream<'a> {
    /// Opens the element at `offset`, which is a matrix, deflated or not.
    fn open(input: &'a Input, offset: u64, big_endian: bool) -> Result<Stream<'a>, FeatureError> {
        let at = input.at(FORMAT);
        let cut = || at.damaged(format!("it ends within the element at byte {offset}"));
        let tag = input.bytes(offset, 8).map_err(|e| at.io(e))?.ok_or_else(cut)?;
        let body = input.part(offset + 8, u64::from(word(&tag[4..], big_endian))).ok_or_else(cut)?;
        if word(&tag, big_endian) == MATRIX {
            return Ok(Stream { at, left: body.len(), from: From::Plain(body.reader(0)), big_endian });
        }
        let decoder = ZlibDecoder::new(BufReader::new(body.reader(0)));
        let mut stream = Stream { at, left: body.inflated_max(), from: From::Deflated(Box::new(decoder)), big_endian };
        let tag = stream.take(8)?;
        let (kind, n) = (word(&tag, big_endian), u64::from(word(&tag[4..], big_endian)));
        if kind != MATRIX || n > stream.left {
            return Err(at.damaged(format!("the deflated element at byte {offset} begins with type {kind} of {n} bytes")));
        }
        stream.left = n;
        Ok(stream)
    }

    fn take(&mut self, n: u64) -> Result<Vec<u8>, FeatureError> {
        if n > self.left {
            return Err(self.at.damaged(format!("a part says that it has {n} bytes where {} are left", self.left)));
        }
        self.left -= n;
        let mut bytes = Vec::new();
        // The buffer grows with what is really there.
        let read = match &mut self.from {
            From::Plain(reader) => reader.take(n).read_to_end(&mut bytes),
            From::Deflated(decoder) => decoder.take(n).read_to_end(&mut bytes),
        };
        read.map_err(|e| self.at.damaged(format!("its deflated data: {e}")))?;
        if bytes.len() as u64 != n {
            return Err(self.at.damaged(format!("it ends {} bytes short of a part of {n}", n - bytes.len() as u64)));
        }
        Ok(bytes)
    }

    /// The next tag with its data, which stays in the file where it is not deflated.
    fn part(&mut self) -> Result<Part, FeatureError> {
        let tag = self.take(8)?;
        let first = word(&tag, self.big_endian);
        if first >> 16 != 0 {
            // A small element: at most four bytes, within the tag.
            let n = (first >> 16) as usize;
            if n > 4 {
                return Err(self.at.damaged(format!("a small element of {n} bytes")));
            }
            let data = Input::of_memory(self.at.path, tag[4..4 + n].to_vec());
            return Ok(Part { tag: first & 0xffff, data });
        }
        let n = u64::from(word(&tag[4..], self.big_endian));
        let data = match &mut self.from {
            From::Plain(reader) if n <= self.left => {
                let data = reader.input().part(reader.position(), n);
                reader.skip(n);
                self.left -= n;
                data.ok_or_else(|| self.at.damaged(format!("a part of {n} bytes is beyond the end")))?
            }
            From::Plain(_) | From::Deflated(_) => Input::of_memory(self.at.path, self.take(n)?),
        };
        let padding = (n.next_multiple_of(8) - n).min(self.left);
        self.take(padding)?;
        Ok(Part { tag: first, data })
    }

    /// The next part whole, which must be small.
    fn small(&mut self, what: &str, n_max: u64) -> Result<(u32, Vec<u8>), FeatureError> {
        let part = self.part()?;
        if part.data.len() > n_max {
            return Err(self.at.damaged(format!("{what} of {} bytes", part.data.len())));
        }
        let bytes = part.data.bytes(0, part.data.len()).map_err(|e| self.at.io(e))?.unwrap_or_default();
        Ok((part.tag, bytes))
    }

    fn head(&mut self) -> Result<Head, FeatureError> {
        let (_, flags) = self.small("array flags", 64)?;
        if flags.len() < 4 {
            return Err(self.at.damaged(format!("array flags of {} bytes", flags.len())));
        }
        let flags = word(&flags, self.big_endian);
        let class = (flags & 0xff) as u8;
        // Objects of newer kinds have no dimensions of their own.
        let dims = if class == 17 {
            Vec::new()
        } else {
            let (_, bytes) = self.small("dimensions", 4 * 64)?;
            bytes.chunks_exact(4).map(|b| word(b, self.big_endian) as usize).collect()
        };
        if dims.iter().any(|d| *d > i32::MAX as usize) {
            return Err(self.at.damaged(format!("a variable of shape {dims:?}")));
        }
        let (_, name) = self.small("a name", 4096)?;
        let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        Ok(Head { class, complex: flags & 0x800 != 0, logical: flags & 0x200 != 0, dims, name })
    }

    fn content(&mut self, head: &Head, label: &str, limits: &Limits, depth: usize) -> Result<Content, FeatureError> {
        let (at, what) = (self.at, format!("{label}, a {}", head.class_name()));
        if head.complex {
            return Err(
                at.unsupported(format!("{label}, which has complex numbers,"), "save its real part or its absolute value")
            );
        }
        let n_all = head.dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64)).unwrap_or(u64::MAX);
        match head.class {
            6..=15 => {
                at.check(label, n_all, limits.max_numbers)?;
                let part = self.part()?;
                let ty = type_of(part.tag).ok_or_else(|| at.damaged(format!("{label} has data of type {}", part.tag)))?;
                let n_bytes = part.data.len();
                let numbers = Numbers::new(head.dims.clone(), ty, self.big_endian, true, part.data).ok_or_else(|| {
                    at.damaged(format!("{label} of shape {:?} has {n_bytes} bytes of {}", head.dims, ty.name()))
                })?;
                Ok(Content::Numbers(numbers.called(head.class_name())))
            }
            5 => self.sparse(head, label),
            4 => Ok(Content::Texts(self.chars(head, label)?)),
            1 if depth == 0 => {
                let one_row = head.dims.iter().filter(|d| **d != 1).count() <= 1;
                if !one_row {
                    return Err(at.unsupported(format!("{what} of shape {:?},", head.dims), "give one column of texts"));
                }
                let mut texts = Vec::new();
                for i in 0..n_all {
                    texts.push(self.cell(i, label, limits)?);
                }
                Ok(Content::Texts(texts))
            }
            _ => Err(
                at.unsupported(what, "save the matrix inside it as a variable of its own, as in `X = s.X; save('x.mat', 'X')`")
            ),
        }
    }

    /// One text of a cell array; a matrix element of its own.
    fn cell(&mut self, i: u64, label: &str, limits: &Limits) -> Result<String, FeatureError> {
        let at = self.at;
        let part = self.part()?;
        if part.tag != MATRIX {
            return Err(at.damaged(format!("{label}: cell {} is an element of type {}", i + 1, part.tag)));
        }
        if part.data.len() == 0 {
            return Ok(String::new());
        }
        let mut inner =
            Stream { at, left: part.data.len(), from: From::Plain(part.data.reader(0)), big_endian: self.big_endian };
        let head = inner.head()?;
        let label = format!("cell {} of {label}", i + 1);
        if head.class != 4 {
            let cure = "only cells of texts are read, and those as labels; save numbers as a matrix";
            return Err(at.unsupported(format!("{label}, a {},", head.class_name()), cure));
        }
        match inner.content(&head, &label, limits, 1)? {
            Content::Texts(texts) => Ok(texts.concat()),
            Content::Numbers(_) | Content::Sparse(_) | Content::Table(_) => Ok(String::new()),
        }
    }

    /// The rows of a char matrix, each a text, without the spaces that fill it.
    fn chars(&mut self, head: &Head, label: &str) -> Result<Vec<String>, FeatureError> {
        let at = self.at;
        let part = self.part()?;
        let bytes = part.data.bytes(0, part.data.len()).map_err(|e| at.io(e))?.unwrap_or_default();
        let chars: Vec<char> = match part.tag {
            4 | 17 => {
                let wide: Vec<u16> = bytes
                    .chunks_exact(2)
                    .map(|b| if self.big_endian { u16::from_be_bytes([b[0], b[1]]) } else { u16::from_le_bytes([b[0], b[1]]) })
                    .collect();
                char::decode_utf16(wide).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            1 | 2 | 16 => String::from_utf8_lossy(&bytes).chars().collect(),
            other => return Err(at.damaged(format!("{label} has characters of type {other}"))),
        };
        let n = head.dims.first().copied().unwrap_or(0);
        if n > chars.len() {
            return Ok(if chars.is_empty() && n <= 1 { vec![String::new()] } else { Vec::new() });
        }
        // Column-major, as all of MATLAB.
        let row = |i: usize| chars[i..].iter().step_by(n).collect::<String>().trim_end().to_owned();
        Ok((0..n).map(row).collect())
    }

    fn sparse(&mut self, head: &Head, label: &str) -> Result<Content, FeatureError> {
        let at = self.at;
        let [n, dim] = head.dims[..] else {
            return Err(at.damaged(format!("{label} is sparse and has shape {:?}", head.dims)));
        };
        let mut parts = Vec::new();
        for _ in 0..3 {
            let part = self.part()?;
            let ty = type_of(part.tag).ok_or_else(|| at.damaged(format!("{label} has data of type {}", part.tag)))?;
            let bytes = part.data.bytes(0, part.data.len()).map_err(|e| at.io(e))?.unwrap_or_default();
            parts.push(decode_all(ty, self.big_endian, &bytes));
        }
        // Rows cost memory though nothing of them stands in the file.
        if n > (1 << 20).max(16 * parts[0].len()) {
            return Err(at.damaged(format!("{label} says that it has {n} rows, but holds {} numbers", parts[0].len())));
        }
        Sparse::of_columns(n, dim, &parts[1], &parts[0], &parts[2])
            .map(Content::Sparse)
            .map_err(|reason| at.damaged(format!("{label}: {reason}")))
    }
}
