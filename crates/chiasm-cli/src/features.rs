//! Feature files on the command line: which rows belong together, what they belong to, and what was left out.

use std::collections::BTreeSet;

use chiasm_align::deep::generative::unpaired::{Unpaired, UnpairedMethod};
use chiasm_align::{FolderDraft, MethodConfig, Pairs, PipelineSpace, Run, Step};
use chiasm_bench::{Part, protocol, stream};
use chiasm_core::{Labels, SharedSpace, Vectors};
use chiasm_engine::{FeatureFit, FeatureSpace};
use chiasm_eval::features::{self, Features, Limits, Source};
use chiasm_eval::{EvalConfig, Report};
use clap::Args;

use crate::space::BindArgs;
use crate::ui::{Paint, Ui, count, duration, escape, hinted, usage};

/// What says which rows take part, for fitting and for queries.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RowArgs {
    /// Rows of a view from a feature file: .mat, .npy, .npz:ARRAY, .csv:2-129, .fvecs, HDF5, IDX; FILE:NAME' transposes. Views
    /// are paired row by row; of one NAME given twice the columns stand side by side (early fusion)
    #[arg(long = "view", value_name = "NAME=FILE[:WHAT]")]
    pub(crate) views: Vec<String>,
    /// Classes of the rows: a column, a vector, or a matrix of 0 and 1; several of a row separated by `|`
    #[arg(long, value_name = "FILE[:WHAT]", requires = "views")]
    pub(crate) labels: Option<String>,
    /// Thing that each row shows, where several rows show one (the five captions of a picture)
    #[arg(long, value_name = "FILE[:WHAT]", requires = "views")]
    pub(crate) groups: Option<String>,
    /// Leave out rows with NaN or an infinity in any view, instead of refusing the file
    #[arg(long, requires = "views")]
    pub(crate) drop_bad_rows: bool,
}

/// Rows as they were read.
pub(crate) struct Rows {
    pub(crate) names: Vec<String>,
    pub(crate) part: Part,
    /// For each view the widths of its blocks; one block but with early fusion.
    pub(crate) blocks: Vec<Vec<usize>>,
    /// What was found, and what was left out.
    pub(crate) said: Vec<String>,
}

impl RowArgs {
    /// Reads all that is named, and pairs it row by row.
    pub(crate) fn read(&self, ui: &Ui) -> anyhow::Result<Rows> {
        let limits = Limits::default();
        let mut names: Vec<String> = Vec::new();
        let mut files: Vec<(usize, Source, Features)> = Vec::new();
        for view in &self.views {
            let (name, source) = named(view)?;
            let place = names.iter().position(|n| n == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            ui.cancel.check()?;
            let features = features::read_features(&source, &limits)?;
            files.push((place, source, features));
        }
        let sources: Vec<(&Source, &Features)> = files.iter().map(|(_, source, features)| (source, features)).collect();
        if let Some(message) = features::mismatch_message(&sources) {
            anyhow::bail!(message);
        }
        let mut said: Vec<String> = files.iter().map(|(place, _, f)| format!("{}: {}", names[*place], f.found)).collect();
        let n = files.first().map_or(0, |(.., f)| f.n);
        let bad: BTreeSet<usize> = files.iter().flat_map(|(.., f)| f.bad_rows.iter().map(|b| b.row)).collect();
        if let Some((_, source, features)) = files.iter().find(|(.., f)| !f.bad_rows.is_empty())
            && !self.drop_bad_rows
        {
            let first = features.bad_rows[0];
            return Err(hinted(
                format!(
                    "{source}: row {}, column {} is {}; {} of {n} rows hold such numbers",
                    first.row + 1,
                    first.col + 1,
                    first.value,
                    bad.len()
                ),
                "leave these rows out of every view with `--drop-bad-rows`",
            ));
        }
        if !bad.is_empty() {
            said.push(format!(
                "left out {} with NaN or an infinity, the first row {}",
                count(bad.len(), "row"),
                bad.iter().next().map_or(0, |b| b + 1)
            ));
        }
        let kept: Vec<usize> = (0..n).filter(|row| !bad.contains(row)).collect();
        let (mut views, mut blocks) = (Vec::new(), Vec::new());
        for place in 0..names.len() {
            let parts: Vec<&Features> = files.iter().filter(|(p, ..)| *p == place).map(|(.., f)| f).collect();
            let row = |row: &usize| {
                parts.iter().flat_map(move |f| f.vectors[row * f.dim..(row + 1) * f.dim].iter().copied()).collect::<Vec<f32>>()
            };
            let data: Vec<f32> = kept.iter().flat_map(row).collect();
            let widths: Vec<usize> = parts.iter().map(|f| f.dim).collect();
            views.push(Vectors::new(data, widths.iter().sum())?);
            blocks.push(widths);
        }
        let mut read_labels = |text: &Option<String>, what: &str| -> anyhow::Result<Option<Labels>> {
            let Some(text) = text else { return Ok(None) };
            let source = Source::parse(text);
            let (labels, found) = features::read_labels(&source, &limits)?;
            if labels.n() != n {
                anyhow::bail!(
                    "{source} has {what} of {} rows, the views have {n}: are both of the same part of the set?",
                    labels.n()
                );
            }
            said.push(format!("{what}: {found}"));
            Ok(Some(labels.pick(&kept)))
        };
        let labels = read_labels(&self.labels, "labels")?;
        let groups = match read_labels(&self.groups, "groups")? {
            None => None,
            Some(groups) if groups.is_single() => Some((0..groups.n()).map(|row| groups.of(row)[0]).collect()),
            Some(_) => anyhow::bail!("--groups: every row needs exactly one group"),
        };
        Ok(Rows { names, part: Part { views, labels, groups }, blocks, said })
    }
}

/// How a space is fitted on feature files.
pub(crate) struct Fit<'a> {
    pub(crate) rows: &'a RowArgs,
    pub(crate) name: String,
    pub(crate) method: MethodConfig,
    pub(crate) folds: Option<usize>,
    pub(crate) seed: u64,
    pub(crate) draft: &'a FolderDraft,
}

/// Learns a space from feature files that are read block by block.
pub(crate) fn fit_streamed(request: Fit<'_>, ui: &Ui) -> anyhow::Result<FeatureSpace> {
    let limits = Limits::default();
    let (mut names, mut readers, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for view in &request.rows.views {
        let (name, source) = named(view)?;
        if names.iter().any(|known| known == name) {
            return Err(usage(format!(
                "--view {name} is given twice: early fusion needs the rows in memory, leave `--stream` out"
            )));
        }
        let reader = features::open_rows(&source, &limits)?;
        said.push(format!("{name}: {}, read in blocks", reader.found()));
        names.push(name.to_owned());
        readers.push(reader);
    }
    let labels = match &request.rows.labels {
        None => None,
        Some(text) => {
            let (labels, found) = features::read_labels(&Source::parse(text), &limits)?;
            said.push(format!("labels: {found}"));
            Some(labels)
        }
    };
    said.iter().for_each(|line| ui.remark(line));
    let run = Run { seed: request.seed, progress: ui, cancel: &ui.cancel, draft: None };
    let summed = stream::sum(&request.method, &mut readers, labels.as_ref(), request.rows.drop_bad_rows, &run)?;
    if summed.n_dropped > 0 {
        let line = format!("left out {} with NaN or an infinity", count(summed.n_dropped, "row"));
        ui.remark(&line);
        said.push(line);
    }
    let n_classes = labels.as_ref().map_or(0, Labels::n_classes);
    let fit = FeatureFit { name: request.name, views: names, method: request.method, folds: None, provenance: said };
    Ok(FeatureSpace::fit_moments(fit, &summed.moments, n_classes, &run)?)
}

/// Name and file of `NAME=FILE`.
fn named(view: &str) -> anyhow::Result<(&str, Source)> {
    match view.split_once('=').filter(|(name, source)| !name.is_empty() && !source.is_empty()) {
        Some((name, source)) => Ok((name, Source::parse(source))),
        None => Err(usage(format!("--view {view}: expected NAME=FILE, such as image=features.mat:I_tr"))),
    }
}

/// Learns a space from feature files.
pub(crate) fn fit(request: Fit<'_>, ui: &Ui) -> anyhow::Result<FeatureSpace> {
    let mut rows = request.rows.read(ui)?;
    rows.said.iter().for_each(|line| ui.remark(line));
    // Early fusion: each block about its mean and at unit length, so that none outweighs another by its scale.
    let mut before: Vec<Option<Vec<Step>>> = Vec::new();
    for (view, widths) in rows.part.views.iter_mut().zip(&rows.blocks) {
        if widths.len() < 2 {
            before.push(None);
            continue;
        }
        let mut mean = vec![0.0f64; view.dim()];
        view.rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x)));
        let mean = mean.iter().map(|m| (m / view.n().max(1) as f64) as f32).collect();
        let steps = vec![Step::Center { mean }, Step::UnitBlocks { widths: widths.clone() }];
        let through = PipelineSpace::new(
            chiasm_core::Metric::InnerProduct,
            vec![chiasm_align::View { input_dim: view.dim(), steps: steps.clone() }],
            chiasm_align::About::default(),
        )?;
        *view = through.project(0, view.view())?;
        before.push(Some(steps));
    }
    let fit = FeatureFit {
        name: request.name,
        views: rows.names.clone(),
        method: request.method,
        folds: request.folds,
        provenance: rows.said.clone(),
    };
    let run = Run { seed: request.seed, progress: ui, cancel: &ui.cancel, draft: Some(request.draft) };
    let mut space = FeatureSpace::fit(fit, &rows.part.pairs(), &run)?;
    for (v, steps) in before.into_iter().enumerate() {
        let Some(steps) = steps else { continue };
        let (n_views, width) = (space.projection.n_views(), rows.part.views[v].dim());
        let order: Vec<usize> = (0..n_views).map(|w| if w == v { n_views } else { w }).collect();
        space.projection = space.projection.with_view_through(v, width, steps)?.select_views(&order)?;
    }
    Ok(space)
}

/// Learns a space from two feature files of which no row is known to belong to another.
pub(crate) fn fit_unpaired(
    rows: &RowArgs,
    name: String,
    method: &UnpairedMethod,
    seed: u64,
    draft: &FolderDraft,
    ui: &Ui,
) -> anyhow::Result<FeatureSpace> {
    let wanted = || usage(format!("`{}` learns from two views: give --view NAME=FILE twice, with two names", method.name()));
    let mut read = Vec::new();
    for view in &rows.views {
        // Each by itself: rows of one have nothing to do with those of the other.
        read.push(RowArgs { views: vec![view.clone()], labels: None, groups: None, ..rows.clone() }.read(ui)?);
    }
    let [a, b] = &read[..] else { return Err(wanted()) };
    if a.names == b.names {
        return Err(wanted());
    }
    let said: Vec<String> = read.iter().flat_map(|rows| rows.said.clone()).collect();
    said.iter().for_each(|line| ui.remark(line));
    let views = Unpaired { views: [a.part.views[0].view(), b.part.views[0].view()] };
    let names = [a.names[0].clone(), b.names[0].clone()];
    let run = Run { seed, progress: ui, cancel: &ui.cancel, draft: Some(draft) };
    Ok(FeatureSpace::fit_unpaired(name, names, method, &views, said, &run)?)
}

/// Lets a view join a space of feature files.
pub(crate) fn bind(
    space: &FeatureSpace,
    args: &BindArgs,
    name: String,
    draft: &FolderDraft,
    ui: &Ui,
) -> anyhow::Result<FeatureSpace> {
    let has = || space.views.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    let Some(through) = space.view(args.through()) else {
        anyhow::bail!("--through {}: the space has the views {}", args.through(), has());
    };
    let rows = args.rows().read(ui)?;
    let wanted = || usage(format!("--view: expected two, `{}` of the space and a new one", args.through()));
    let stays = rows.names.iter().position(|name| name == args.through()).ok_or_else(wanted)?;
    let [new] = (0..rows.names.len()).filter(|view| *view != stays).collect::<Vec<_>>()[..] else { return Err(wanted()) };
    if rows.part.labels.is_some() {
        return Err(usage("--labels: a view is bound by pairs alone, leave it out"));
    }
    rows.said.iter().for_each(|line| ui.remark(line));
    let (method, folds, seed) = args.how();
    let views = [stays, new].map(|view| rows.part.views[view].view()).to_vec();
    let pairs = Pairs { views, groups: rows.part.groups.as_deref(), labels: None };
    let run = Run { seed, progress: ui, cancel: &ui.cancel, draft: Some(draft) };
    let method = MethodConfig::from_name(method)?;
    let mut bound = space.bind(&rows.names[new], through, &method, folds, &pairs, &run)?;
    bound.name = name;
    bound.report.provenance.extend(rows.said);
    Ok(bound)
}

/// What a space of feature files is, in some lines.
pub(crate) fn describe(space: &FeatureSpace, ui: &Ui) -> String {
    let report = &space.report;
    let mut text = format!("space        {}\n", ui.paint(Paint::Bold, &escape(&space.name)));
    text += &format!("fingerprint  {}\n", space.fingerprint());
    let dim = space.projection.dim();
    text += &match space.projection.n_bits() {
        Some(bits) => format!("codes        {bits} bits, closeness by Hamming distance\n"),
        None => format!("vectors      {dim} numbers, closeness by {}\n", space.projection.metric()),
    };
    for (v, name) in space.views.iter().enumerate() {
        text += &format!("{:<11}  {} numbers\n", escape(name), space.projection.input_dim(v).unwrap_or(0));
    }
    text +=
        &format!("method       {}, fitted on {} in {}", report.method, count(report.n_rows, "row"), duration(report.wall_s));
    text += &if report.n_classes > 0 { format!(" with labels of {} classes\n", report.n_classes) } else { "\n".to_owned() };
    let chosen: Vec<String> = report.parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    text += &format!("parameters   {}\n", escape(&chosen.join(", ")));
    let correlations = &space.projection.about().correlations;
    if !correlations.is_empty() {
        let shown: Vec<String> = correlations.iter().take(12).map(|c| format!("{c:.3}")).collect();
        let more = if correlations.len() > 12 { format!(" and {} more", correlations.len() - 12) } else { String::new() };
        text += &format!("correlations {}{more}\n", shown.join(" "));
    }
    for (name, balance) in space.views.iter().zip(&report.bit_balance) {
        let (mut low, mut high) = (1.0f64, 0.0f64);
        balance.iter().for_each(|b| (low, high) = (low.min(*b), high.max(*b)));
        let mean = balance.iter().sum::<f64>() / balance.len().max(1) as f64;
        text += &format!("bit balance  {}: ones {mean:.2} of a bit, {low:.2} to {high:.2}\n", escape(name));
    }
    for line in &report.provenance {
        text += &format!("from         {}\n", escape(line));
    }
    if !report.figures.is_empty() {
        let head = format!("on rows left out, {} folds; these figures chose the hyper-parameters", report.n_folds);
        text += &format!("{}\n", ui.paint(Paint::Dim, &head));
        text += &format!("{:<24} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9}\n", "", "MAP", "R@1", "R@5", "R@10", "queries", "among");
    }
    for f in &report.figures {
        let map = f.map.map_or("-".to_owned(), |map| format!("{map:.4}"));
        let [r1, r5, r10] = f.hits.map(|h| 100.0 * h);
        text += &format!(
            "{:<24} {map:>7} {r1:>7.1} {r5:>7.1} {r10:>7.1} {:>9} {:>9.0}\n",
            format!("{}->{}", escape(&f.query), escape(&f.item)),
            f.n_queries,
            f.n_gallery
        );
    }
    text
}

/// Reports of every direction between the views given, and what a reader must know.
pub(crate) fn evaluate(
    space: &FeatureSpace,
    queries: &RowArgs,
    gallery: Option<&RowArgs>,
    config: &EvalConfig,
    ui: &Ui,
) -> anyhow::Result<(Vec<Report>, Vec<String>)> {
    let (mut queries, mut remarks) = arranged(space, queries.read(ui)?, "--view")?;
    let mut gallery = match gallery {
        None => None,
        Some(rows) => {
            let (part, said) = arranged(space, rows.read(ui)?, "--gallery-view")?;
            remarks.extend(said.into_iter().map(|line| format!("gallery {line}")));
            Some(part)
        }
    };
    if let Some(gallery) = &mut gallery {
        match (&queries.labels, &gallery.labels) {
            (Some(a), Some(b)) => {
                let common = features::with_common_classes(&[a.clone(), b.clone()]).map_err(anyhow::Error::msg)?;
                let [a, b]: [Labels; 2] = common.try_into().expect("two in, two out");
                (queries.labels, gallery.labels) = (Some(a), Some(b));
            }
            _ if queries.groups.is_some() && gallery.groups.is_some() => {
                (queries.labels, gallery.labels) = (None, None);
            }
            _ => {
                return Err(usage(
                    "with a gallery of its own, nothing says what belongs together: give `--labels` and `--gallery-labels`, \
                     or `--groups` and `--gallery-groups`",
                ));
            }
        }
    }
    let names: Vec<&str> = space.views.iter().map(String::as_str).collect();
    let judged = protocol::judgements(&space.projection, &names, &queries, gallery.as_ref().unwrap_or(&queries), None)?;
    for one in judged.iter().filter(|j| j.radius_2.is_some()) {
        let [precision, recall, empty] = one.radius_2.unwrap_or_default();
        remarks.push(format!(
            "{}: within Hamming radius 2 precision {precision:.4}, recall {recall:.4}; {:.1} % of the queries find nothing there",
            one.direction.title,
            100.0 * empty
        ));
    }
    Ok((judged.iter().map(|j| j.direction.report(config)).collect(), remarks))
}

/// The rows with their views in the order of the space, all of which must be there.
fn arranged(space: &FeatureSpace, rows: Rows, option: &str) -> anyhow::Result<(Part, Vec<String>)> {
    let has = || space.views.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = rows.names.iter().find(|name| space.view(name).is_none()) {
        anyhow::bail!("{option} {unknown}: the space has the views {}", has());
    }
    let mut views = Vec::new();
    for (v, name) in space.views.iter().enumerate() {
        let Some(place) = rows.names.iter().position(|n| n == name) else {
            return Err(usage(format!("{option} {name}=... is missing: the space has the views {}", has())));
        };
        let (got, expected) = (rows.part.views[place].dim(), space.projection.input_dim(v).unwrap_or(0));
        if got != expected {
            anyhow::bail!("{option} {name}: {got} columns, the space was fitted on {expected} ({})", rows.said[place]);
        }
        views.push(rows.part.views[place].clone());
    }
    Ok((Part { views, ..rows.part }, rows.said))
}
