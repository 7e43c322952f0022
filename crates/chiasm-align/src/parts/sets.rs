//! Things that are sets of vectors.

use chiasm_core::{MatrixView, ProjectError, Regions, ShapeError, Vectors};
use chiasm_nn::grad::Array;

use crate::draft::Key;
use crate::fit::FitError;

/// Things each of which is a set of vectors, as many as it has parts: `[sum of lengths, dim]` rows, those of one thing after another.
#[derive(Clone, Debug, PartialEq)]
pub struct PartSets {
    rows: Array<f32>,
    lengths: Vec<usize>,
    /// Where the rows of each thing begin.
    firsts: Vec<usize>,
}

/// Why numbers are no sets of parts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SetError {
    /// The rows themselves.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// Counts of parts that are not those of the rows.
    #[error("the sets have {sum} parts together, and there are {rows} rows: give the count of rows of each set")]
    Lengths {
        /// Sum of the lengths.
        sum: usize,
        /// Rows that came.
        rows: usize,
    },
    /// A thing without parts.
    #[error("set {set} has no parts: leave out what has none")]
    Empty {
        /// Its number.
        set: usize,
    },
    /// Regions of two detectors.
    #[error("regions of picture {picture} have {got} numbers, those of picture 0 have {expected}: detect all with one model")]
    Regions {
        /// The picture at odds with the first.
        picture: usize,
        /// Numbers of its regions.
        got: usize,
        /// Numbers of those of picture 0.
        expected: usize,
    },
    /// Parts that two encoders saw.
    #[error("the parts of set {set} have {got} numbers, those of set 0 have {expected}: take all from one encoder")]
    Widths {
        /// The set at odds with the first.
        set: usize,
        /// Numbers of its parts.
        got: usize,
        /// Numbers of those of set 0.
        expected: usize,
    },
    /// Not one picture for each text.
    #[error("{got} pictures are named for {expected} texts: name the picture of each text")]
    Pairing {
        /// Pictures named.
        got: usize,
        /// Texts given.
        expected: usize,
    },
    /// A text of a picture that is not there.
    #[error("text {text} names picture {picture}, and there are {n_pictures} pictures, counted from 0")]
    NoSuchPicture {
        /// The text.
        text: usize,
        /// The picture it names.
        picture: u32,
        /// Pictures given.
        n_pictures: usize,
    },
    /// Not one list of pictures for each text.
    #[error("{got} lists of pictures for {expected} texts: give one list for each text")]
    Lists {
        /// Lists that came.
        got: usize,
        /// Texts given.
        expected: usize,
    },
    /// No view to make a query of.
    #[error("a query is made of one or more views, got none")]
    NoViews,
    /// More or fewer views than a model was fitted on; one that is missing stays in its place and is said to be.
    #[error("the model fuses {expected} views, got {got}: give all, and say which are missing")]
    Views {
        /// Views that came.
        got: usize,
        /// Views it was fitted on.
        expected: usize,
    },
    /// Views of different lengths.
    #[error("view {view} has {got} rows, view 0 has {expected}: row i of every view must belong together")]
    Rows {
        /// The view at odds with the first.
        view: usize,
        /// Its rows.
        got: usize,
        /// Rows of view 0.
        expected: usize,
    },
    /// NaN or an infinity in a view.
    #[error("view {view}: {cause}")]
    View {
        /// The view.
        view: usize,
        /// Where in it.
        cause: ShapeError,
    },
    /// Not one answer for each row and view.
    #[error("whether a view is there is said {got} times, expected {expected}: once for each row and view")]
    Presence {
        /// Answers given.
        got: usize,
        /// Rows times views.
        expected: usize,
    },
    /// A row of nothing.
    #[error("row {row} has no view at all: leave out what has none")]
    Absent {
        /// The row.
        row: usize,
    },
    /// Parts of another encoder.
    #[error(transparent)]
    Project(#[from] ProjectError),
}

impl PartSets {
    /// Tells what they are.
    pub(super) fn tell(&self, key: &mut Key) {
        key.words(&format!("{:?}", self.lengths));
        key.array(&self.rows);
    }

    /// Sets of `lengths[i]` rows each, at least one, of `dim` finite numbers.
    ///
    /// # Errors
    /// [`SetError::Shape`], [`SetError::Lengths`], [`SetError::Empty`].
    pub fn new(rows: Vec<f32>, dim: usize, lengths: Vec<usize>) -> Result<Self, SetError> {
        MatrixView::new(&rows, dim)?.check_finite()?;
        let n_rows = rows.len() / dim;
        let sum = lengths.iter().fold(0_usize, |sum, length| sum.saturating_add(*length));
        if sum != n_rows {
            return Err(SetError::Lengths { sum, rows: n_rows });
        }
        if let Some(set) = lengths.iter().position(|length| *length == 0) {
            return Err(SetError::Empty { set });
        }
        Ok(Self::of(Array::new(n_rows, dim, rows), lengths))
    }

    /// The features of what a detector found in each picture, as a regions file holds them.
    ///
    /// # Errors
    /// [`SetError::Regions`]; [`SetError::Shape`] of no picture at all.
    pub fn of_regions(pictures: &[Regions]) -> Result<Self, SetError> {
        let expected = pictures.first().map_or(0, Regions::dim);
        if let Some(picture) = pictures.iter().position(|regions| regions.dim() != expected) {
            return Err(SetError::Regions { picture, got: pictures[picture].dim(), expected });
        }
        let rows = pictures.iter().flat_map(|regions| regions.features().iter().copied()).collect();
        Self::new(rows, expected, pictures.iter().map(Regions::count).collect())
    }

    /// What an encoder saw in the parts of each thing, as [`chiasm_core::Encoder::parts`] gives it.
    ///
    /// # Errors
    /// [`SetError::Widths`], [`SetError::Empty`]; [`SetError::Shape`] of nothing at all.
    pub fn of_parts(things: &[Vectors]) -> Result<Self, SetError> {
        let expected = things.first().map_or(0, Vectors::dim);
        if let Some(set) = things.iter().position(|parts| parts.dim() != expected) {
            return Err(SetError::Widths { set, got: things[set].dim(), expected });
        }
        let rows = things.iter().flat_map(|parts| parts.data()).copied().collect();
        Self::new(rows, expected, things.iter().map(Vectors::n).collect())
    }

    pub(super) fn of(rows: Array<f32>, lengths: Vec<usize>) -> Self {
        let firsts = starts(&lengths);
        Self { rows, lengths, firsts }
    }

    /// How many things.
    pub fn n(&self) -> usize {
        self.lengths.len()
    }

    /// Numbers of a part.
    pub fn dim(&self) -> usize {
        self.rows.n_cols()
    }

    /// How many parts each thing has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The parts of a thing, `[length, dim]` row by row.
    ///
    /// # Panics
    /// If there is no such thing.
    pub fn set(&self, i: usize) -> &[f32] {
        let from = self.firsts[i] * self.dim();
        &self.rows.data()[from..from + self.lengths[i] * self.dim()]
    }

    /// All parts of all things.
    pub(super) fn rows(&self) -> &Array<f32> {
        &self.rows
    }

    /// Some things, in the order given; one may come more than once.
    ///
    /// # Panics
    /// If there is no such thing.
    pub fn pick(&self, sets: &[usize]) -> PartSets {
        let lengths: Vec<usize> = sets.iter().map(|i| self.lengths[*i]).collect();
        let data: Vec<f32> = sets.iter().flat_map(|i| self.set(*i)).copied().collect();
        Self::of(Array::new(lengths.iter().sum(), self.dim(), data), lengths)
    }

    /// The mean of the parts of each thing, `[n, dim]` row by row: what a bridge of single vectors takes.
    pub fn means(&self) -> Vec<f32> {
        let mean = |i: usize| {
            let parts = self.set(i).chunks_exact(self.dim());
            let mut sum = vec![0.0_f64; self.dim()];
            parts.for_each(|part| sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += f64::from(*x)));
            sum.into_iter().map(move |sum| (sum / self.lengths[i] as f64) as f32).collect::<Vec<f32>>()
        };
        (0..self.n()).flat_map(mean).collect()
    }

    /// # Errors
    /// [`ProjectError::Dimension`].
    pub(super) fn expect_dim(&self, view: usize, expected: usize) -> Result<(), ProjectError> {
        let got = self.dim();
        if got == expected { Ok(()) } else { Err(ProjectError::Dimension { view, expected, got }) }
    }
}

/// Where each of some runs of these lengths begins.
pub(super) fn starts(lengths: &[usize]) -> Vec<usize> {
    lengths
        .iter()
        .scan(0, |next, length| {
            let first = *next;
            *next += length;
            Some(first)
        })
        .collect()
}

/// Pictures and texts, each text with its picture; a picture may have several texts, or none.
#[derive(Clone, Copy, Debug)]
pub struct Captioned<'a> {
    pictures: &'a PartSets,
    texts: &'a PartSets,
    picture_of: &'a [u32],
}

impl<'a> Captioned<'a> {
    /// Texts of which number `t` belongs to picture `picture_of[t]`.
    ///
    /// # Errors
    /// [`SetError::Pairing`], [`SetError::NoSuchPicture`].
    pub fn new(pictures: &'a PartSets, texts: &'a PartSets, picture_of: &'a [u32]) -> Result<Self, SetError> {
        if picture_of.len() != texts.n() {
            return Err(SetError::Pairing { got: picture_of.len(), expected: texts.n() });
        }
        picture_of.iter().enumerate().try_for_each(|(text, picture)| named(text, *picture, pictures.n()))?;
        Ok(Self { pictures, texts, picture_of })
    }

    /// The pictures.
    pub fn pictures(&self) -> &'a PartSets {
        self.pictures
    }

    /// The texts.
    pub fn texts(&self) -> &'a PartSets {
        self.texts
    }

    /// The picture of each text.
    pub fn picture_of(&self) -> &'a [u32] {
        self.picture_of
    }

    /// The pictures that have texts, with these.
    pub(super) fn described(&self) -> Vec<(usize, Vec<usize>)> {
        let mut texts = vec![Vec::new(); self.pictures.n()];
        self.picture_of.iter().enumerate().for_each(|(text, picture)| texts[*picture as usize].push(text));
        texts.into_iter().enumerate().filter(|(_, texts)| !texts.is_empty()).collect()
    }
}

/// Checks lists of pictures, one for each text.
///
/// # Errors
/// [`SetError::Lists`], [`SetError::NoSuchPicture`].
pub(super) fn check_lists(lists: &[Vec<u32>], texts: &PartSets, pictures: &PartSets) -> Result<(), SetError> {
    if lists.len() != texts.n() {
        return Err(SetError::Lists { got: lists.len(), expected: texts.n() });
    }
    let all = lists.iter().enumerate().flat_map(|(text, list)| list.iter().map(move |picture| (text, *picture)));
    all.into_iter().try_for_each(|(text, picture)| named(text, picture, pictures.n()))
}

fn named(text: usize, picture: u32, n_pictures: usize) -> Result<(), SetError> {
    if (picture as usize) < n_pictures { Ok(()) } else { Err(SetError::NoSuchPicture { text, picture, n_pictures }) }
}

/// What is taken off rows, and the number they are multiplied by, so that their mean is 0 and their mean square 1. A single factor, for the columns of
/// one encoder are of one unit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standard {
    mean: Vec<f32>,
    factor: f32,
}

impl Standard {
    /// Of these rows, which are view number `view`.
    ///
    /// # Errors
    /// [`FitError::Constant`], [`FitError::Numeric`].
    pub(super) fn of(rows: &Array<f32>, view: usize) -> Result<Self, FitError> {
        let (n, d) = (rows.n_rows() as f64, rows.n_cols());
        let mut sum = vec![0.0_f64; d];
        rows.data().chunks_exact(d).for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x)));
        let mean: Vec<f64> = sum.iter().map(|sum| sum / n).collect();
        let off = |row: &[f32]| row.iter().zip(&mean).map(|(x, mean)| (f64::from(*x) - mean).powi(2)).sum::<f64>();
        let square = rows.data().chunks_exact(d).map(off).sum::<f64>() / (n * d as f64);
        // Equal numbers may differ from their own mean in the last digit.
        let size = mean.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        if square.sqrt() <= 1e-7 * size || square == 0.0 {
            return Err(FitError::Constant { view, preprocess: String::new() });
        }
        let factor = (1.0 / square.sqrt()) as f32;
        if !factor.is_normal() {
            return Err(FitError::Numeric { what: "scaling the parts" });
        }
        Ok(Self { mean: mean.into_iter().map(|x| x as f32).collect(), factor })
    }

    /// Columns it is of.
    pub(super) fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The rows so changed.
    pub(super) fn apply(&self, rows: &Array<f32>) -> Array<f32> {
        let (n, d) = (rows.n_rows(), rows.n_cols());
        Array::from_fn(n, d, |i, j| (rows.at(i, j) - self.mean[j]) * self.factor)
    }

    /// Makes a dense layer that takes rows as they come one that takes changed rows: the way back of [`Standard::fold`].
    pub(super) fn unfold(&self, weight: &mut Array<f32>, bias: &mut Array<f32>) {
        for i in 0..weight.n_rows() {
            let of_mean: f64 = weight.row(i).iter().zip(&self.mean).map(|(w, mean)| f64::from(*w) * f64::from(*mean)).sum();
            bias.data_mut()[i] += of_mean as f32;
        }
        let factor = self.factor;
        weight.change(|w| w / factor);
    }

    /// Makes a dense layer (`weight` `[n_out, n_in]`, `bias` `[1, n_out]`) that was learned on changed rows one that takes them as they come.
    pub(super) fn fold(&self, weight: &mut Array<f32>, bias: &mut Array<f32>) {
        let factor = self.factor;
        weight.change(|w| factor * w);
        for i in 0..weight.n_rows() {
            let of_mean: f64 = weight.row(i).iter().zip(&self.mean).map(|(w, mean)| f64::from(*w) * f64::from(*mean)).sum();
            bias.data_mut()[i] -= of_mean as f32;
        }
    }
}
