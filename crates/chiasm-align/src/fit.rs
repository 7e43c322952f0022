//! What every method takes, and why it may refuse.

use chiasm_core::{Cancel, Cancelled, Labels, MatrixView, NoProgress, Progress, ProjectError, ShapeError};

use crate::draft::Draft;

/// Paired rows of two or more views: row `i` of every view belongs together.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    /// One matrix per view, `[n, d_v]`, all of the same `n`.
    pub views: Vec<MatrixView<'a>>,
    /// For each row the thing it shows (the five captions of one picture share a group, and the picture is repeated). Rows of
    /// one group are all right answers to one another and never stand on both sides of a split. Each row is its own group when
    /// absent.
    pub groups: Option<&'a [u32]>,
    /// The classes of each row, for methods that learn from them; a row of no class is unlabelled. With labels, two rows are right
    /// answers to one another when they share a class.
    pub labels: Option<&'a Labels>,
}

impl<'a> Pairs<'a> {
    /// Pairs in which each row is its own group.
    pub fn new(views: Vec<MatrixView<'a>>) -> Self {
        Self { views, groups: None, labels: None }
    }

    /// The same with groups.
    pub fn with_groups(views: Vec<MatrixView<'a>>, groups: &'a [u32]) -> Self {
        Self { views, groups: Some(groups), labels: None }
    }

    /// Pairs in which each row is its own group, with their classes.
    pub fn with_labels(views: Vec<MatrixView<'a>>, labels: &'a Labels) -> Self {
        Self { views, groups: None, labels: Some(labels) }
    }

    /// Number of rows of the first view; 0 without views.
    pub fn n(&self) -> usize {
        self.views.first().map_or(0, MatrixView::n)
    }

    /// The group of a row.
    pub fn group(&self, row: usize) -> u32 {
        self.groups.map_or(row as u32, |groups| groups[row])
    }

    /// Checks all that every method relies on: two views or more, equal numbers of rows, at least two of them, one group per
    /// row, every number finite.
    ///
    /// # Errors
    /// [`FitError::Views`], [`FitError::Rows`], [`FitError::TooFewRows`], [`FitError::Groups`], [`FitError::Input`].
    pub fn check(&self, method: &'static str, n_views: std::ops::RangeInclusive<usize>) -> Result<(), FitError> {
        if !n_views.contains(&self.views.len()) {
            return Err(FitError::Views { method, got: self.views.len(), least: *n_views.start(), most: *n_views.end() });
        }
        let n = self.n();
        for (view, x) in self.views.iter().enumerate() {
            if x.n() != n {
                return Err(FitError::Rows { view, got: x.n(), expected: n });
            }
        }
        if n < 2 {
            return Err(FitError::TooFewRows { got: n, least: 2, what: "to fit".to_owned() });
        }
        if let Some(groups) = self.groups
            && groups.len() != n
        {
            return Err(FitError::Groups { got: groups.len(), expected: n });
        }
        if let Some(labels) = self.labels
            && labels.n() != n
        {
            return Err(FitError::Labels { got: labels.n(), expected: n });
        }
        for (view, x) in self.views.iter().enumerate() {
            x.check_finite().map_err(|cause| FitError::Input { view, cause })?;
        }
        Ok(())
    }
}

/// How a fit draws its chances, reports on itself and is stopped.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Decides every random choice: the same seed on the same pairs gives the same space, bit for bit.
    pub seed: u64,
    /// Hears how far the work is.
    pub progress: &'a dyn Progress,
    /// Stops it at the next safe point.
    pub cancel: &'a Cancel,
    /// Keeps what is done, for a run that goes on where this one was stopped; none keeps nothing.
    pub draft: Option<&'a dyn Draft>,
}

impl Run<'_> {
    /// The same without a voice and without a draft: a part of the work of a run that has both.
    pub(crate) fn quietly(&self) -> Self {
        Self { progress: &NoProgress, draft: None, ..*self }
    }
}

/// Why a space could not be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// A method for two views got three, or one.
    #[error("{method} takes {}, got {got}", n_views(*.least, *.most))]
    Views {
        /// The method.
        method: &'static str,
        /// Number of views given.
        got: usize,
        /// Fewest it takes.
        least: usize,
        /// Most it takes.
        most: usize,
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
    /// Not one group per row.
    #[error("{got} groups for {expected} rows: give one group per row")]
    Groups {
        /// Groups given.
        got: usize,
        /// Rows given.
        expected: usize,
    },
    /// Not the labels of these rows.
    #[error("labels of {got} rows for {expected} rows: give the classes of each row, or none for a row")]
    Labels {
        /// Rows that the labels speak of.
        got: usize,
        /// Rows given.
        expected: usize,
    },
    /// A method that learns from classes got none, or only one.
    #[error("{method} learns from classes, and {got}: give labels of at least two classes")]
    NoLabels {
        /// The method.
        method: &'static str,
        /// What came.
        got: &'static str,
    },
    /// A chunk of rows that are longer or shorter than those before.
    #[error("rows of view {view} have {got} columns, expected {expected}")]
    Columns {
        /// The view.
        view: usize,
        /// Columns that came.
        got: usize,
        /// Columns of the rows before.
        expected: usize,
    },
    /// Rows are needed where only sums are at hand.
    #[error("{what} needs the rows themselves, not only their sums: fit with all rows in memory")]
    NeedsRows {
        /// What needs them.
        what: &'static str,
    },
    /// Sums of rows that were prepared otherwise.
    #[error("the sums of view {view} are of rows after `{got}`, the method wants `{expected}`: sum the rows anew")]
    Preprocessed {
        /// The view.
        view: usize,
        /// What was done to the rows.
        got: String,
        /// What the method's configuration says.
        expected: String,
    },
    /// Too few pairs, or too few groups for the folds.
    #[error("{got} pairs are too few {what}: at least {least} are needed")]
    TooFewRows {
        /// Rows, or groups of rows, given.
        got: usize,
        /// How many it takes.
        least: usize,
        /// For what.
        what: String,
    },
    /// NaN or an infinity among the numbers.
    #[error("view {view}: {cause}")]
    Input {
        /// The view.
        view: usize,
        /// Where in it.
        cause: ShapeError,
    },
    /// Rows that the space to be evaluated does not take.
    #[error("view {view}: {cause}")]
    Project {
        /// The view.
        view: usize,
        /// Why not.
        cause: ProjectError,
    },
    /// A view in which all rows are the same, so that nothing can be learned from it.
    #[error("every row of view {view} is the same{}: check what its encoder was given", after(.preprocess))]
    Constant {
        /// The view.
        view: usize,
        /// What was done to it first; empty for nothing.
        preprocess: String,
    },
    /// Views that vary, but share nothing.
    #[error("{method} finds no correlation at all between the views: check that row i of every view belongs together")]
    Unrelated {
        /// The method.
        method: &'static str,
    },
    /// A hyper-parameter outside its range.
    #[error("{name} is {value}: {expected}")]
    Config {
        /// Name of the field.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// No method of that name.
    #[error("there is no method `{got}`: expected one of {}", crate::MethodConfig::names().join(", "))]
    UnknownMethod {
        /// The name asked for.
        got: String,
    },
    /// The numbers are such that a decomposition failed or overflowed.
    #[error("{what} failed: the numbers of the views are too large or too uneven, scale them or raise the ridge")]
    Numeric {
        /// The decomposition.
        what: &'static str,
    },
    /// Lists or sets of parts that do not belong together.
    #[error(transparent)]
    Sets(#[from] crate::parts::SetError),
    /// The draft could not be written.
    #[error("cannot keep what is done so far: {reason}")]
    Draft {
        /// Where, and why.
        reason: String,
    },
    /// The user asked for a stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn n_views(least: usize, most: usize) -> String {
    match (least, most) {
        (a, b) if a == b => format!("{a} views"),
        (a, usize::MAX) => format!("{a} or more views"),
        (a, b) => format!("{a} to {b} views"),
    }
}

fn after(preprocess: &str) -> String {
    if preprocess.is_empty() { String::new() } else { format!(" after {preprocess}") }
}
