//! Object File Format: a line of counts, a line for each vertex, a line for each face. What stands behind a vertex or a face, as colours do, is
//! passed over.

use super::Faces;
use crate::Limits;
use crate::error::{MediaError, excerpt};

pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Faces, MediaError> {
    let damaged = |reason: String| MediaError::damaged("OFF", reason);
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text".to_owned()))?;
    let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or("").trim()).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("");
    let Some((_, rest)) = first.split_once("OFF").filter(|(before, _)| ["", "C", "N", "CN", "ST"].contains(before)) else {
        return Err(damaged(format!("it begins with `{}`, expected `OFF`", excerpt(first, 24))));
    };
    // In a well-known collection many files have the counts right behind the word.
    let counts = if rest.trim().is_empty() { lines.next().unwrap_or("") } else { rest };
    let mut numbers = counts.split_whitespace().map(str::parse::<usize>);
    let (Some(Ok(n_vertices)), Some(Ok(n_faces))) = (numbers.next(), numbers.next()) else {
        return Err(damaged(format!("`{}` are no counts of vertices and faces", excerpt(counts, 40))));
    };
    let mut faces = Faces::new("OFF", limits);
    let mut next = |what: &str, i: usize| lines.next().ok_or_else(|| damaged(format!("it ends before {what} {i}")));
    for i in 0..n_vertices {
        let line = next("vertex", i)?;
        let mut numbers = line.split_whitespace().map(str::parse::<f32>);
        let (Some(Ok(x)), Some(Ok(y)), Some(Ok(z))) = (numbers.next(), numbers.next(), numbers.next()) else {
            return Err(damaged(format!("vertex {i} is `{}`, expected three numbers", excerpt(line, 40))));
        };
        faces.vertex([x, y, z])?;
    }
    for i in 0..n_faces {
        let line = next("face", i)?;
        let wrong = || damaged(format!("face {i} is `{}`, expected how many corners it has, and these", excerpt(line, 40)));
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let n = numbers.next().and_then(Result::ok).ok_or_else(wrong)? as usize;
        let corners: Vec<u32> = numbers.take(n).map_while(Result::ok).collect();
        if corners.len() < n {
            return Err(wrong());
        }
        faces.face(&corners)?;
    }
    Ok(faces)
}
