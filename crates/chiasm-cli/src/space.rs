//! `chiasm space`: learn a shared space from pairs, or look at one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chiasm_align::deep::generative::unpaired::UnpairedMethod;
use chiasm_align::{FolderDraft, MethodConfig};
use chiasm_core::{Modality, SharedSpace};
use chiasm_engine::{
    BindRequest, ClassNames, FeatureSpace, FitReport, FitRequest, SecondLookReport, Space, SpaceInfo, bind_space, fit_space,
};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};

use crate::ModelsArg;
use crate::draft::{LogArg, kept_and_logged};
use crate::features::{self, RowArgs};
use crate::second_look::{self, RerankArgs};
use crate::ui::{Paint, Ui, duration, escape, shown, usage};

/// `chiasm space ...`
#[derive(Subcommand)]
pub(crate) enum SpaceCommand {
    /// Learn a space from pairs, choosing its hyper-parameters by cross-validation
    Fit(Box<FitArgs>),
    /// Let one kind more join a space through a kind that it has; all that is in the space stays as it is
    Bind(Box<BindArgs>),
    /// Learn to put the first hits of a space in order by what is in the pictures and the words of the texts
    Rerank(Box<RerankArgs>),
    /// Write down the space that a model brings along, in which its towers meet (CLIP and its kin)
    OfModel(OfModelArgs),
    /// What a space file holds: views, method, figures
    Info(InfoArgs),
}

/// Arguments of `chiasm space of-model`.
#[derive(Args)]
pub(crate) struct OfModelArgs {
    /// The model: any of its names, or the path of its folder
    name: String,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    models: ModelsArg,
}

/// Arguments of `chiasm space bind`.
#[derive(Args)]
pub(crate) struct BindArgs {
    /// The space file
    space: PathBuf,
    /// The kind that the space has, or the name of its view, through which the new one joins
    #[arg(long, value_name = "KIND")]
    through: String,
    /// The new kind and its encoder, such as audio=yamnet
    #[arg(long, value_name = "KIND=NAME", required_unless_present = "views", conflicts_with = "views")]
    encoder: Option<String>,
    /// Table of what belongs together: CSV with a header, columns for the new kind and for the one that it joins through
    #[arg(long, value_name = "FILE", required_unless_present = "views", conflicts_with = "views")]
    pairs: Option<PathBuf>,
    /// Folder in which the table's paths begin [default: the table's own]
    #[arg(long, value_name = "DIR", requires = "pairs")]
    root: Option<PathBuf>,
    #[command(flatten)]
    rows: RowArgs,
    /// By which loss it is learned
    #[arg(long, value_name = "NAME", default_value = "infonce", value_parser = PossibleValuesParser::new(chiasm_align::deep::bind::METHODS))]
    method: String,
    /// Folds over which rows left out are searched, so that figures can be told; 0 for none
    #[arg(long, value_name = "N", default_value_t = 5)]
    folds: u16,
    /// Decides every random choice: the same seed and pairs give the same space
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Name kept in the file [default: the file's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    log: LogArg,
    #[command(flatten)]
    models: ModelsArg,
}

/// Arguments of `chiasm space fit`.
#[derive(Args)]
pub(crate) struct FitArgs {
    /// Encoder for pictures, as `chiasm model list` names it, or a path
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Encoder for texts
    #[arg(long, value_name = "NAME")]
    text: Option<String>,
    /// Encoder for sounds; one of classes (`yamnet:classes`) joins through text without pairs
    #[arg(long, value_name = "NAME")]
    audio: Option<String>,
    /// Encoder for sensor series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
    /// Encoder for videos; without one they are found through their frames where there is one for pictures
    #[arg(long, value_name = "NAME")]
    video: Option<String>,
    /// Encoder for shapes; without one they are found through pictures of them where there is one for pictures
    #[arg(long, value_name = "NAME")]
    shape: Option<String>,
    /// Table of what belongs together: CSV with a header of image, text or caption, audio, series, video, shape
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Folder in which the table's paths begin [default: the table's own]
    #[arg(long, visible_alias = "root", value_name = "DIR")]
    images: Option<PathBuf>,
    #[command(flatten)]
    rows: RowArgs,
    /// How the bridge is learned, see `docs/methods.md`
    #[arg(long, value_parser = PossibleValuesParser::new(methods()), hide_possible_values = true)]
    method: String,
    /// Folds of the cross-validation that chooses hyper-parameters [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    folds: Option<u16>,
    /// Coordinates of the space at most, or bits of a code [default: the method's]
    #[arg(long, visible_alias = "bits", value_name = "N", requires = "views", value_parser = clap::value_parser!(u32).range(1..))]
    components: Option<u32>,
    /// Take the method's hyper-parameters as they are, without cross-validation
    #[arg(long, requires = "views", conflicts_with = "folds")]
    no_search: bool,
    /// Read the files block by block, in memory that does not grow with the rows; for cca, mcca, gcca, pls, ridge, procrustes, cca-3v,
    /// label-ridge, cvh, ssh and scm-orth
    #[arg(long, requires = "no_search", conflicts_with = "groups")]
    stream: bool,
    /// Decides every random choice: the same seed and pairs give the same space
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Which part of a class's name is embedded, where a view joins through its classes
    #[arg(long, value_enum, value_name = "PART", default_value_t)]
    class_names: Part,
    /// Name kept in the file [default: the file's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    log: LogArg,
    #[command(flatten)]
    models: ModelsArg,
}

/// The methods, each a file of `chiasm-align`.
fn methods() -> Vec<&'static str> {
    MethodConfig::names().iter().copied().chain(["conse"]).chain(UnpairedMethod::NAMES).collect()
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Part {
    /// The mean of all synonyms
    #[default]
    All,
    /// The first synonym
    First,
    /// The list as it stands
    Whole,
}

/// Arguments of `chiasm space info`.
#[derive(Args)]
pub(crate) struct InfoArgs {
    /// A space file, or a re-ranker's
    file: PathBuf,
    #[command(flatten)]
    models: ModelsArg,
}

/// `chiasm space ...`
pub(crate) fn run(command: &SpaceCommand, ui: &Ui) -> anyhow::Result<ExitCode> {
    match command {
        SpaceCommand::Fit(args) => {
            let what = format!("{} to {}, seed {}", args.method, args.output.display(), args.seed);
            kept_and_logged(&args.output, &args.log, &what, ui, |draft| fit(args, draft, ui))
        }
        SpaceCommand::Bind(args) => {
            let what = format!("binding by {} to {}, seed {}", args.method, args.output.display(), args.seed);
            kept_and_logged(&args.output, &args.log, &what, ui, |draft| bind(args, draft, ui))
        }
        SpaceCommand::Rerank(args) => {
            let what = format!("re-ranking by {} to {}, seed {}", args.method, args.output.display(), args.seed);
            kept_and_logged(&args.output, &args.log, &what, ui, |draft| second_look::run(args, draft, ui))
        }
        SpaceCommand::OfModel(args) => of_model(args, ui),
        SpaceCommand::Info(args) => info(args, ui),
    }
}

fn of_model(args: &OfModelArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let space = Space::of_model(&args.name, &args.models.dirs())?;
    space.save(&args.output)?;
    let described = space.describe();
    if ui.json {
        ui.print_json(&described)?;
    } else {
        let kinds: Vec<&str> = described.views.iter().map(|view| view.modality.as_str()).collect();
        ui.print(format!("{}: {} numbers, {}\n", shown(&args.output), described.dim, kinds.join(" and ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn fit(args: &FitArgs, draft: &FolderDraft, ui: &Ui) -> anyhow::Result<ExitCode> {
    let encoders = [
        (Modality::Image, &args.image),
        (Modality::Text, &args.text),
        (Modality::Audio, &args.audio),
        (Modality::Series, &args.series),
        (Modality::Video, &args.video),
        (Modality::Shape, &args.shape),
    ];
    let method = args.method.as_str();
    if let Some(method) = UnpairedMethod::from_name(method) {
        return fit_unpaired(args, method, draft, ui);
    }
    if !args.rows.views.is_empty() {
        return fit_on_features(args, draft, ui);
    }
    if args.pairs.is_none() && method != "conse" {
        return Err(usage(format!(
            "`--method {method}` learns from pairs: give them with `--pairs FILE`, or use `--method conse`"
        )));
    }
    let beside = || args.pairs.as_deref().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let request = FitRequest {
        name: args.name.clone().unwrap_or_else(|| stem(&args.output)),
        encoders: encoders.into_iter().filter_map(|(m, name)| Some((m, name.clone()?))).collect(),
        method: method.to_owned(),
        pairs: args.pairs.clone(),
        root: args.images.clone().unwrap_or_else(beside),
        folds: args.folds.map(usize::from),
        seed: args.seed,
        class_names: match args.class_names {
            Part::All => ClassNames::AllSynonyms,
            Part::First => ClassNames::First,
            Part::Whole => ClassNames::Whole,
        },
    };
    let outcome = fit_space(&request, &args.models.dirs(), ui, &ui.cancel, Some(draft))?;
    write_and_tell(&outcome.space, &args.output, ui)
}

/// Writes a space and says what it is.
fn write_and_tell(space: &Space, output: &Path, ui: &Ui) -> anyhow::Result<ExitCode> {
    space.save(output)?;
    let described = space.describe();
    if ui.json {
        let file = output.to_string_lossy();
        ui.print_json(&serde_json::json!({ "file": file, "space": described }))?;
        return Ok(ExitCode::SUCCESS);
    }
    ui.print(describe(&described, ui))?;
    ui.print(format!("written to   {}\n", shown(output)))?;
    ui.hint(format!("index a folder in it: `chiasm index DIR --space {}`", shown(output)));
    Ok(ExitCode::SUCCESS)
}

fn bind(args: &BindArgs, draft: &FolderDraft, ui: &Ui) -> anyhow::Result<ExitCode> {
    let name = args.name.clone().unwrap_or_else(|| stem(&args.output));
    let of_features = FeatureSpace::load(&args.space)?;
    let (Some(encoder), Some(pairs)) = (&args.encoder, &args.pairs) else {
        let Some(space) = of_features else {
            return Err(usage(format!(
                "{} was fitted with encoders: name the new kind's with `--encoder KIND=NAME`, and give `--pairs FILE` in place of `--view`",
                shown(&args.space)
            )));
        };
        let bound = features::bind(&space, args, name, draft, ui)?;
        return write_features_and_tell(&bound, &args.output, ui);
    };
    if of_features.is_some() {
        return Err(usage(format!(
            "{} was fitted on feature files: give rows of both views with `--view NAME=FILE` in place of `--encoder` and `--pairs`",
            shown(&args.space)
        )));
    }
    let Some((kind, encoder)) = encoder.split_once('=') else {
        return Err(usage(format!("--encoder {encoder}: expected KIND=NAME, such as audio=yamnet")));
    };
    let space = Space::load(&args.space, &args.models.dirs())?;
    let request = BindRequest {
        name,
        through: args.through.parse::<Modality>().map_err(|e| usage(format!("--through: {e}")))?,
        encoder: (kind.parse::<Modality>().map_err(|e| usage(format!("--encoder: {e}")))?, encoder.to_owned()),
        method: args.method.clone(),
        pairs: pairs.clone(),
        root: args.root.clone().unwrap_or_else(|| pairs.parent().map(Path::to_owned).unwrap_or_default()),
        folds: usize::from(args.folds),
        seed: args.seed,
    };
    let outcome = bind_space(&space, &request, &args.models.dirs(), ui, &ui.cancel, Some(draft))?;
    write_and_tell(&outcome.space, &args.output, ui)
}

impl BindArgs {
    /// The rows of both views.
    pub(crate) fn rows(&self) -> &RowArgs {
        &self.rows
    }

    /// The view that stays.
    pub(crate) fn through(&self) -> &str {
        &self.through
    }

    /// How it is learned: method, folds, seed.
    pub(crate) fn how(&self) -> (&str, usize, u64) {
        (&self.method, usize::from(self.folds), self.seed)
    }
}

fn fit_unpaired(args: &FitArgs, method: UnpairedMethod, draft: &FolderDraft, ui: &Ui) -> anyhow::Result<ExitCode> {
    let encoders = [&args.image, &args.text, &args.audio, &args.series, &args.video, &args.shape];
    let name = method.name();
    if args.rows.views.is_empty() || args.pairs.is_some() || encoders.iter().any(|encoder| encoder.is_some()) {
        return Err(usage(format!(
            "`{name}` learns from rows that are not paired: give two feature files with `--view NAME=FILE`, and neither encoders nor `--pairs`"
        )));
    }
    if args.rows.labels.is_some() || args.rows.groups.is_some() || args.folds.is_some() || args.stream {
        return Err(usage(format!("`{name}` knows of no pairs: leave `--labels`, `--groups`, `--folds` and `--stream` out")));
    }
    let method = match args.components {
        Some(n) => method.with_components(n as usize),
        None => method,
    };
    let called = args.name.clone().unwrap_or_else(|| stem(&args.output));
    let space = features::fit_unpaired(&args.rows, called, &method, args.seed, draft, ui)?;
    write_features_and_tell(&space, &args.output, ui)
}

fn fit_on_features(args: &FitArgs, draft: &FolderDraft, ui: &Ui) -> anyhow::Result<ExitCode> {
    if args.pairs.is_some() || [&args.image, &args.text, &args.audio, &args.series, &args.video].iter().any(|e| e.is_some()) {
        return Err(usage("--view takes rows as they are: leave out the encoders and `--pairs`, or leave out `--view`"));
    }
    if args.method == "conse" {
        return Err(usage("`conse` needs a classifier and a text encoder: give them with `--image NAME:classes --text NAME`"));
    }
    let method = MethodConfig::from_name(&args.method)?;
    let request = features::Fit {
        rows: &args.rows,
        name: args.name.clone().unwrap_or_else(|| stem(&args.output)),
        method: match args.components {
            Some(n) => method.with_components(n as usize),
            None => method,
        },
        folds: (!args.no_search).then(|| args.folds.map_or(5, usize::from)),
        seed: args.seed,
        draft,
    };
    let space = if args.stream { features::fit_streamed(request, ui)? } else { features::fit(request, ui)? };
    write_features_and_tell(&space, &args.output, ui)
}

/// Writes a space of feature files and says what it is.
fn write_features_and_tell(space: &FeatureSpace, output: &Path, ui: &Ui) -> anyhow::Result<ExitCode> {
    space.save(output)?;
    let file = shown(output);
    if ui.json {
        ui.print_json(&json_of(space))?;
    } else {
        ui.print(features::describe(space, ui))?;
        ui.print(format!("written to   {file}\n"))?;
        let views: Vec<String> = space.views.iter().map(|view| format!("--view {view}=FILE")).collect();
        ui.hint(format!("try it on rows it has not seen: `chiasm eval --space {file} {}`", views.join(" ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// A space of feature files as JSON.
fn json_of(space: &FeatureSpace) -> serde_json::Value {
    serde_json::json!({
        "name": space.name,
        "fingerprint": space.fingerprint(),
        "metric": space.projection.metric().as_str(),
        "dim": space.projection.dim(),
        "bits": space.projection.n_bits(),
        "views": space.views,
        "input_dims": (0..space.views.len()).map(|v| space.projection.input_dim(v)).collect::<Vec<_>>(),
        "correlations": space.projection.about().correlations,
        "report": space.report,
    })
}

pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "space".to_owned(), |s| s.to_string_lossy().into_owned())
}

fn info(args: &InfoArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    if let Some(report) = SecondLookReport::load(&args.file)? {
        return if ui.json {
            ui.print_json(&serde_json::json!({ "rerank": report, "helps": report.helps() })).map(|()| ExitCode::SUCCESS)
        } else {
            ui.print(second_look::describe(&stem(&args.file), &report, ui))?;
            Ok(ExitCode::SUCCESS)
        };
    }
    if let Some(space) = FeatureSpace::load(&args.file)? {
        return if ui.json {
            ui.print_json(&json_of(&space)).map(|()| ExitCode::SUCCESS)
        } else {
            ui.print(features::describe(&space, ui))?;
            Ok(ExitCode::SUCCESS)
        };
    }
    let described = Space::load(&args.file, &args.models.dirs())?.describe();
    if ui.json {
        ui.print_json(&described)?;
    } else {
        ui.print(describe(&described, ui))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A space in some lines.
pub(crate) fn describe(space: &SpaceInfo, ui: &Ui) -> String {
    let mut text = format!("space        {}\n", ui.paint(Paint::Bold, &escape(&space.name)));
    text += &format!("fingerprint  {}\n", space.fingerprint);
    text += &format!("vectors      {} numbers, closeness by {}\n", space.dim, space.metric);
    for view in &space.views {
        text += &format!("{:<11}  {} ({} numbers)\n", view.modality, escape(&view.encoder), view.input_dim);
    }
    if let Some(report) = &space.report {
        text += &describe_report(report, ui);
    }
    text
}

fn describe_report(report: &FitReport, ui: &Ui) -> String {
    let mut text = format!("method       {}", report.method);
    if report.n_pairs > 0 {
        text += &format!(", fitted on {} pairs of {} things in {}", report.n_pairs, report.n_groups, duration(report.wall_s));
    }
    text.push('\n');
    let chosen: Vec<String> = report.parameters.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if !chosen.is_empty() {
        text += &format!("parameters   {}\n", escape(&chosen.join(", ")));
    }
    if !report.correlations.is_empty() {
        let shown: Vec<String> = report.correlations.iter().take(12).map(|c| format!("{c:.3}")).collect();
        let more = report.correlations.len().saturating_sub(12);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text += &format!("correlations {}{more}\n", shown.join(" "));
    }
    for line in report.views.iter().filter(|line| line.contains("through")) {
        text += &format!("joins        {}\n", escape(line));
    }
    for (reason, n) in &report.dropped {
        text += &format!("left out     {n} lines: {}\n", escape(reason));
    }
    if !report.figures.is_empty() {
        let head = format!("on rows left out, {} folds; beside each figure what chance would give", report.n_folds);
        text += &format!("{}\n", ui.paint(Paint::Dim, &head));
        text += &format!("{:<16} {:>14} {:>14} {:>14} {:>9} {:>9}\n", "", "R@1", "R@5", "R@10", "queries", "among");
    }
    for f in &report.figures {
        // A thing may stand in the gallery several times over, as a picture's five captions do.
        let n_things = report.n_groups as f64 / report.n_folds.max(1) as f64;
        let chance = |k| chance_of_hit(k, f.n_gallery, f.n_gallery / n_things.max(1.0));
        let cell = |r: f64, k: u32| format!("{:>5.1} ({:>4.1})", 100.0 * r, 100.0 * chance(k));
        text += &format!(
            "{:<16} {:>14} {:>14} {:>14} {:>9} {:>9.0}\n",
            format!("{}->{}", f.query, f.item),
            cell(f.r_at_1, 1),
            cell(f.r_at_5, 5),
            cell(f.r_at_10, 10),
            f.n_queries,
            f.n_gallery,
        );
    }
    text
}

/// Probability that a random order of `n` items has one of `n_relevant` among its first `k`.
fn chance_of_hit(k: u32, n: f64, n_relevant: f64) -> f64 {
    let missed: f64 = (0..k).map(|i| ((n - n_relevant - f64::from(i)) / (n - f64::from(i)).max(1.0)).clamp(0.0, 1.0)).product();
    1.0 - missed
}
