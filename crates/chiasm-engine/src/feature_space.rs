//! A space fitted on feature files: the same file and the same projections as a [`crate::Space`], without encoders.

use std::path::Path;
use std::time::Duration;

use chiasm_align::deep::generative::unpaired::{Unpaired, UnpairedMethod};
use chiasm_align::{Figures, Fitted, MethodConfig, Moments, Pairs, PipelineSpace, Run};
use chiasm_core::SharedSpace;
use serde::{Deserialize, Serialize};

use crate::container;
use crate::space::write_whole;
use crate::{EngineError, Result};

/// Retrieval among rows that were left out of the fit, in one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureFigures {
    /// View of the queries.
    pub query: String,
    /// View of the answers.
    pub item: String,
    /// Mean average precision, where rows have labels.
    pub map: Option<f64>,
    /// Share of queries with a right answer first, among the first 5, among the first 10.
    pub hits: [f64; 3],
    /// Queries over all folds.
    pub n_queries: usize,
    /// Items among which each was searched, the mean over folds.
    pub n_gallery: f64,
}

/// How a space of feature files came about; kept in its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureReport {
    /// The method.
    pub method: String,
    /// The hyper-parameters, those chosen and those by default.
    pub parameters: Vec<(String, String)>,
    /// Rows it was fitted on.
    pub n_rows: usize,
    /// Classes of the labels; 0 without.
    pub n_classes: usize,
    /// Seed of every random choice.
    pub seed: u64,
    /// What each file was found to hold, and what was left out.
    pub provenance: Vec<String>,
    /// Folds of the cross-validation that chose the hyper-parameters; 0 when there was none.
    pub n_folds: usize,
    /// Figures of that choice on rows left out. They chose it, so they flatter a little.
    pub figures: Vec<FeatureFigures>,
    /// For codes: share of ones of each bit over the fitting rows, per view; a bit near 0 or 1 tells little.
    pub bit_balance: Vec<Vec<f64>>,
    /// Seconds.
    pub wall_s: f64,
}

/// A fitted space whose views are named, not encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureSpace {
    /// Its name.
    pub name: String,
    /// Names of the views, in their order.
    pub views: Vec<String>,
    /// What carries rows to where they meet.
    pub projection: PipelineSpace,
    /// How it came about.
    pub report: FeatureReport,
}

/// What is asked of a fit on feature files.
#[derive(Clone, Debug)]
pub struct FeatureFit {
    /// Name of the space.
    pub name: String,
    /// Names of the views.
    pub views: Vec<String>,
    /// Method with the hyper-parameters to start from.
    pub method: MethodConfig,
    /// Folds of the cross-validation that chooses hyper-parameters; absent to take them as they are.
    pub folds: Option<usize>,
    /// What the files were found to hold.
    pub provenance: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    views: Vec<String>,
    report: FeatureReport,
}

impl FeatureSpace {
    /// Chooses hyper-parameters where that is asked for, and fits on all rows.
    ///
    /// # Errors
    /// [`EngineError::Fit`], [`EngineError::Project`], [`EngineError::Cancelled`].
    pub fn fit(request: FeatureFit, pairs: &Pairs<'_>, run: &Run<'_>) -> Result<Self> {
        let began = std::time::Instant::now();
        let (config, chosen) = match request.folds {
            None => (request.method, None),
            Some(folds) => {
                let chosen = request.method.auto_from(pairs, folds, run).map_err(crate::fit::stopped)?;
                (chosen.config.clone(), Some(chosen))
            }
        };
        let Fitted { space: projection, .. } = config.fit_with_codes(pairs, run).map_err(crate::fit::stopped)?;
        let mut bit_balance = Vec::new();
        if projection.n_bits().is_some() {
            for (v, x) in pairs.views.iter().enumerate() {
                let codes = projection.project(v, *x)?;
                let share = |bit: usize| codes.rows().filter(|row| row[bit] > 0.0).count() as f64 / codes.n() as f64;
                bit_balance.push((0..codes.dim()).map(share).collect());
            }
        }
        let report = FeatureReport {
            method: config.name().to_owned(),
            parameters: config.parameters(),
            n_rows: pairs.n(),
            n_classes: pairs.labels.map_or(0, chiasm_core::Labels::n_classes),
            seed: run.seed,
            provenance: request.provenance,
            n_folds: request.folds.unwrap_or(0),
            figures: chosen.as_ref().map_or(Vec::new(), |chosen| figures(&chosen.figures, &request.views)),
            bit_balance,
            wall_s: round(began.elapsed()),
        };
        Ok(Self { name: request.name, views: request.views, projection, report })
    }

    /// Fits on sums of rows, with the hyper-parameters as they are: the same space as [`FeatureSpace::fit`] without folds, in memory that does
    /// not grow with the rows. The balance of bits is not known.
    ///
    /// # Errors
    /// [`EngineError::Fit`], [`EngineError::Cancelled`].
    pub fn fit_moments(request: FeatureFit, moments: &Moments, n_classes: usize, run: &Run<'_>) -> Result<Self> {
        let began = std::time::Instant::now();
        let projection = request.method.fit_moments(moments, run).map_err(crate::fit::stopped)?;
        let report = FeatureReport {
            method: request.method.name().to_owned(),
            parameters: request.method.parameters(),
            n_rows: moments.n(),
            n_classes,
            seed: run.seed,
            provenance: request.provenance,
            n_folds: 0,
            figures: Vec::new(),
            bit_balance: Vec::new(),
            wall_s: round(began.elapsed()),
        };
        Ok(Self { name: request.name, views: request.views, projection, report })
    }

    /// Learns from two views of which no row is known to belong to another; there may be more rows of one than of the other.
    ///
    /// # Errors
    /// [`EngineError::Fit`], [`EngineError::Cancelled`].
    pub fn fit_unpaired(
        name: String,
        views: [String; 2],
        method: &UnpairedMethod,
        rows: &Unpaired<'_>,
        provenance: Vec<String>,
        run: &Run<'_>,
    ) -> Result<Self> {
        let began = std::time::Instant::now();
        let projection = method.fit(rows, run).map_err(crate::fit::stopped)?;
        let report = FeatureReport {
            method: method.name().to_owned(),
            // What it says of itself stands there too.
            parameters: projection.about().parameters.clone(),
            n_rows: rows.views.iter().map(|view| view.n()).sum(),
            n_classes: 0,
            seed: run.seed,
            provenance,
            n_folds: 0,
            figures: Vec::new(),
            bit_balance: Vec::new(),
            wall_s: round(began.elapsed()),
        };
        Ok(Self { name, views: views.into(), projection, report })
    }

    /// What decides its vectors: views by name, and the pipelines.
    pub fn fingerprint(&self) -> String {
        let bare =
            PipelineSpace::new(self.projection.metric(), self.projection.views().to_vec(), chiasm_align::About::default());
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"chiasm feature space 1");
        for view in &self.views {
            hasher.update(&(view.len() as u64).to_le_bytes());
            hasher.update(view.as_bytes());
        }
        hasher.update(&bare.expect("the same views made a space before").to_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Number of the view of that name.
    pub fn view(&self, name: &str) -> Option<usize> {
        self.views.iter().position(|view| view == name)
    }

    /// Writes its file, whole or not at all.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header { name: self.name.clone(), views: self.views.clone(), report: self.report.clone() };
        let header = serde_json::to_value(header).expect("a record of strings and finite numbers is always JSON");
        let bytes = container::seal(&self.projection, "features", &self.fingerprint(), header, Vec::new());
        write_whole(path, &bytes).map_err(EngineError::io("cannot write the space", path))
    }

    /// Reads the file; `None` when it is that of a space with encoders, for [`crate::Space::load`].
    ///
    /// # Errors
    /// [`EngineError::Io`], [`EngineError::SpaceFile`].
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = std::fs::read(path).map_err(EngineError::io("cannot read the space", path))?;
        if crate::space::is_format_1(&bytes) {
            return Ok(None);
        }
        let failed = |reason: String| EngineError::SpaceFile { path: path.to_owned(), reason };
        let opened = container::open(&bytes).map_err(failed)?;
        if opened.kind != "features" {
            return Ok(None);
        }
        let header: Header = serde_json::from_value(opened.header).map_err(|e| failed(format!("its header: {e}")))?;
        if header.views.len() != opened.projection.n_views() {
            return Err(failed("its header and its pipelines do not agree".to_owned()));
        }
        let Header { name, views, report } = header;
        Ok(Some(Self { name, views, projection: opened.projection, report }))
    }
}

pub(crate) fn figures(figures: &Figures, views: &[String]) -> Vec<FeatureFigures> {
    let one = |d: &chiasm_align::Direction| FeatureFigures {
        query: views[d.from].clone(),
        item: views[d.to].clone(),
        map: d.map,
        hits: [d.r1, d.r5, d.r10],
        n_queries: d.n_queries,
        n_gallery: d.n_gallery,
    };
    figures.directions.iter().map(one).collect()
}

pub(crate) fn round(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
