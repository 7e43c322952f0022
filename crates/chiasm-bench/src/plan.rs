//! Which methods run on which set, and with which hyper-parameters.

use chiasm_align::{
    Anchors, Cca3vConfig, CcaConfig, DatabaseCodes, JfsslConfig, KccaConfig, Kernel, KernelConfig, KernelRole,
    LabelRidgeConfig, MethodConfig, MvdaConfig, PlsConfig, ScmBits, ScmConfig, ScmHashConfig, SephConfig, Similarity, SmConfig,
    ViewConfig,
};
use chiasm_core::{Metric, Vectors};

use crate::protocol::Recipe;
use crate::task::Task;

/// One line of the plan.
pub struct Entry {
    /// The method and its hyper-parameters.
    pub recipe: Recipe,
    /// What distinguishes it from other lines of the method.
    pub variant: String,
    /// Whether it takes two views only, of a set that has more.
    pub two_views: bool,
    /// Bits asked of a hashing method; it may give fewer.
    pub bits: Option<usize>,
}

impl Entry {
    /// Name of the method.
    pub fn method(&self) -> &'static str {
        match &self.recipe {
            Recipe::None => "none",
            Recipe::Stated(config) | Recipe::CrossValidated(config) => config.name(),
        }
    }
}

/// Numbers of bits in the tables.
pub const BITS: [usize; 4] = [16, 32, 64, 128];

/// All lines of a set.
pub fn plan(task: &Task) -> Vec<Entry> {
    if task.train.n() == 0 {
        return vec![Entry { recipe: Recipe::None, variant: "cosine".to_owned(), two_views: false, bits: None }];
    }
    let mut entries = Vec::new();
    let mut add = |recipe: Recipe, variant: &str, two_views: bool| {
        entries.push(Entry { recipe, variant: variant.to_owned(), two_views, bits: None });
    };
    let many = task.views.len() > 2;
    let k = task.cca_components;
    if !many || task.labels() {
        let ridge = ViewConfig { ridge: 1e-3, ..ViewConfig::default() };
        let cca = |power| MethodConfig::Cca(CcaConfig { views: [ridge; 2], max_components: k, correlation_power: power });
        add(Recipe::Stated(cca(0.0)), &format!("{k} coordinates, unweighted"), true);
        add(Recipe::Stated(cca(1.0)), &format!("{k} coordinates, weighted by correlation"), true);
        add(from_name("cca"), "", true);
        let pls = PlsConfig { max_components: k + 3, ..PlsConfig::default() };
        add(Recipe::Stated(MethodConfig::Pls(pls)), &format!("{} coordinates", k + 3), true);
        for name in
            ["pls", "ridge", "procrustes", "dcca", "dccae", "infonce", "siglip", "vse", "vse++", "npair", "dgcca", "brivl"]
        {
            add(from_name(name), "", true);
        }
        for name in ["jmvae", "mvae", "mmvae", "cada-vae"] {
            add(from_name(name), "", true);
        }
        if task.labels() {
            add(Recipe::Stated(chi_squared()), "chi-squared, kappa 1e-3, 10 coordinates", true);
        }
        // With thousands of rows of a thousand columns its search takes longer than all others together.
        if task.train.n() <= 2500 {
            add(from_name("kcca"), "", true);
        }
    }
    if many {
        add(from_name("mcca"), "", false);
    }
    if many && task.labels() {
        add(from_name("gcca"), "", false);
    }
    if !task.labels() {
        return entries;
    }
    add(from_name("cluster-cca"), "", true);
    let weighted = Cca3vConfig { max_components: task.n_classes() - 1, ..Cca3vConfig::default() };
    add(Recipe::Stated(MethodConfig::Cca3v(weighted)), "eigenvalue^4, classes less 1 coordinates", true);
    add(from_name("cca-3v"), "", true);
    let view = ViewConfig { ridge: 0.1, ..ViewConfig::default() };
    add(Recipe::Stated(MethodConfig::LabelRidge(LabelRidgeConfig { views: [view; 2] })), "ridge .1", true);
    add(from_name("label-ridge"), "", true);
    for (similarity, word) in [(Similarity::Cosine, "cosine"), (Similarity::CentredCosine, "centred cosine")] {
        let sm = SmConfig { similarity, ..SmConfig::default() };
        add(Recipe::CrossValidated(MethodConfig::Sm(sm)), word, true);
        let scm = ScmConfig { similarity, ..ScmConfig::default() };
        let stated = ScmConfig { max_components: k, ..scm.clone() };
        add(Recipe::Stated(MethodConfig::Scm(stated)), &format!("{k} coordinates, C = 1, {word}"), true);
        add(Recipe::CrossValidated(MethodConfig::Scm(scm)), word, true);
    }
    for name in ["gmlda", "gmmfa", "unicl", "dscmr", "acmr", "label-gcn", "logit-adjusted"] {
        add(from_name(name), "", true);
    }
    add(from_name("mvda"), "", false);
    let consistent = MvdaConfig { view_consistency: 1.0, ..MvdaConfig::default() };
    add(Recipe::CrossValidated(MethodConfig::Mvda(consistent)), "view consistency", false);
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        let jfssl = JfsslConfig { metric, ..JfsslConfig::default() };
        add(Recipe::CrossValidated(MethodConfig::Jfssl(jfssl)), crate::protocol::metric_word(metric), true);
    }
    add(from_name("lcfs"), "", true);
    for bits in BITS {
        for (recipe, variant) in codes(task, bits) {
            entries.push(Entry { recipe, variant: variant.to_owned(), two_views: true, bits: Some(bits) });
        }
    }
    entries
}

/// The hashing methods: those that the literature runs with stated weights as stated, and SePH with its kernel widths chosen by
/// cross-validation.
fn codes(task: &Task, bits: usize) -> Vec<(Recipe, &'static str)> {
    let stated = |name: &str| {
        let config = MethodConfig::from_name(name).expect("a method of the list").with_components(bits);
        (Recipe::Stated(config), "")
    };
    let seph = |database: DatabaseCodes, variant: &'static str| {
        let config = SephConfig { database, bits, ..SephConfig::default() };
        (Recipe::Stated(MethodConfig::Seph(config)), variant)
    };
    // The paper adds 1e-6 to X'X; of a method whose bits each depend on all before, the digits count.
    let ridge = |v: usize| ViewConfig { ridge: relative(1e-6, &task.train.views[v]), ..ViewConfig::default() };
    let scm = |order| {
        let config = ScmHashConfig { views: [ridge(0), ridge(1)], order, bits };
        (Recipe::Stated(MethodConfig::ScmHash(config)), "")
    };
    let mut all = vec![scm(ScmBits::Sequential), scm(ScmBits::Orthogonal)];
    all.extend(
        ["cmssh", "dch", "hadamard", "cvh", "imh", "cmfh", "fsh", "cmssh-pairs", "ssh", "dcmh", "djsrh", "ddh", "ssah", "ucch"]
            .map(stated),
    );
    all.push(seph(DatabaseCodes::Posterior, "combined posteriors"));
    all.push(seph(DatabaseCodes::Learned, "learned codes"));
    all
}

/// A method from its defaults, its hyper-parameters chosen by cross-validation.
fn from_name(name: &str) -> Recipe {
    Recipe::CrossValidated(MethodConfig::from_name(name).expect("a method of the list"))
}

/// The relative ridge that adds so much to the diagonal of the scatter of a view.
fn relative(absolute: f64, x: &Vectors) -> f64 {
    let n = x.n().max(1) as f64;
    let column = |j: usize| x.rows().map(move |row| f64::from(row[j]));
    let scatter = |j: usize| {
        let mean = column(j).sum::<f64>() / n;
        column(j).map(|value| (value - mean) * (value - mean)).sum::<f64>()
    };
    let trace: f64 = (0..x.dim()).map(scatter).sum();
    if trace > 0.0 { absolute * x.dim() as f64 / trace } else { 0.0 }
}

fn chi_squared() -> MethodConfig {
    let kernel = KernelConfig {
        kernel: Kernel::Chi2,
        gamma: Some(1.0),
        sharpness: 1.0,
        max_exact_rows: 5000,
        max_anchors: 1000,
        anchors: Anchors::Random,
        role: KernelRole::Geometry,
    };
    MethodConfig::Kcca(KccaConfig { kernels: [kernel; 2], kappa: 1e-3, max_components: 10, ..KccaConfig::default() })
}

impl Task {
    fn labels(&self) -> bool {
        self.train.labels.is_some()
    }

    fn n_classes(&self) -> usize {
        self.train.labels.as_ref().map_or(0, chiasm_core::Labels::n_classes)
    }
}
