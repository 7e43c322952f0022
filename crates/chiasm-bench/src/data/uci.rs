//! UCI Multiple Features: handwritten digits as Fourier coefficients, Karhunen-Loeve coefficients and pixels.

use super::{Place, alike, labels, vectors};
use crate::error::BenchError;
use crate::task::{Part, Task};

/// 1,500 to learn from, 500 to try, three views.
///
/// # Errors
/// [`BenchError::NoSet`], [`BenchError::Feature`].
pub fn load(place: &Place<'_>) -> Result<Task, BenchError> {
    let folder = place.folder("UCI digits", "uci_digits_views", "uci_digits_views/uci_all.mat")?;
    let file = folder.join("uci_all.mat");
    let part = |end: &str| -> Result<Part, BenchError> {
        let view = |name: &str| vectors(&file, &format!("{name}_{end}"));
        Ok(Part {
            views: vec![view("I")?, view("T")?, view("P")?],
            labels: Some(labels(&file, &format!("L_{end}"))?),
            groups: None,
        })
    };
    let (mut train, mut test) = (part("tr")?, part("te")?);
    if let (Some(a), Some(b)) = (train.labels.take(), test.labels.take()) {
        let [a, b] = alike(&folder, a, b)?;
        (train.labels, test.labels) = (Some(a), Some(b));
    }
    Ok(Task {
        key: "uci",
        title: "UCI digits".to_owned(),
        protocol: "2,000 handwritten digits, the split of the file: 1,500 to learn from, 500 to try. Views: 76 Fourier coefficients, 64 \
                   Karhunen-Loeve coefficients, 240 pixels. Relevant: the same digit. Methods of two views take the first two."
            .to_owned(),
        views: vec!["fourier", "karhunen", "pixels"],
        train,
        test,
        cca_components: 9,
        correlations: None,
    })
}
