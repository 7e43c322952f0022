//! What every encoder does with a batch before and after its own work.

use chiasm_core::{EncodeError, Encoder, Image, Media, Modality, Series, Vectors, Video, Waveform};

/// The pictures of a batch, or the error that names the first item that is none.
pub(crate) fn images<'a>(encoder: &dyn Encoder, batch: &'a [Media]) -> Result<Vec<&'a Image>, EncodeError> {
    each(encoder, batch, |media| if let Media::Image(image) = media { Some(image) } else { None })
}

/// Likewise the texts.
pub(crate) fn texts<'a>(encoder: &dyn Encoder, batch: &'a [Media]) -> Result<Vec<&'a str>, EncodeError> {
    each(encoder, batch, |media| if let Media::Text(text) = media { Some(text.as_str()) } else { None })
}

/// Likewise the sounds.
pub(crate) fn sounds<'a>(encoder: &dyn Encoder, batch: &'a [Media]) -> Result<Vec<&'a Waveform>, EncodeError> {
    each(encoder, batch, |media| if let Media::Audio(wave) = media { Some(wave) } else { None })
}

/// Likewise the series.
pub(crate) fn series<'a>(encoder: &dyn Encoder, batch: &'a [Media]) -> Result<Vec<&'a Series>, EncodeError> {
    each(encoder, batch, |media| if let Media::Series(series) = media { Some(series) } else { None })
}

/// Likewise the videos.
pub(crate) fn videos<'a>(encoder: &dyn Encoder, batch: &'a [Media]) -> Result<Vec<&'a Video>, EncodeError> {
    each(encoder, batch, |media| if let Media::Video(video) = media { Some(video) } else { None })
}

fn each<'a, T: ?Sized>(
    encoder: &dyn Encoder,
    batch: &'a [Media],
    pick: impl Fn(&'a Media) -> Option<&'a T>,
) -> Result<Vec<&'a T>, EncodeError> {
    let wrong = |item: usize, got: Modality| EncodeError::Modality {
        encoder: encoder.name().to_owned(),
        expected: encoder.modality(),
        got,
        item,
    };
    batch.iter().enumerate().map(|(item, media)| pick(media).ok_or_else(|| wrong(item, media.modality()))).collect()
}

/// An item that the encoder can make nothing of.
pub(crate) fn unencodable(encoder: &dyn Encoder, item: usize, reason: &str) -> EncodeError {
    EncodeError::Unencodable { encoder: encoder.name().to_owned(), item, reason: reason.to_owned() }
}

/// Rows to vectors, refusing what is not finite.
pub(crate) fn vectors(encoder: &dyn Encoder, rows: &[Vec<f32>]) -> Result<Vectors, EncodeError> {
    Vectors::new(rows.concat(), encoder.dim())
        .map_err(|cause| EncodeError::NotFinite { encoder: encoder.name().to_owned(), cause })
}
