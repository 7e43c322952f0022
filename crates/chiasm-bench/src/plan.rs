//! Which methods run on which set, and with which hyper-parameters.

use chiasm_align::deep::dcca::{Dcca, DccaConfig};
use chiasm_align::deep::dccae::DccaeConfig;
use chiasm_align::deep::dgcca::DgccaConfig;
use chiasm_align::deep::infonce::InfoNceConfig;
use chiasm_align::deep::triplet::{Negatives, Triplet, TripletConfig};
use chiasm_align::deep::{Judge, TowerConfig};
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
    /// The views it takes.
    pub taken: Taken,
    /// Bits asked of a hashing method; it may give fewer.
    pub bits: Option<usize>,
}

impl Entry {
    /// Name of the method.
    pub fn method(&self) -> &'static str {
        match &self.recipe {
            Recipe::None => "none",
            Recipe::Stated(config) | Recipe::CrossValidated(config) | Recipe::OnCca(config) => config.name(),
        }
    }
}

/// Which views of a set a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All there are.
    All,
    /// Two, by their places.
    Pair([usize; 2]),
}

/// Those that a method of two views takes of a set that has more.
const FIRST_TWO: Taken = Taken::Pair([0, 1]);

/// Numbers of bits in the tables.
pub const BITS: [usize; 4] = [16, 32, 64, 128];

/// Bridges that train towers on pairs.
const LEARNED: [&str; 14] = [
    "dcca", "dccae", "dgcca", "infonce", "siglip", "vse", "vse++", "triplet", "npair", "brivl", "jmvae", "mvae", "mmvae",
    "cada-vae",
];
/// Those that train them on classes.
const LEARNED_BY_CLASS: [&str; 5] = ["unicl", "dscmr", "acmr", "label-gcn", "logit-adjusted"];
/// Those whose outcome is a code.
const LEARNED_CODES: [&str; 5] = ["dcmh", "djsrh", "ddh", "ssah", "ucch"];

/// All lines of a set.
pub fn plan(task: &Task) -> Vec<Entry> {
    if task.train.n() == 0 {
        return vec![Entry { recipe: Recipe::None, variant: "cosine".to_owned(), taken: Taken::All, bits: None }];
    }
    if let Some(k) = task.correlations {
        return correlated(k);
    }
    let mut entries = Vec::new();
    let mut add = |recipe: Recipe, variant: &str, taken: Taken| {
        entries.push(Entry { recipe, variant: variant.to_owned(), taken, bits: None });
    };
    let many = task.views.len() > 2;
    let k = task.cca_components;
    if !many || task.labels() {
        let ridge = ViewConfig { ridge: 1e-3, ..ViewConfig::default() };
        let cca = |power| MethodConfig::Cca(CcaConfig { views: [ridge; 2], max_components: k, correlation_power: power });
        add(Recipe::Stated(cca(0.0)), &format!("{k} coordinates, unweighted"), FIRST_TWO);
        add(Recipe::Stated(cca(1.0)), &format!("{k} coordinates, weighted by correlation"), FIRST_TWO);
        add(from_name("cca"), "", FIRST_TWO);
        let pls = PlsConfig { max_components: k + 3, ..PlsConfig::default() };
        add(Recipe::Stated(MethodConfig::Pls(pls)), &format!("{} coordinates", k + 3), FIRST_TWO);
        for name in ["pls", "ridge", "procrustes"] {
            add(from_name(name), "", FIRST_TWO);
        }
        for name in LEARNED {
            add(on_cca(name), "", FIRST_TWO);
        }
        if !task.labels() {
            for (name, config) in in_kernel_axes() {
                add(Recipe::OnCca(config), name, FIRST_TWO);
            }
        }
        if task.labels() {
            add(Recipe::Stated(chi_squared()), "chi-squared, kappa 1e-3, 10 coordinates", FIRST_TWO);
        }
        // With thousands of rows of a thousand columns its search takes longer than all others together.
        if task.train.n() <= 2500 {
            add(from_name("kcca"), "", FIRST_TWO);
        }
    }
    if many {
        add(from_name("mcca"), "", Taken::All);
    }
    if many && !task.labels() {
        for v in 1..task.views.len() {
            add(from_name("cca"), "", Taken::Pair([0, v]));
            add(on_cca("infonce"), "", Taken::Pair([0, v]));
        }
    }
    if many && task.labels() {
        add(from_name("gcca"), "", Taken::All);
    }
    if !task.labels() {
        return entries;
    }
    add(from_name("cluster-cca"), "", FIRST_TWO);
    let weighted = Cca3vConfig { max_components: task.n_classes() - 1, ..Cca3vConfig::default() };
    add(Recipe::Stated(MethodConfig::Cca3v(weighted)), "eigenvalue^4, classes less 1 coordinates", FIRST_TWO);
    add(from_name("cca-3v"), "", FIRST_TWO);
    let view = ViewConfig { ridge: 0.1, ..ViewConfig::default() };
    add(Recipe::Stated(MethodConfig::LabelRidge(LabelRidgeConfig { views: [view; 2] })), "ridge .1", FIRST_TWO);
    add(from_name("label-ridge"), "", FIRST_TWO);
    for (similarity, word) in [(Similarity::Cosine, "cosine"), (Similarity::CentredCosine, "centred cosine")] {
        let sm = SmConfig { similarity, ..SmConfig::default() };
        add(Recipe::CrossValidated(MethodConfig::Sm(sm)), word, FIRST_TWO);
        let scm = ScmConfig { similarity, ..ScmConfig::default() };
        let stated = ScmConfig { max_components: k, ..scm.clone() };
        add(Recipe::Stated(MethodConfig::Scm(stated)), &format!("{k} coordinates, C = 1, {word}"), FIRST_TWO);
        add(Recipe::CrossValidated(MethodConfig::Scm(scm)), word, FIRST_TWO);
    }
    for name in ["gmlda", "gmmfa"] {
        add(from_name(name), "", FIRST_TWO);
    }
    for name in LEARNED_BY_CLASS {
        add(on_cca(name), "", FIRST_TWO);
    }
    add(from_name("mvda"), "", Taken::All);
    let consistent = MvdaConfig { view_consistency: 1.0, ..MvdaConfig::default() };
    add(Recipe::CrossValidated(MethodConfig::Mvda(consistent)), "view consistency", Taken::All);
    for metric in [Metric::Cosine, Metric::InnerProduct] {
        let jfssl = JfsslConfig { metric, ..JfsslConfig::default() };
        add(Recipe::CrossValidated(MethodConfig::Jfssl(jfssl)), crate::protocol::metric_word(metric), FIRST_TWO);
    }
    add(from_name("lcfs"), "", FIRST_TWO);
    for bits in BITS {
        for (recipe, variant) in codes(task, bits) {
            entries.push(Entry { recipe, variant: variant.to_owned(), taken: FIRST_TWO, bits: Some(bits) });
        }
    }
    entries
}

/// What looks for correlation, with `k` coordinates: linearly with several ridges, by kernels, and with towers.
fn correlated(k: usize) -> Vec<Entry> {
    let entry = |recipe: Recipe, variant: String| Entry { recipe, variant, taken: FIRST_TWO, bits: None };
    let linear = |ridge: f64| {
        let views = [ViewConfig { ridge, ..ViewConfig::default() }; 2];
        let config = CcaConfig { views, max_components: k, correlation_power: 0.0 };
        entry(Recipe::Stated(MethodConfig::Cca(config)), format!("ridge {ridge}"))
    };
    let mut entries: Vec<Entry> = [1e-4, 1e-3, 1e-2, 1e-1, 1.0].map(linear).into();
    let kernel = geometry(Kernel::Rbf, None, 5000);
    let kernels = KccaConfig { kernels: [kernel; 2], kappa: 1e-3, max_components: k, ..KccaConfig::default() };
    entries.push(entry(Recipe::Stated(MethodConfig::Kcca(kernels)), "RBF, kappa 1e-3".to_owned()));
    // What is left out while learning protects the few pairs of other sets. Here rows are many, and the towers must bend soon: the epochs that rows set
    // aside are asked about end when some have brought nothing. A search for the linear start would choose it by what is found, not by correlation.
    let towers = TowerConfig {
        views: [ViewConfig { ridge: 1e-2, ..ViewConfig::default() }; 2],
        dim: k,
        hidden: 512,
        correlation_power: 0.0,
        input_dropout: 0.0,
        dropout: 0.0,
        learning_rate: 3e-3,
        ..TowerConfig::default()
    };
    // For correlation itself: a ridge that keeps weak axes weak, since whitened they are noise that hidden units learn by heart. It did best on the last fifth of the
    // training part of the halves.
    let strong = TowerConfig {
        views: [ViewConfig { ridge: 1.0, ..ViewConfig::default() }; 2],
        judge: Judge::Correlation,
        ..towers.clone()
    };
    let strong = DccaConfig { towers: strong, objective: Dcca { ridge: 0.1, ..Dcca::default() } };
    let deep = [
        MethodConfig::Dcca(DccaConfig { towers: towers.clone(), ..DccaConfig::default() }),
        MethodConfig::Dccae(DccaeConfig { towers: towers.clone(), ..DccaeConfig::default() }),
        MethodConfig::Dgcca(DgccaConfig { towers, ..DgccaConfig::default() }),
    ];
    entries.push(entry(
        Recipe::Stated(MethodConfig::Dcca(strong)),
        "ridge 1, 512 hidden units, nothing left out, judged by correlation".to_owned(),
    ));
    entries
        .extend(deep.map(|config| entry(Recipe::Stated(config), "ridge 0.01, 512 hidden units, nothing left out".to_owned())));
    entries
}

/// The hashing methods: those that the literature runs with stated weights as stated, and SePH with its kernel widths chosen by
/// cross-validation.
fn codes(task: &Task, bits: usize) -> Vec<(Recipe, &'static str)> {
    let of_bits = |name: &str| MethodConfig::from_name(name).expect("a method of the list").with_components(bits);
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
    let stated = ["cmssh", "dch", "hadamard", "cvh", "imh", "cmfh", "fsh", "cmssh-pairs", "ssh"];
    all.extend(stated.map(|name| (Recipe::Stated(of_bits(name)), "")));
    all.extend(LEARNED_CODES.map(|name| (Recipe::OnCca(of_bits(name)), "")));
    all.push(seph(DatabaseCodes::Posterior, "combined posteriors"));
    all.push(seph(DatabaseCodes::Learned, "learned codes"));
    all
}

/// A method from its defaults, its hyper-parameters chosen by cross-validation.
fn from_name(name: &str) -> Recipe {
    Recipe::CrossValidated(MethodConfig::from_name(name).expect("a method of the list"))
}

/// A method of towers from its defaults, which begins as `cca`.
fn on_cca(name: &str) -> Recipe {
    Recipe::OnCca(MethodConfig::from_name(name).expect("a method of the list"))
}

/// InfoNCE and triplets in the axes of Gaussian kernels, where the towers begin as kernel CCA instead of CCA. The ridges, the
/// rate and the share left out are those that did best on folds of the training photos. The first line tells what the beginning alone gives.
fn in_kernel_axes() -> Vec<(&'static str, MethodConfig)> {
    let kernel = geometry(Kernel::Rbf, None, 1000);
    let view = |ridge| ViewConfig { kernel: Some(kernel), pca_dim: Some(512), ridge, ..ViewConfig::default() };
    let towers =
        TowerConfig { views: [view(2e-3), view(1e-3)], learning_rate: 3e-4, input_dropout: 0.5, ..TowerConfig::default() };
    let infonce = InfoNceConfig { towers: towers.clone(), ..InfoNceConfig::default() };
    let untrained = InfoNceConfig { towers: TowerConfig { max_epochs: 0, ..towers.clone() }, ..InfoNceConfig::default() };
    let semi_hard = Triplet { negatives: Negatives::SemiHard, ..Triplet::default() };
    vec![
        ("axes of a kernel, no epoch", MethodConfig::InfoNce(untrained)),
        ("axes of a kernel", MethodConfig::InfoNce(infonce)),
        ("axes of a kernel", MethodConfig::Triplet(TripletConfig { towers, objective: semi_hard })),
    ]
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

/// A kernel over all rows up to so many, else over a thousand drawn at random; `gamma` by the median of distances where none is said.
fn geometry(kernel: Kernel, gamma: Option<f64>, max_exact_rows: usize) -> KernelConfig {
    KernelConfig {
        kernel,
        gamma,
        sharpness: 1.0,
        max_exact_rows,
        max_anchors: 1000,
        anchors: Anchors::Random,
        role: KernelRole::Geometry,
    }
}

fn chi_squared() -> MethodConfig {
    let kernel = geometry(Kernel::Chi2, Some(1.0), 5000);
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

#[cfg(test)]
mod tests {
    use chiasm_core::Labels;

    use super::*;
    use crate::task::Part;

    fn task(n_views: usize, labels: bool) -> Task {
        let part = Part {
            views: (0..n_views).map(|_| Vectors::new(vec![0.0; 8], 2).unwrap()).collect(),
            labels: labels.then(|| Labels::single(&[0, 1, 0, 1])),
            groups: None,
        };
        Task {
            key: "made",
            title: String::new(),
            protocol: String::new(),
            views: vec!["a", "b", "c"][..n_views].to_vec(),
            train: part.clone(),
            test: part,
            cca_components: 2,
            correlations: None,
        }
    }

    #[test]
    fn every_learned_method_stands_in_the_plan_on_what_cca_does_best_with() {
        let planned: Vec<&str> =
            plan(&task(2, true)).iter().filter(|entry| matches!(entry.recipe, Recipe::OnCca(_))).map(Entry::method).collect();
        for name in MethodConfig::names() {
            let learned = MethodConfig::from_name(name).unwrap().is_learned();
            assert_eq!(learned, planned.contains(name), "{name}");
        }
    }

    #[test]
    fn a_learned_method_meets_each_view_of_a_set_of_many_with_the_first() {
        let pairs: Vec<Taken> = plan(&task(3, false)).iter().filter(|e| e.method() == "infonce").map(|e| e.taken).collect();
        assert_eq!(pairs, [Taken::Pair([0, 1]), Taken::Pair([0, 2])]);
    }
}
