//! `chiasm bench`: results tables under one protocol, and timings beside reference implementations.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use chiasm_align::{Draft, FolderDraft, Run};
use chiasm_bench::data::{self, KEYS, Place};
use chiasm_bench::markdown::{self, Section};
use chiasm_bench::plot::{self, Axes, Line};
use chiasm_bench::rivals::Rivals;
use chiasm_bench::{BenchError, Database, Outcome, align, plan, protocol};
use chiasm_core::{NoProgress, Progress};
use clap::{Args, Subcommand};

use crate::ModelsArg;
use crate::draft::kept;
use crate::ui::{Ui, usage};

/// `chiasm bench ...`
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Every bridge on every set: MAP, R@K, intervals, published figures, time and memory
    Tables(TablesArgs),
    /// How long fits take beside numpy, scikit-learn and cca-zoo on the same arrays
    Align(AlignArgs),
    /// How fast encoders run beside onnxruntime, OpenVINO and torch on the same weights
    Encode(EncodeArgs),
    /// How fast a folder of photos is indexed beside rclip, clip-retrieval and open_clip, from the files to what is stored
    Index(IndexArgs),
    /// How fast nearest neighbours are found at which recall, beside faiss, hnswlib, usearch, ScaNN and SVS
    Ann(AnnArgs),
    /// Models that look at the parts of photos and captions, and queries of two captions, beside bridges of single vectors
    Parts(PartsArgs),
    /// How fast towers are trained beside PyTorch
    Train(TrainArgs),
    /// What a served library costs above the search itself, under a crowd, while it is filled, and when it is killed
    Serve(crate::bench_serve::ServeArgs),
    /// A contestant of `bench encode`, which starts it
    #[command(hide = true)]
    EncodeWorker(EncodeWorkerArgs),
    /// A contestant of `bench ann`, which starts it
    #[command(hide = true)]
    AnnWorker(AnnWorkerArgs),
}

/// Arguments of `chiasm bench train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    /// Python that has torch [default: ours alone]; `reference/bench_train_rivals.py` says which
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Threads of both
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Turns of each; the best is shown
    #[arg(long, value_name = "N", default_value_t = 5)]
    turns: usize,
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of `chiasm bench ann`.
#[derive(Args)]
pub(crate) struct AnnArgs {
    /// Folder with base.f32, query_ood.f32, query_id.f32 and perhaps train.f32, gt_ood.i32, gt_id.i32; may be given again [default: vectors
    /// are made]
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// Numbers per vector in these folders
    #[arg(long, value_name = "N", default_value_t = chiasm_bench::ann::world::DIM)]
    dim: usize,
    /// Vectors to make, a section of the table each
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "50000,200000", conflicts_with = "data")]
    rows: Vec<usize>,
    /// Decides the made vectors
    #[arg(long, value_name = "N", default_value_t = 7, conflicts_with = "data")]
    seed: u64,
    /// Measure instead how the index of cells fares at these sizes, without peers: speed against size, insertions, filters, half of it replaced
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with_all = ["data", "python", "rivals", "curves"])]
    growth: Vec<usize>,
    /// Python that has the peers [default: ours alone]; `reference/bench_ann_rivals.py` says which
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Only these peers: a library (faiss, hnswlib, usearch, scann, svs) or one of its indexes, as the table calls it [default: all]
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    rivals: Vec<String>,
    /// Only these of ours, as the table calls them [default: all]
    #[arg(long, value_name = "INDEX", value_delimiter = ',')]
    ours: Vec<String>,
    /// One index after the other, each ended before the next begins: for as many vectors as memory holds once or twice
    #[arg(long)]
    apart: bool,
    /// Threads of searches; indexes are built with the first
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Turns of each contestant; the least of them is shown
    #[arg(long, value_name = "N", default_value_t = 3)]
    turns: usize,
    /// Recalls at which speeds are shown
    #[arg(long, value_name = "RECALL", value_delimiter = ',', default_value = "0.9,0.95,0.99")]
    recalls: Vec<f64>,
    /// How long one build or search may take
    #[arg(long, value_name = "SECONDS", default_value_t = 7200)]
    limit: u64,
    /// Folder for made vectors while they are needed, 2 KB each [default: the system's]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Folder for plots of speed against recall [default: none are drawn]
    #[arg(long, value_name = "DIR")]
    curves: Option<PathBuf>,
    /// File for the document [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of a contestant of `bench ann`.
#[derive(Args)]
pub(crate) struct AnnWorkerArgs {
    contestant: String,
    dim: usize,
    threads: usize,
    base: PathBuf,
    /// `-` where there is none
    sample: PathBuf,
    queries: Vec<PathBuf>,
}

/// Arguments of `chiasm bench encode`.
#[derive(Args)]
pub(crate) struct EncodeArgs {
    /// Python that makes the models and has the rivals; `reference/bench_encode_rivals.py` says which
    #[arg(long, value_name = "PYTHON")]
    python: PathBuf,
    /// Only these models [default: ViT-B-32,ViT-B-16,ViT-L-14,CLIP-text,MiniLM,AST]
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    models: Vec<String>,
    /// Threads
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Turns of each contestant; the least of them is shown
    #[arg(long, value_name = "N", default_value_t = 3)]
    turns: usize,
    /// Folder for the models while they are needed, up to 4 GB [default: the system's]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// File for the document [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of `chiasm bench index`.
#[derive(Args)]
pub(crate) struct IndexArgs {
    /// Folder of JPEG photos, of which the files are made
    #[arg(long, value_name = "DIR")]
    photos: PathBuf,
    /// Python that makes the model and has the rivals; `reference/bench_index_rivals.py` says which
    #[arg(long, value_name = "PYTHON")]
    python: PathBuf,
    /// Different files to index
    #[arg(long, value_name = "N", default_value_t = 2000)]
    files: usize,
    /// Enlarge the photos to so many pixels along the longer edge
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    side: u32,
    /// Deviation of the noise that enlarged photos get, as a camera's have
    #[arg(long, value_name = "STEPS", default_value_t = 0.0)]
    noise: f64,
    /// Turns of each contestant; the least of them is shown
    #[arg(long, value_name = "N", default_value_t = 1)]
    turns: usize,
    /// Folder for model, files and libraries while they are needed, 2 GB and the files [default: the system's]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// File for the document [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of the contestant.
#[derive(Args)]
pub(crate) struct EncodeWorkerArgs {
    folder: PathBuf,
    precision: String,
}

/// Arguments of `chiasm bench align`.
#[derive(Args)]
pub(crate) struct AlignArgs {
    /// Python that has the rivals [default: ours alone]; `reference/bench_align_rivals.py` says which
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Only sets of 2,000 rows
    #[arg(long)]
    small: bool,
    /// Only these methods [default: all]
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<String>,
    /// Folder for the arrays while they are needed, up to 1 GB [default: the system's]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// File for the document [default: stdout]; a plot is written beside it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Arguments of `chiasm bench tables`.
#[derive(Args)]
pub(crate) struct TablesArgs {
    /// Folder that holds the sets
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only these sets [default: all that are there]
    #[arg(long, value_name = "SET", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these methods [default: all]
    #[arg(long, value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<String>,
    /// Only these numbers of bits [default: 16,32,64,128]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    bits: Vec<usize>,
    /// Decides every random choice of the methods
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Fit methods that draw lots with so many seeds, this one and those that follow; means and deviations are told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    seeds: u8,
    /// Also tell what each method reaches on five folds of the training part: takes five more fits of each
    #[arg(long)]
    folds: bool,
    /// File for the document [default: stdout]; plots are written beside it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    models: ModelsArg,
}

impl TablesArgs {
    /// The command that makes the document again.
    fn command(&self) -> String {
        let list = |name: &str, words: &[String]| {
            if words.is_empty() { String::new() } else { format!(" --{name} {}", words.join(",")) }
        };
        let bits: Vec<String> = self.bits.iter().map(usize::to_string).collect();
        let narrowed = [list("only", &self.only), list("methods", &self.methods), list("bits", &bits)].concat();
        let seed = if self.seed == 0 { String::new() } else { format!(" --seed {}", self.seed) };
        let seeds = if self.seeds == 1 { String::new() } else { format!(" --seeds {}", self.seeds) };
        let folds = if self.folds { " --folds" } else { "" };
        format!("chiasm bench tables --data DIR{narrowed}{seed}{seeds}{folds} --output FILE")
    }
}

/// Arguments of `chiasm bench parts`.
#[derive(Args)]
pub(crate) struct PartsArgs {
    /// Folder that holds the set `flickr8k`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Decides every random choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Fit with so many seeds, this one and those that follow; means and deviations are told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    seeds: u8,
    /// Leave the test part alone: learn from five sixths of the training part and try the rest
    #[arg(long)]
    train_only: bool,
    /// File for the document [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    models: ModelsArg,
}

/// `chiasm bench ...`
pub(crate) fn run(command: &BenchCommand, ui: &Ui) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Tables(args) => tables(args, ui),
        BenchCommand::Align(args) => align(args, ui),
        BenchCommand::Encode(args) => encode(args, ui),
        BenchCommand::Index(args) => index(args, ui),
        BenchCommand::Ann(args) => ann(args, ui),
        BenchCommand::Train(args) => train(args, ui),
        BenchCommand::Parts(args) => parts(args, ui),
        BenchCommand::Serve(args) => crate::bench_serve::run(args, ui),
        BenchCommand::AnnWorker(args) => {
            use chiasm_bench::ann::Files;
            use chiasm_bench::ann::ours::{Worker, serve};

            let sample = Some(args.sample.clone()).filter(|path| path != Path::new("-"));
            let files = Files { base: args.base.clone(), sample, queries: args.queries.clone() };
            let worker = Worker::new(&args.contestant, args.dim, args.threads, files)?;
            serve(worker, &mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
        BenchCommand::EncodeWorker(args) => {
            chiasm_bench::encode::serve(
                &args.folder,
                &args.precision,
                &mut std::io::stdin().lock(),
                &mut std::io::stdout().lock(),
            )?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn index(args: &IndexArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    use chiasm_bench::index::{Plan, document, run};

    if args.turns == 0 || args.files <= 32 {
        return Err(usage("turns begin at 1 and files at 33: 32 tell what starting takes".to_owned()));
    }
    let plan = Plan {
        photos: args.photos.clone(),
        n_files: args.files,
        side: args.side,
        noise: args.noise,
        turns: args.turns,
        python: args.python.clone(),
        program: std::env::current_exe().context("cannot find this program's own file")?,
    };
    let timings = in_scratch(args.scratch.as_deref(), "index", |folder| run(&plan, folder, ui, &ui.cancel))??;
    if ui.json {
        ui.print_json(&timings)?;
    }
    let given = |name: &str, value: f64| if value == 0.0 { String::new() } else { format!(" --{name} {value}") };
    let sizes = [given("side", f64::from(args.side)), given("noise", args.noise)].concat();
    let command = format!(
        "chiasm bench index --photos DIR --python PYTHON --files {}{sizes} --turns {} --output FILE",
        args.files, args.turns
    );
    give(document(&timings, &plan, &command), args.output.as_deref(), ui)?;
    Ok(ExitCode::SUCCESS)
}

fn train(args: &TrainArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    use chiasm_bench::train::{Plan, document, run};

    if args.turns == 0 || args.threads.contains(&0) {
        return Err(usage("turns and threads begin at 1".to_owned()));
    }
    let plan = Plan { threads: args.threads.clone(), turns: args.turns, python: args.python.clone() };
    let timings = in_scratch(None, "train", |folder| run(&plan, folder, ui, &ui.cancel))??;
    if ui.json {
        ui.print_json(&timings)?;
    }
    let command = format!("chiasm bench train --python PYTHON --turns {} --output FILE", args.turns);
    give(document(&timings, &plan, &command), args.output.as_deref(), ui)?;
    Ok(ExitCode::SUCCESS)
}

fn ann(args: &AnnArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    use chiasm_bench::ann::run;

    if !args.growth.is_empty() {
        return growth(args, ui);
    }
    let plan = ann_plan(args)?;
    let mut written = Ok(());
    let sections = in_scratch(args.scratch.as_deref(), "ann", |folder| {
        run(&plan, folder, ui, &ui.cancel, &mut |sections| written = write_ann(args, sections, ui))
    })??;
    written?;
    if ui.json {
        ui.print_json(&sections)?;
    } else if args.output.is_none() {
        ui.print(ann_document(args, &sections, &[]))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn growth(args: &AnnArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    use chiasm_bench::ann::growth::{document, run};

    /// The recall that each size is tuned for.
    const RECALL: f64 = 0.95;
    if let Some(few) = args.growth.iter().find(|rows| **rows < chiasm_bench::ann::data::DEPTH) {
        return Err(usage(format!("{few} rows: at least {} are needed", chiasm_bench::ann::data::DEPTH)));
    }
    let grown =
        in_scratch(args.scratch.as_deref(), "ann", |folder| run(&args.growth, args.seed, RECALL, folder, ui, &ui.cancel))??;
    if ui.json {
        ui.print_json(&grown)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sizes = args.growth.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    give(
        document(&grown, &format!("chiasm bench ann --growth {sizes} --seed {} --output FILE", args.seed)),
        args.output.as_deref(),
        ui,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the document and the plots, where they are asked for.
fn write_ann(args: &AnnArgs, sections: &[chiasm_bench::ann::Section], ui: &Ui) -> anyhow::Result<()> {
    let mut curves = Vec::new();
    if let Some(folder) = &args.curves {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (name, what, plot) in chiasm_bench::ann::document::plots(sections) {
            let file = folder.join(&name);
            fs::write(&file, plot).with_context(|| format!("cannot write {}", file.display()))?;
            // As the document, which stands elsewhere or in the folder itself, names it.
            let beside = args.output.as_deref().and_then(Path::parent).and_then(|place| file.strip_prefix(place).ok());
            curves.push((what, beside.unwrap_or(&file).to_string_lossy().replace('\\', "/")));
        }
    }
    match &args.output {
        Some(path) => give(ann_document(args, sections, &curves), Some(path), ui),
        None => Ok(()),
    }
}

fn ann_document(args: &AnnArgs, sections: &[chiasm_bench::ann::Section], curves: &[(String, String)]) -> String {
    let list = |values: &[usize]| values.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let source = match args.data.len() {
        0 => format!("--rows {} --seed {}", list(&args.rows), args.seed),
        n => vec!["--data DIR"; n].join(" "),
    };
    let python = if args.python.is_some() { " --python PYTHON" } else { "" };
    let peers = if args.rivals.is_empty() { String::new() } else { format!(" --rivals {}", args.rivals.join(",")) };
    let ours = if args.ours.is_empty() { String::new() } else { format!(" --ours {}", args.ours.join(",")) };
    let apart = if args.apart { " --apart" } else { "" };
    let threads = list(&args.threads);
    let command = format!(
        "chiasm bench ann {source}{python}{peers}{ours}{apart} --threads {threads} --turns {} --output FILE",
        args.turns
    );
    chiasm_bench::ann::document::document(sections, &args.recalls, &command, curves)
}

/// The plan that the arguments ask for.
fn ann_plan(args: &AnnArgs) -> anyhow::Result<chiasm_bench::ann::Plan> {
    use chiasm_bench::ann::{PEERS, Plan, Source, data::DEPTH, ours::OURS};

    let library = |peer: &'static str| peer.split('-').next().unwrap_or(peer);
    // A word that is both, as `scann` is, means the peer.
    let wanted = |word: &str, peer: &'static str| word == peer || !PEERS.contains(&word) && word == library(peer);
    if let Some(unknown) = args.rivals.iter().find(|word| !PEERS.iter().any(|peer| wanted(word, peer))) {
        return Err(usage(format!("`{unknown}` is no peer: expected a library or some of {}", PEERS.join(", "))));
    }
    let ours: Vec<&'static str> = OURS.iter().map(|ours| ours.id).collect();
    if let Some(unknown) = args.ours.iter().find(|word| !ours.contains(&word.as_str())) {
        return Err(usage(format!("`{unknown}` is none of our indexes: expected some of {}", ours.join(", "))));
    }
    if args.turns == 0 || args.threads.is_empty() || args.threads.contains(&0) {
        return Err(usage("turns and threads begin at 1".to_owned()));
    }
    if let Some(recall) = args.recalls.iter().find(|recall| !(0.0..=1.0).contains(*recall)) {
        return Err(usage(format!("a recall lies between 0 and 1, got {recall}")));
    }
    if let Some(few) = args.rows.iter().find(|rows| **rows < DEPTH) {
        return Err(usage(format!("{few} rows: a base has at least {DEPTH}, as many as neighbours are known of each query")));
    }
    let made = args.rows.iter().map(|rows| Source::Made { rows: *rows, seed: args.seed });
    let sources = if args.data.is_empty() { made.collect() } else { args.data.iter().cloned().map(Source::Folder).collect() };
    let peers = PEERS.iter().copied();
    Ok(Plan {
        sources,
        dim: args.dim,
        threads: args.threads.clone(),
        turns: args.turns,
        python: args.python.clone(),
        ours: ours.into_iter().filter(|ours| args.ours.is_empty() || args.ours.iter().any(|word| word == ours)).collect(),
        apart: args.apart,
        peers: peers.filter(|peer| args.rivals.is_empty() || args.rivals.iter().any(|word| wanted(word, peer))).collect(),
        program: Some(std::env::current_exe().context("cannot find this program's own file")?),
        least: std::time::Duration::from_millis(300),
        limit: std::time::Duration::from_secs(args.limit),
    })
}

fn encode(args: &EncodeArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    use chiasm_bench::encode::{MODELS, Plan, document, run};

    if let Some(unknown) = args.models.iter().find(|word| !MODELS.contains(&word.as_str())) {
        return Err(usage(format!("`{unknown}` is not timed: expected some of {}", MODELS.join(", "))));
    }
    if args.turns == 0 || args.threads.contains(&0) {
        return Err(usage("turns and threads begin at 1".to_owned()));
    }
    let plan = Plan {
        models: MODELS.iter().copied().filter(|m| args.models.is_empty() || args.models.iter().any(|word| word == m)).collect(),
        threads: args.threads.clone(),
        turns: args.turns,
        python: args.python.clone(),
        program: std::env::current_exe().context("cannot find this program's own file")?,
    };
    let models = if args.models.is_empty() { String::new() } else { format!(" --models {}", args.models.join(",")) };
    let threads = args.threads.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let turns = args.turns;
    let command = format!("chiasm bench encode --python PYTHON{models} --threads {threads} --turns {turns} --output FILE");
    // After every batch of a model, so that a stop loses at most the one under way.
    let mut written = Ok(());
    let mut so_far = |timings: &[chiasm_bench::encode::Timing]| {
        if let (Some(path), Ok(())) = (&args.output, &written) {
            written = give(document(timings, &command), Some(path), ui);
        }
    };
    let timings = in_scratch(args.scratch.as_deref(), "encode", |folder| run(&plan, folder, ui, &ui.cancel, &mut so_far))??;
    written?;
    if ui.json {
        ui.print_json(&timings)?;
    }
    if args.output.is_none() {
        give(document(&timings, &command), None, ui)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn align(args: &AlignArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    const COMMAND: &str = "chiasm bench align --python PYTHON --output docs/bench-align.md";
    let mut cases = align::cases(args.small);
    if let Some(unknown) = args.methods.iter().find(|word| cases.iter().all(|case| case.method != word.as_str())) {
        return Err(usage(format!("`{unknown}` is not timed: expected some of cca, gcca, kcca, scm-seq, cmfh")));
    }
    cases.retain(|case| args.methods.is_empty() || args.methods.iter().any(|word| word == case.method));
    let timings = in_scratch(args.scratch.as_deref(), "align", |folder| {
        let rivals = args.python.as_ref().map(|python| Rivals::start(python, folder)).transpose()?;
        align::run(&cases, folder, rivals, ui, &ui.cancel)
    })??;
    if ui.json {
        ui.print_json(&timings)?;
    }
    let mut document = align::document(&timings, COMMAND);
    if let Some(path) = &args.output {
        let name = "bench-align.svg";
        let plot = path.with_file_name(name);
        fs::write(&plot, align::plot(&timings)).with_context(|| format!("cannot write {}", plot.display()))?;
        document += &format!("\n![Time of a fit against rows]({name})\n");
    }
    give(document, args.output.as_deref(), ui)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `work` with a folder of its own in `base` or the system's, which goes away when it is done.
fn in_scratch<T>(base: Option<&Path>, what: &str, work: impl FnOnce(&Path) -> T) -> anyhow::Result<T> {
    let base = base.map_or_else(std::env::temp_dir, Path::to_owned);
    let folder = base.join(format!("chiasm-bench-{what}-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let done = work(&folder);
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(done)
}

/// Writes a document to its file, or prints it, unless the answer is JSON.
fn give(document: String, output: Option<&Path>, ui: &Ui) -> anyhow::Result<()> {
    match output {
        Some(path) => fs::write(path, document).with_context(|| format!("cannot write {}", path.display())),
        None if !ui.json => Ok(ui.print(document)?),
        None => Ok(()),
    }
}

fn tables(args: &TablesArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    match &args.output {
        // What takes the longest is the choice of hyper-parameters: of a run that was stopped it is not made again.
        Some(output) => kept(output, ui, |draft| tables_from(args, Some(draft), ui)),
        None => tables_from(args, None, ui),
    }
}

fn tables_from(args: &TablesArgs, draft: Option<&FolderDraft>, ui: &Ui) -> anyhow::Result<ExitCode> {
    if let Some(unknown) = args.only.iter().find(|word| !KEYS.contains(&word.as_str())) {
        return Err(usage(format!("there is no set `{unknown}`: expected some of {}", KEYS.join(", "))));
    }
    let models = args.models.models.clone().unwrap_or_else(|| args.data.join("small_models"));
    let place =
        Place { dir: &args.data, models: chiasm_encode::ModelDirs::from_env(Some(&models)), progress: ui, cancel: &ui.cancel };
    let mut sections = Vec::new();
    for key in KEYS {
        let asked = args.only.iter().any(|word| word == key);
        if !args.only.is_empty() && !asked {
            continue;
        }
        match data::load(key, &place) {
            Ok(task) => {
                sections.push(section(task, args, draft, ui)?);
                // After every set, so that a stop loses at most the one under way.
                if let Some(path) = &args.output {
                    write(path, &markdown::document(&sections, &args.command()), &sections)?;
                }
            }
            Err(error @ BenchError::NoSet { .. }) if !asked => ui.note(&format!("left out: {error}")),
            Err(error) => return Err(error.into()),
        }
    }
    if sections.is_empty() {
        anyhow::bail!("{} holds none of the sets {}", args.data.display(), KEYS.join(", "));
    }
    if ui.json {
        let all = sections.iter().map(|s| {
            serde_json::json!({
                "set": s.task.key, "outcomes": s.outcomes, "refused": s.refused, "labelled": s.labelled, "stream": s.stream,
            })
        });
        ui.print_json(&all.collect::<Vec<_>>())?;
    }
    if args.output.is_none() && !ui.json {
        ui.print(markdown::document(&sections, &args.command()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parts(args: &PartsArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    // Told before minutes of work, not after them.
    let folder = args.output.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(usage(format!("there is no folder {}: make it, or name another file with --output", folder.display())));
    }
    match &args.output {
        // Fits of a run that was stopped go on where they were.
        Some(output) => kept(output, ui, |draft| parts_from(args, Some(draft), ui)),
        None => parts_from(args, None, ui),
    }
}

fn parts_from(args: &PartsArgs, draft: Option<&FolderDraft>, ui: &Ui) -> anyhow::Result<ExitCode> {
    use chiasm_bench::parts::{Plan, document, run};

    let plan = Plan { seed: args.seed, seeds: args.seeds, train_only: args.train_only };
    let models = args.models.models.clone().unwrap_or_else(|| args.data.join("small_models"));
    let models = chiasm_encode::ModelDirs::from_env(Some(&models));
    let place = Place { dir: &args.data, models, progress: ui, cancel: &ui.cancel };
    let outcome = run(&plan, &place, draft.map(|draft| draft as &dyn Draft))?;
    if ui.json {
        ui.print_json(&outcome.rows)?;
    }
    let seed = if args.seed == 0 { String::new() } else { format!(" --seed {}", args.seed) };
    let train_only = if args.train_only { " --train-only" } else { "" };
    let command = format!("chiasm bench parts --data DIR{seed} --seeds {}{train_only} --output FILE", args.seeds);
    give(document(&outcome, &plan, &command), args.output.as_deref(), ui)?;
    Ok(ExitCode::SUCCESS)
}

/// All methods of the plan on one set.
fn section(task: chiasm_bench::Task, args: &TablesArgs, draft: Option<&FolderDraft>, ui: &Ui) -> anyhow::Result<Section> {
    let wanted = |entry: &plan::Entry| {
        (args.methods.is_empty() || args.methods.iter().any(|m| m == entry.method()))
            && (args.bits.is_empty() || entry.bits.is_none_or(|bits| args.bits.contains(&bits)))
    };
    let entries: Vec<plan::Entry> = plan::plan(&task).into_iter().filter(wanted).collect();
    let first_two = task.of_pair([0, 1]);
    let mut section = Section { task, outcomes: Vec::new(), refused: Vec::new(), labelled: Vec::new(), stream: Vec::new() };
    // Of each pair of views that some method takes: the set with these alone, and what `cca` does best with there.
    let mut of_pairs: BTreeMap<[usize; 2], (chiasm_bench::Task, protocol::Linear)> = BTreeMap::new();
    let of_all = protocol::Linear::default();
    let trials = protocol::Trials { seeds: args.seeds, folds: args.folds };
    ui.start(&section.task.title, Some(entries.len() as u64));
    for entry in entries {
        ui.cancel.check()?;
        let draft = draft.map(|draft| draft as &dyn Draft);
        let run = Run { seed: args.seed, progress: &NoProgress, cancel: &ui.cancel, draft };
        let (task, linear) = match entry.taken {
            plan::Taken::All => (&section.task, &of_all),
            plan::Taken::Pair(places) => {
                let pair =
                    of_pairs.entry(places).or_insert_with(|| (section.task.of_pair(places), protocol::Linear::default()));
                (&pair.0, &pair.1)
            }
        };
        match protocol::run(task, &entry.recipe, &entry.variant, &run, trials, linear) {
            Ok(outcomes) => section.outcomes.extend(outcomes),
            Err(BenchError::Fit { source: chiasm_align::FitError::Cancelled(stop), .. }) => return Err(stop.into()),
            Err(BenchError::Fit { method, source, .. }) => section.refused.push((method, source.to_string())),
            Err(error) => return Err(error.into()),
        }
        ui.advance(1);
    }
    if args.methods.is_empty() && args.bits.is_empty() {
        let run = Run { seed: args.seed, progress: &NoProgress, cancel: &ui.cancel, draft: None };
        section.labelled = protocol::labelled_shares(&first_two, &run)?;
        section.stream = protocol::stream(&first_two, &run)?;
    }
    ui.finish();
    Ok(section)
}

fn write(path: &Path, document: &str, sections: &[Section]) -> anyhow::Result<()> {
    let failed = |path: &Path| format!("cannot write {}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut document = document.to_owned();
    for section in sections {
        let key = section.task.key;
        for (d, word) in [(0, "first"), (1, "second")] {
            let lines = lines(&section.outcomes, d);
            if lines.is_empty() {
                continue;
            }
            let direction = &section.outcomes[0].figures[d].direction;
            let axes = Axes {
                title: format!("{}: MAP against bits, {direction}", section.task.title),
                x: "bits".to_owned(),
                x_ticks: Vec::new(),
                y: "MAP".to_owned(),
                log_y: false,
            };
            let name = format!("map-bits-{key}-{word}.svg");
            let file = folder.join(&name);
            fs::write(&file, plot::svg(&axes, &lines)).with_context(|| failed(&file))?;
            document.push_str(&format!("\n![MAP against bits, {direction}]({name})\n"));
        }
    }
    fs::write(path, document).with_context(|| failed(path))?;
    Ok(())
}

/// MAP against bits, a line for each method and kind of database.
fn lines(outcomes: &[Outcome], direction: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for o in outcomes {
        let (Some(bits), Some(figures)) = (o.bits, o.figures.get(direction)) else { continue };
        let variant = if o.variant.is_empty() { String::new() } else { format!(" {}", o.variant) };
        let shared = if o.database == Database::Shared { ", shared" } else { "" };
        let name = format!("{}{variant}{shared}", o.method);
        let point = (bits as f64, figures.map);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name, points: vec![point], beside: false }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        line.points.dedup_by(|a, b| a.0 == b.0);
    }
    lines
}
