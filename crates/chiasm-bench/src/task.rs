//! A set with its split.

use chiasm_align::Pairs;
use chiasm_core::{Labels, Vectors};

/// One part of a set: row `i` of every view belongs together.
#[derive(Clone, Debug)]
pub struct Part {
    /// One matrix per view, all of the same number of rows.
    pub views: Vec<Vectors>,
    /// Classes of the rows.
    pub labels: Option<Labels>,
    /// Thing that each row shows, where several rows show one.
    pub groups: Option<Vec<u32>>,
}

impl Part {
    /// Number of rows.
    pub fn n(&self) -> usize {
        self.views.first().map_or(0, Vectors::n)
    }

    /// As a method takes it.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs {
            views: self.views.iter().map(Vectors::view).collect(),
            groups: self.groups.as_deref(),
            labels: self.labels.as_ref(),
        }
    }

    /// Some of its rows, in the order given.
    pub fn pick(&self, rows: &[usize]) -> Part {
        let view = |v: &Vectors| {
            let data = rows.iter().flat_map(|row| v.row(*row)).copied().collect();
            Vectors::new(data, v.dim()).expect("rows of finite vectors are finite vectors")
        };
        Part {
            views: self.views.iter().map(view).collect(),
            labels: self.labels.as_ref().map(|labels| labels.pick(rows)),
            groups: self.groups.as_ref().map(|groups| rows.iter().map(|row| groups[*row]).collect()),
        }
    }
}

/// A set with its split, and how it is told.
#[derive(Clone, Debug)]
pub struct Task {
    /// Word by which it is asked for.
    pub key: &'static str,
    /// Name in the tables.
    pub title: String,
    /// Features, sizes, split, relevance, in sentences.
    pub protocol: String,
    /// Names of the views, in the order of the parts.
    pub views: Vec<&'static str>,
    /// What methods learn from.
    pub train: Part,
    /// Queries, and for real-valued methods the gallery too.
    pub test: Part,
    /// Number of coordinates that the literature keeps in plain CCA on this set.
    pub cca_components: usize,
    /// Coordinates over which the correlation on the test part is added up, where that is what the set is for.
    pub correlations: Option<usize>,
}

impl Task {
    /// The same set with two of its views only, for methods that take no more.
    pub fn of_pair(&self, places: [usize; 2]) -> Task {
        let part = |part: &Part| Part { views: places.map(|v| part.views[v].clone()).to_vec(), ..part.clone() };
        Task { views: places.map(|v| self.views[v]).to_vec(), train: part(&self.train), test: part(&self.test), ..self.clone() }
    }
}
