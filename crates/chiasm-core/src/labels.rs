//! Which classes a row belongs to: the relevance of sets whose rows have no partner of their own.

/// Why classes are no labels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// A class that does not exist.
    #[error("row {row} has class {class}, but there are {n_classes} classes, numbered from 0")]
    NoSuchClass {
        /// Row of the first offender.
        row: usize,
        /// What it says.
        class: u32,
        /// How many there are.
        n_classes: usize,
    },
    /// Names and classes do not match.
    #[error("{found} names came for {n_classes} classes")]
    Names {
        /// How many names came.
        found: usize,
        /// How many classes there are.
        n_classes: usize,
    },
}

/// Which classes each of n rows belongs to: none, one or several.
///
/// Classes are numbered densely from 0; those of a row stand in ascending order, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    n_classes: usize,
    /// Row `i` has `classes[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<usize>,
    classes: Vec<u32>,
    /// One for each class, or none at all.
    names: Vec<String>,
}

impl Labels {
    /// One class for each row; there are as many classes as the greatest says.
    pub fn single(classes: &[u32]) -> Labels {
        let n_classes = classes.iter().max().map_or(0, |c| *c as usize + 1);
        Labels { n_classes, offsets: (0..=classes.len()).collect(), classes: classes.to_vec(), names: Vec::new() }
    }

    /// The classes of each row, in any order; one named twice counts once.
    ///
    /// # Errors
    /// [`LabelsError::NoSuchClass`] for a class of `n_classes` or beyond.
    pub fn from_rows(rows: &[Vec<u32>], n_classes: usize) -> Result<Labels, LabelsError> {
        let mut labels = Labels { n_classes, offsets: vec![0], classes: Vec::new(), names: Vec::new() };
        for (row, of_row) in rows.iter().enumerate() {
            let mut sorted = of_row.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if let Some(class) = sorted.last().copied().filter(|c| *c as usize >= n_classes) {
                return Err(LabelsError::NoSuchClass { row, class, n_classes });
            }
            labels.classes.extend(sorted);
            labels.offsets.push(labels.classes.len());
        }
        Ok(labels)
    }

    /// The same with a name for each class, as people write it.
    ///
    /// # Errors
    /// [`LabelsError::Names`] when there are more or fewer names than classes.
    pub fn with_names(self, names: Vec<String>) -> Result<Labels, LabelsError> {
        if names.len() != self.n_classes {
            return Err(LabelsError::Names { found: names.len(), n_classes: self.n_classes });
        }
        Ok(Labels { names, ..self })
    }

    /// Number of rows.
    pub fn n(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of classes, those that no row has included.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// The classes of a row, ascending.
    pub fn of(&self, row: usize) -> &[u32] {
        &self.classes[self.offsets[row]..self.offsets[row + 1]]
    }

    /// The name of a class, where the file has names.
    pub fn name(&self, class: u32) -> Option<&str> {
        self.names.get(class as usize).map(String::as_str)
    }

    /// The names of all classes in order; empty where there are none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a row of these and one of `other`, numbered alike, have a class in common. A row without a class shares nothing.
    pub fn share(&self, row: usize, other: &Labels, other_row: usize) -> bool {
        let (mut a, mut b) = (self.of(row), other.of(other_row));
        while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
            match x.cmp(y) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => a = rest_a,
                std::cmp::Ordering::Greater => b = rest_b,
            }
        }
        false
    }

    /// Whether every row has exactly one class.
    pub fn is_single(&self) -> bool {
        self.offsets.windows(2).all(|w| w[1] - w[0] == 1)
    }

    /// The rows named, in that order; the classes keep their numbers.
    pub fn pick(&self, rows: &[usize]) -> Labels {
        let mut picked = Labels { n_classes: self.n_classes, offsets: vec![0], classes: Vec::new(), names: self.names.clone() };
        for row in rows {
            picked.classes.extend_from_slice(self.of(*row));
            picked.offsets.push(picked.classes.len());
        }
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_each() {
        let labels = Labels::single(&[2, 0, 2]);
        assert_eq!((labels.n(), labels.n_classes(), labels.is_single()), (3, 3, true));
        assert_eq!(labels.of(0), [2]);
        assert!(labels.share(0, &labels, 2) && !labels.share(0, &labels, 1));
        assert_eq!((Labels::single(&[]).n(), Labels::single(&[]).n_classes()), (0, 0));
        assert_eq!(Labels::from_rows(&[vec![2], vec![0], vec![2]], 3), Ok(labels));
    }

    #[test]
    fn none_and_several() {
        let labels = Labels::from_rows(&[vec![3, 1, 3], vec![], vec![0, 2, 3]], 5).unwrap();
        assert_eq!([labels.of(0), labels.of(1), labels.of(2)], [&[1, 3][..], &[], &[0, 2, 3]]);
        assert!(!labels.is_single() && labels.share(0, &labels, 2) && labels.share(2, &labels, 0));
        assert!(!labels.share(1, &labels, 1) && !labels.share(0, &Labels::single(&[2]), 0));
        let picked = labels.pick(&[2, 0, 0]);
        assert_eq!((picked.n(), picked.n_classes(), picked.of(0), picked.of(2)), (3, 5, &[0, 2, 3][..], &[1, 3][..]));
        assert!(labels.pick(&[]).is_single());
    }

    #[test]
    fn refuses_what_does_not_exist() {
        let error = Labels::from_rows(&[vec![1], vec![0, 2]], 2).unwrap_err();
        assert_eq!(error, LabelsError::NoSuchClass { row: 1, class: 2, n_classes: 2 });
        let error = Labels::single(&[0, 1]).with_names(vec!["one".into()]).unwrap_err();
        assert_eq!(error, LabelsError::Names { found: 1, n_classes: 2 });
        let named = Labels::single(&[1, 0]).with_names(vec!["cat".into(), "dog".into()]).unwrap();
        assert_eq!((named.name(1), named.name(2), named.pick(&[1]).names().len()), (Some("dog"), None, 2));
    }
}
