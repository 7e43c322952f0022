//! Media to vectors in every lane.

use std::sync::Arc;

use chiasm_core::{EncodeError, Media, Modality, ProjectError, ShapeError, Span};

use super::{ENCODE_PARTS, Parts};
use crate::lane::Lane;
use crate::pipeline::media_bytes;
use crate::{EngineError, Result, Space};

/// Vectors of a file's parts, or why it has none.
pub(crate) type Embedded = Result<Vec<Vec<f32>>, String>;

/// What each lane that knows a file's kind made of it, by the lane's number.
pub(super) type InLanes = Vec<(i64, Embedded)>;

/// All that the lanes look at of a picture, where that is less than the picture: one for each lane that knows pictures, or one for all.
pub(super) fn reduced_for(lanes: &[Lane], media: &Media) -> Vec<Media> {
    let Media::Image(image) = media else { return Vec::new() };
    let knowing = lanes.iter().filter(|lane| lane.knows(Modality::Image));
    let mut reduced: Vec<Media> = knowing.map_while(|lane| lane.space().reduced(media)).collect();
    let n_knowing = lanes.iter().filter(|lane| lane.knows(Modality::Image)).count();
    if reduced.len() < n_knowing || reduced.iter().map(media_bytes).sum::<usize>() >= image.rgb.len() {
        return Vec::new();
    }
    if reduced.iter().all(|other| *other == reduced[0]) {
        reduced.truncate(1);
    }
    reduced
}

/// Vectors of the parts of media of one modality in every lane that knows it, or why a medium has none in any.
pub(super) fn embed_in_lanes(lanes: &[Lane], batch: &[Arc<Parts>]) -> Result<Vec<Result<InLanes, String>>> {
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    let knowing: Vec<&Lane> = lanes.iter().filter(|lane| lane.knows(first.modality())).collect();
    let mut of_media: Vec<InLanes> = batch.iter().map(|_| Vec::with_capacity(knowing.len())).collect();
    for (place, lane) in knowing.iter().enumerate() {
        let media: Vec<(&Media, &[Span])> = batch.iter().map(|parts| parts.of(place)).collect();
        let embedded = embed(lane.space(), &media)?;
        of_media.iter_mut().zip(embedded).for_each(|(in_lanes, embedded)| in_lanes.push((lane.id, embedded)));
    }
    let judge = |in_lanes: InLanes| {
        if in_lanes.iter().any(|(_, embedded)| embedded.is_ok()) {
            return Ok(in_lanes);
        }
        let mut reasons: Vec<String> = in_lanes.into_iter().filter_map(|(_, embedded)| embedded.err()).collect();
        reasons.dedup();
        Err(reasons.join("; "))
    };
    Ok(of_media.into_iter().map(judge).collect())
}

/// Vectors of the parts of media of one modality; what cannot be encoded is told by item and costs the others nothing.
pub(crate) fn embed(space: &Space, media: &[(&Media, &[Span])]) -> Result<Vec<Embedded>> {
    let mut out: Vec<Embedded> = media.iter().map(|_| Ok(Vec::new())).collect();
    let parts: Vec<(usize, Span)> =
        media.iter().enumerate().flat_map(|(i, (_, spans))| spans.iter().map(move |span| (i, *span))).collect();
    for chunk in parts.chunks(ENCODE_PARTS) {
        let mut chunk: Vec<(usize, Span)> = chunk.iter().filter(|(i, _)| out[*i].is_ok()).copied().collect();
        while !chunk.is_empty() {
            let batch: Vec<Media> = chunk.iter().map(|(i, span)| part(media[*i].0, *span)).collect();
            let error = match space.embed(&batch) {
                Ok(vectors) => {
                    for ((i, _), row) in chunk.iter().zip(vectors.rows()) {
                        if let Ok(rows) = &mut out[*i] {
                            rows.push(row.to_vec());
                        }
                    }
                    break;
                }
                Err(error) => error,
            };
            let Some((item, _)) = at_fault(&error).and_then(|at| chunk.get(at)).copied() else {
                return Err(error);
            };
            let reason = if let EngineError::Encode(EncodeError::Unencodable { encoder, reason, .. }) = error {
                format!("cannot be encoded by {encoder}: {reason}")
            } else {
                format!("cannot be encoded: {error}")
            };
            out[item] = Err(reason);
            chunk.retain(|(i, _)| *i != item);
        }
    }
    Ok(out)
}

/// Place in the batch of the one item that an error speaks of.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other error, present or future, is of the whole batch")]
fn at_fault(error: &EngineError) -> Option<usize> {
    match error {
        EngineError::Encode(EncodeError::Unencodable { item, .. }) => Some(*item),
        EngineError::Encode(EncodeError::NotFinite { cause: ShapeError::NotFinite { row, .. }, .. })
        | EngineError::Project(ProjectError::Shape(ShapeError::NotFinite { row, .. })) => Some(*row),
        _ => None,
    }
}

pub(super) fn part(media: &Media, span: Span) -> Media {
    if span == Span::Whole { media.clone() } else { chiasm_media::part(media, span) }
}
