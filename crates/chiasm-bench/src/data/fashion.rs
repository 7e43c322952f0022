//! Fashion embeddings: the outputs of a real dual encoder for 99 pictures and their texts.

use super::{Place, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// All 99 pairs to try; there is nothing to learn, both kinds lie in one space already.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::Feature`].
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let folder = place.folder("fashion embeddings", "fashion_embeddings_99", "fashion_embeddings_99/*_embeddings.npy")?;
    let view = |name: &str| vectors(&folder.join(format!("{name}_embeddings.npy")), "");
    let all = Part { views: vec![view("image")?, view("text")?], labels: None, groups: None };
    Ok(Task {
        key: "fashion",
        title: "Fashion embeddings".to_owned(),
        protocol: "99 pictures of clothes and their texts as a dual encoder of the CLIP kind embedded them, 512 numbers each. Nothing is \
                   learned: the cosine ranks. Relevant: the one partner."
            .to_owned(),
        views: vec!["image", "text"],
        train: all.pick(&[]),
        test: all,
        cca_components: 64,
        correlations: None,
    })
}
