//! Shapes: surfaces of triangles from STL, OBJ, PLY and OFF files, and pictures of them.
//!
//! Faces of more corners become fans of triangles. Colours, textures, materials and normals are not kept: what is meant is the form. A shape
//! stands upright, z upwards, as CAD programs and PLY and OFF collections have it; OBJ files, in which y points upwards by custom, are turned.

mod off;
mod ply;
mod views;

use std::io::Cursor;

use chiasm_core::{Media, Mesh};

pub use self::views::{N_VIEWS, shape_view, shape_views};
use crate::error::MediaError;
use crate::{Decoded, Limits, Metadata};

/// Formats of shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Stl,
    Obj,
    Ply,
    Off,
}

/// Bytes before and for each triangle of a binary STL file.
const STL_HEAD: usize = 84;
const STL_TRIANGLE: usize = 50;
/// Bytes that one triangle takes in any of the formats, at most, in files that people make: beyond that a file is not read at all.
const BYTES_A_TRIANGLE: u64 = 400;

/// The format that the first bytes name, or, where none does, the extension.
pub(crate) fn sniff(extension: Option<&str>, bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"ply\n") || bytes.starts_with(b"ply\r") {
        return Some(Format::Ply);
    }
    match extension {
        // Binary STL files may begin with anything; the text form and OBJ with words that texts begin with too.
        Some("stl") => Some(Format::Stl),
        Some("obj") => Some(Format::Obj),
        Some("ply") => Some(Format::Ply),
        Some("off") => Some(Format::Off),
        _ => None,
    }
}

pub(crate) fn decode(format: Format, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let most_bytes = limits.max_triangles.saturating_mul(BYTES_A_TRIANGLE);
    if bytes.len() as u64 > most_bytes {
        return Err(MediaError::TooLarge {
            came: format!("has {} bytes", bytes.len()),
            limit: most_bytes,
            unit: "bytes of a shape",
            cure: "simplify it",
            option: "max_triangles",
        });
    }
    let (name, faces) = match format {
        Format::Stl => ("STL", stl(bytes, limits)?),
        Format::Obj => ("OBJ", obj(bytes, limits)?),
        Format::Ply => ("PLY", ply::read(bytes, limits)?),
        Format::Off => ("OFF", off::read(bytes, limits)?),
    };
    let mesh = faces.finish()?;
    Ok(Decoded { media: Media::Shape(mesh), metadata: Metadata { format: name.to_owned(), ..Metadata::default() } })
}

/// Triangles that are gathered under the limit.
struct Faces {
    format: &'static str,
    mesh: Mesh,
    max_triangles: u64,
}

impl Faces {
    fn new(format: &'static str, limits: &Limits) -> Self {
        Self { format, mesh: Mesh { vertices: Vec::new(), triangles: Vec::new() }, max_triangles: limits.max_triangles }
    }

    /// Adds a vertex.
    fn vertex(&mut self, at: [f32; 3]) -> Result<(), MediaError> {
        if let Some(number) = at.into_iter().find(|v| !v.is_finite()) {
            let place = format!("vertex {}", self.mesh.vertices.len());
            return Err(MediaError::NotFinite { came: number.to_string(), place });
        }
        // Every triangle has at most three of its own.
        self.check(self.mesh.vertices.len() as u64 / 3)?;
        self.mesh.vertices.push(at);
        Ok(())
    }

    /// Adds a face as a fan of triangles; of fewer corners than three there is none.
    fn face(&mut self, corners: &[u32]) -> Result<(), MediaError> {
        let n = self.mesh.vertices.len();
        if let Some(corner) = corners.iter().find(|corner| **corner as usize >= n) {
            return Err(MediaError::damaged(self.format, format!("a face names vertex {corner} of {n}")));
        }
        for pair in corners.windows(2).skip(1) {
            self.mesh.triangles.push([corners[0], pair[0], pair[1]]);
        }
        self.check(self.mesh.triangles.len() as u64)
    }

    fn check(&self, n_triangles: u64) -> Result<(), MediaError> {
        if n_triangles <= self.max_triangles {
            return Ok(());
        }
        Err(MediaError::TooLarge {
            came: format!("has more than {} triangles", self.max_triangles),
            limit: self.max_triangles,
            unit: "triangles",
            cure: "simplify it",
            option: "max_triangles",
        })
    }

    fn finish(self) -> Result<Mesh, MediaError> {
        match self.mesh.triangles.is_empty() {
            true => Err(MediaError::Empty { reason: "the shape has no face" }),
            false => Ok(self.mesh),
        }
    }
}

fn stl(bytes: &[u8], limits: &Limits) -> Result<Faces, MediaError> {
    let mut faces = Faces::new("STL", limits);
    let stated = bytes.get(80..STL_HEAD).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize);
    let is_binary =
        stated.is_some_and(|n| n.checked_mul(STL_TRIANGLE).and_then(|n| n.checked_add(STL_HEAD)) == Some(bytes.len()));
    if is_binary {
        faces.check(stated.unwrap_or(0) as u64)?;
    }
    // Some programs begin a binary file with the word by which the text form is known.
    let renamed = (is_binary && bytes.starts_with(b"solid")).then(|| [b"stl  ", &bytes[5..]].concat());
    let mut reader = Cursor::new(renamed.as_deref().unwrap_or(bytes));
    let damaged = |e: std::io::Error| MediaError::damaged("STL", e);
    if !is_binary && !bytes.trim_ascii_start().starts_with(b"solid") {
        let reason = "its length is not that of the triangles it states, and it is no text that begins with `solid`";
        return Err(MediaError::damaged("STL", reason));
    }
    let read = stl_io::create_stl_reader(&mut reader).map_err(damaged)?.as_indexed_triangles().map_err(damaged)?;
    read.vertices.iter().try_for_each(|vertex| faces.vertex(vertex.0))?;
    read.faces.iter().try_for_each(|face| faces.face(&face.vertices.map(|corner| corner as u32)))?;
    Ok(faces)
}

fn obj(bytes: &[u8], limits: &Limits) -> Result<Faces, MediaError> {
    let mut faces = Faces::new("OBJ", limits);
    let options = tobj::LoadOptions { triangulate: true, single_index: false, ignore_points: true, ignore_lines: true };
    // Materials lie in other files, which are not opened.
    let none = |_: &std::path::Path| Ok(Default::default());
    let (models, _) = tobj::load_obj_buf(&mut Cursor::new(bytes), &options, none).map_err(|e| MediaError::damaged("OBJ", e))?;
    for model in models {
        let first = faces.mesh.vertices.len() as u32;
        for at in model.mesh.positions.chunks_exact(3) {
            faces.vertex([at[0], -at[2], at[1]])?;
        }
        for corners in model.mesh.indices.chunks_exact(3) {
            faces.face(&[first + corners[0], first + corners[1], first + corners[2]])?;
        }
    }
    Ok(faces)
}
