//! PLY, the polygon file format: a header that describes elements and their properties, then the elements as text or in binary.
//!
//! Of the elements `vertex` gives its `x`, `y`, `z` and `face` its `vertex_indices` (or `vertex_index`); all others are read over.

use super::Faces;
use crate::Limits;
use crate::error::{MediaError, excerpt};

/// Types of numbers.
#[derive(Clone, Copy)]
enum Number {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

impl Number {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "char" | "int8" => Number::I8,
            "uchar" | "uint8" => Number::U8,
            "short" | "int16" => Number::I16,
            "ushort" | "uint16" => Number::U16,
            "int" | "int32" => Number::I32,
            "uint" | "uint32" => Number::U32,
            "float" | "float32" => Number::F32,
            "double" | "float64" => Number::F64,
            _ => return None,
        })
    }
}

/// How the elements are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Text,
    LittleEndian,
    BigEndian,
}

struct Property {
    name: String,
    /// Of the count, where it is a list.
    count: Option<Number>,
    number: Number,
}

struct Element {
    name: String,
    n: u64,
    properties: Vec<Property>,
}

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Faces, MediaError> {
    let (form, elements, rest) = header(bytes)?;
    let mut values = Values { form, rest };
    let mut faces = Faces::new("PLY", limits);
    let mut list = Vec::new();
    for element in &elements {
        let (is_vertex, is_face) = (element.name == "vertex", element.name == "face");
        // Elements of nothing could be without number.
        for _ in 0..if element.properties.is_empty() { 0 } else { element.n } {
            let mut at = [None; 3];
            for property in &element.properties {
                let axis = ["x", "y", "z"].iter().position(|axis| *axis == property.name);
                match (property.count, axis) {
                    (None, Some(axis)) if is_vertex => at[axis] = Some(values.next(property.number)? as f32),
                    (None, _) => _ = values.next(property.number)?,
                    (Some(count), _) => {
                        list.clear();
                        for _ in 0..whole(values.next(count)?)? {
                            list.push(values.next(property.number)?);
                        }
                        if is_face && ["vertex_indices", "vertex_index"].contains(&property.name.as_str()) {
                            let corners = list.iter().map(|corner| whole(*corner)).collect::<Result<Vec<u32>, _>>()?;
                            faces.face(&corners)?;
                        }
                    }
                }
            }
            if let ([Some(x), Some(y), Some(z)], true) = (at, is_vertex) {
                faces.vertex([x, y, z])?;
            }
        }
    }
    Ok(faces)
}

/// A number that counts or names something.
fn whole(number: f64) -> Result<u32, MediaError> {
    let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    is_whole
        .then_some(number as u32)
        .ok_or_else(|| MediaError::damaged("PLY", format!("{number} where a count or a vertex is named")))
}

fn header(bytes: &[u8]) -> Result<(Form, Vec<Element>, &[u8]), MediaError> {
    let damaged = |reason: String| MediaError::damaged("PLY", reason);
    let (mut form, mut elements, mut rest) = (None, Vec::<Element>::new(), bytes);
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("its header has no end".to_owned()))?;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| damaged("its header is no text".to_owned()))?.trim();
        rest = &rest[end + 1..];
        let words: Vec<&str> = line.split_whitespace().collect();
        let wrong = || damaged(format!("`{}` in its header", excerpt(line, 60)));
        match words.as_slice() {
            ["ply"] | ["comment" | "obj_info", ..] | [] => {}
            ["format", name, "1.0"] => {
                form = Some(match *name {
                    "ascii" => Form::Text,
                    "binary_little_endian" => Form::LittleEndian,
                    "binary_big_endian" => Form::BigEndian,
                    _ => return Err(wrong()),
                });
            }
            ["element", name, n] => {
                let n = n.parse().map_err(|_| wrong())?;
                elements.push(Element { name: (*name).to_owned(), n, properties: Vec::new() });
            }
            ["property", described @ ..] => {
                let (count, number, name) = match described {
                    ["list", count, number, name] => (Some(Number::named(count).ok_or_else(wrong)?), number, name),
                    [number, name] => (None, number, name),
                    _ => return Err(wrong()),
                };
                let number = Number::named(number).ok_or_else(wrong)?;
                let element = elements.last_mut().ok_or_else(wrong)?;
                element.properties.push(Property { name: (*name).to_owned(), count, number });
            }
            ["end_header"] => {
                let form = form.ok_or_else(|| damaged("its header names no format".to_owned()))?;
                return Ok((form, elements, rest));
            }
            _ => return Err(wrong()),
        }
    }
}

/// The numbers behind the header.
struct Values<'a> {
    form: Form,
    rest: &'a [u8],
}

impl Values<'_> {
    fn next(&mut self, number: Number) -> Result<f64, MediaError> {
        if self.form == Form::Text {
            return self.word();
        }
        Ok(match number {
            Number::I8 => f64::from(i8::from_le_bytes(self.bytes()?)),
            Number::U8 => f64::from(u8::from_le_bytes(self.bytes()?)),
            Number::I16 => f64::from(i16::from_le_bytes(self.bytes()?)),
            Number::U16 => f64::from(u16::from_le_bytes(self.bytes()?)),
            Number::I32 => f64::from(i32::from_le_bytes(self.bytes()?)),
            Number::U32 => f64::from(u32::from_le_bytes(self.bytes()?)),
            Number::F32 => f64::from(f32::from_le_bytes(self.bytes()?)),
            Number::F64 => f64::from_le_bytes(self.bytes()?),
        })
    }

    fn word(&mut self) -> Result<f64, MediaError> {
        let text = self.rest.trim_ascii_start();
        let (word, rest) = text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len()));
        self.rest = rest;
        let read = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        read.ok_or_else(|| match word {
            [] => ends(),
            word => {
                MediaError::damaged("PLY", format!("`{}` where a number stands", excerpt(&String::from_utf8_lossy(word), 24)))
            }
        })
    }

    /// The next bytes in the order of the least first.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], MediaError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or_else(ends)?;
        self.rest = rest;
        let mut bytes = *bytes;
        if self.form == Form::BigEndian {
            bytes.reverse();
        }
        Ok(bytes)
    }
}

fn ends() -> MediaError {
    MediaError::damaged("PLY", "it ends before its last element")
}
