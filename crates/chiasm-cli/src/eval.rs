//! `chiasm eval`: how well a space, a library or a run finds what belongs together.
//!
//! All arithmetic is `chiasm-eval`'s; this file gathers queries, answers and judgements, and holds figures against floors.

mod fused;
mod library;
mod pairs;
mod require;

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chiasm_core::Modality;
use chiasm_engine::FeatureSpace;
use chiasm_eval::cross::CrossTable;
use chiasm_eval::{EvalConfig, Report, trec};
use clap::Args;

use self::fused::FuseArgs;
use self::require::Requirement;
use crate::ModelsArg;
use crate::features::{self, RowArgs};
use crate::search::RerankArgs;
use crate::ui::{FAILED, Paint, SOME_REFUSED, Ui, shown, usage};

/// The rule that the figures follow, said with every answer.
const TIES: &str = "equal scores stand in the order of their ids; where that touches a relevant item, `MAP over ties` is the mean \
                    over all orders of the tied";

/// Arguments of `chiasm eval`.
#[derive(Args)]
#[command(after_help = "\
Six ways to say what belongs together:
  --space S --pairs captions.csv --images DIR     encode the pairs, every kind against every other
  --space S --view image=I.npy --view text=T.npy  rows of feature files, paired by number; --labels FILE for classes
  --library L --pairs captions.csv --images DIR   texts find items through the library's index, and back
  --library L --queries q.tsv --qrels FILE        queries: `id<TAB>words`, `id<TAB>kind<TAB>words or file`, or JSON lines
  --library L --by-folder | --by-name             the names of folders find their files | files of one name find each other
  --run FILE [--run FILE --fuse rrf] --qrels FILE a finished run, or several fused, without any library

R@K is the share of queries with a relevant item among the first K (hit@K is the same word); recall@K is the share of the
relevant items that are there.")]
pub(crate) struct EvalArgs {
    // No conflict with `library`: that one may come from the environment, and what is given here goes before it.
    /// Encode the pairs in this space
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    space: Option<PathBuf>,
    /// Ask this library [else, where no space or run is given: the nearest `.chiasm` here or above]
    #[arg(long, value_name = "PATH", env = "CHIASM_LIBRARY", hide_env_values = true)]
    library: Option<PathBuf>,
    /// Ask only these models of a library of several
    #[arg(long = "lane", value_name = "NAME,...", value_delimiter = ',')]
    lanes: Vec<String>,
    #[command(flatten)]
    rerank: RerankArgs,
    /// What belongs together: CSV with a header of image, text or caption, audio, series, or JSON lines
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Folder in which the paths of pairs and queries begin [default: the table's own]
    #[arg(long, visible_alias = "root", value_name = "DIR")]
    images: Option<PathBuf>,
    /// Queries: tab-separated, or JSON lines such as {"id": "7", "audio": "bark.wav"}
    #[arg(long, value_name = "FILE", requires = "qrels", conflicts_with_all = ["pairs", "run"])]
    queries: Option<PathBuf>,
    /// Which items are relevant to which query, in TREC's form; items by their path below the indexed folder
    #[arg(long, value_name = "FILE")]
    qrels: Option<PathBuf>,
    /// The names of folders are queries, the files in them the right answers
    #[arg(long, conflicts_with_all = ["pairs", "queries", "by_name", "run", "space"])]
    by_folder: bool,
    /// Items whose file names agree up to the extension belong together
    #[arg(long, conflicts_with_all = ["pairs", "queries", "run", "space"])]
    by_name: bool,
    /// Evaluate this run, in TREC's form; several are fused first (late fusion)
    #[arg(long, value_name = "FILE", requires = "qrels", conflicts_with = "pairs")]
    run: Vec<PathBuf>,
    #[command(flatten)]
    fuse: FuseArgs,
    /// Deal the pairs into galleries of this many things each and pool their queries, so that figures over sets of different
    /// sizes can be compared
    #[arg(long, value_name = "N", requires = "space", value_parser = clap::value_parser!(u32).range(2..))]
    gallery: Option<u32>,
    /// Only answers of these kinds
    #[arg(long = "kind", value_name = "KIND,...", value_delimiter = ',')]
    kinds: Vec<Modality>,
    /// Answers asked for per query [default: all]
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    k: Option<u32>,
    /// Write what was found, in TREC's form
    #[arg(long, value_name = "FILE")]
    run_out: Option<PathBuf>,
    /// Write what was relevant, in TREC's form
    #[arg(long, value_name = "FILE")]
    qrels_out: Option<PathBuf>,
    /// Exit with 1 unless this holds, e.g. "text->image R@10 >= 0.70" (a share, not percent); may be repeated
    #[arg(long, value_name = "FIGURE")]
    require: Vec<Requirement>,
    /// The Ks of R@K, recall@K and P@K
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_values_t = [1, 5, 10])]
    cuts: Vec<usize>,
    /// Resamples of the bootstrap behind each 95 % interval; 0 leaves intervals out
    #[arg(long, value_name = "N", default_value_t = 1000)]
    resamples: usize,
    /// Seed of the resampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    rows: RowArgs,
    /// What is searched, where it is not the rows of `--view` themselves
    #[arg(long, value_name = "NAME=FILE[:WHAT]", requires = "views")]
    gallery_view: Vec<String>,
    /// Classes of the gallery's rows
    #[arg(long, value_name = "FILE[:WHAT]", requires = "gallery_view")]
    gallery_labels: Option<String>,
    /// Thing that each row of the gallery shows
    #[arg(long, value_name = "FILE[:WHAT]", requires = "gallery_view")]
    gallery_groups: Option<String>,
    #[command(flatten)]
    models: ModelsArg,
}

/// What every way of evaluating gives.
#[derive(Default)]
struct Outcome {
    reports: Vec<Report>,
    /// What was found and what was relevant, where the answers are items with names.
    trec: Option<(trec::Run, trec::Qrels)>,
    /// Files that could not be used.
    refused: Vec<String>,
    /// What a reader of the figures must know.
    remarks: Vec<String>,
}

/// `chiasm eval`
pub(crate) fn run(args: &EvalArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    if args.cuts.contains(&0) {
        return Err(usage("--cuts: a cut after 0 answers measures nothing; give whole numbers from 1"));
    }
    if args.rerank.is_asked_for() && (args.space.is_some() || !args.run.is_empty()) {
        return Err(usage(
            "--rerank looks at the files of a library again: evaluate with `--library`, not `--space` or `--run`",
        ));
    }
    let config = EvalConfig { cuts: args.cuts.clone(), n_resamples: args.resamples, seed: args.seed, ..EvalConfig::default() };
    let outcome = match (&args.run[..], &args.space, &args.pairs, &args.queries) {
        ([_, ..], ..) => finished_run(args, &config)?,
        (_, Some(space), None, _) if !args.rows.views.is_empty() => feature_files(space, args, &config, ui)?,
        (_, Some(space), Some(pairs), _) => pairs::in_space(space, pairs, args, &config, ui)?,
        (_, Some(_), None, _) => {
            return Err(usage(
                "--space: also give what belongs together, with `--pairs FILE`, or rows with `--view NAME=FILE`",
            ));
        }
        (_, None, Some(pairs), _) => library::pairs(pairs, args, &config, ui)?,
        (_, None, None, Some(queries)) => library::queries(queries, args, &config, ui)?,
        (_, None, None, None) if args.by_folder => library::by_folder(args, &config, ui)?,
        (_, None, None, None) if args.by_name => library::by_name(args, &config, ui)?,
        (_, None, None, None) => {
            return Err(usage(
                "nothing says what belongs together: give `--pairs FILE`, `--queries FILE --qrels FILE`, `--by-folder`, \
                 `--by-name`, or a finished `--run FILE --qrels FILE`",
            ));
        }
    };
    write_trec(&outcome, args)?;
    let checked: Vec<require::Checked> = args.require.iter().map(|r| r.check(&outcome.reports)).collect::<Result<_, _>>()?;
    if ui.json {
        ui.print_json(&serde_json::json!({
            "reports": outcome.reports,
            "ties": TIES,
            "refused": outcome.refused,
            "remarks": outcome.remarks,
            "required": checked,
        }))?;
    } else {
        for report in &outcome.reports {
            ui.print(format!("{report}\n"))?;
        }
        if outcome.reports.len() > 1 {
            ui.print(CrossTable { reports: outcome.reports.clone() })?;
        }
        ui.print(format!("{}\n", ui.paint(Paint::Dim, &format!("ties: {TIES}"))))?;
    }
    outcome.remarks.iter().for_each(|remark| ui.remark(remark));
    outcome.refused.iter().for_each(|refused| ui.complaint(format!("refused {refused}")));
    let mut all_met = true;
    for one in &checked {
        all_met &= one.met;
        let line = format!("{}: {}", if one.met { "holds" } else { "not met" }, one.line());
        if one.met { ui.remark(line) } else { ui.complaint(line) }
    }
    Ok(match (all_met, outcome.refused.is_empty()) {
        (false, _) => ExitCode::from(FAILED),
        (true, false) => ExitCode::from(SOME_REFUSED),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// Rows of feature files, every view against every other.
fn feature_files(path: &Path, args: &EvalArgs, config: &EvalConfig, ui: &Ui) -> anyhow::Result<Outcome> {
    let Some(space) = FeatureSpace::load(path)? else {
        return Err(usage(format!("{} was fitted with encoders: evaluate it with `--pairs FILE`, not `--view`", shown(path))));
    };
    let gallery = RowArgs {
        views: args.gallery_view.clone(),
        labels: args.gallery_labels.clone(),
        groups: args.gallery_groups.clone(),
        drop_bad_rows: args.rows.drop_bad_rows,
    };
    let gallery = (!args.gallery_view.is_empty()).then_some(&gallery);
    let (reports, remarks) = features::evaluate(&space, &args.rows, gallery, config, ui)?;
    Ok(Outcome { reports, remarks, ..Outcome::default() })
}

fn finished_run(args: &EvalArgs, config: &EvalConfig) -> anyhow::Result<Outcome> {
    let run = fused::read(&args.run, &args.fuse)?;
    let qrels = read_qrels(args)?;
    let report = trec::report(&run, &qrels, config)?;
    let unjudged = run.queries.keys().filter(|q| !qrels.queries.contains_key(*q)).count();
    let missing = qrels.queries.keys().filter(|q| !run.queries.contains_key(*q)).count();
    let mut remarks = Vec::new();
    if unjudged > 0 {
        remarks.push(format!("{unjudged} queries of the run are in no judgement and were left out"));
    }
    if missing > 0 {
        remarks.push(format!("{missing} judged queries are not in the run and scored 0"));
    }
    Ok(Outcome { reports: vec![report], trec: Some((run, qrels)), remarks, ..Outcome::default() })
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path).with_context(|| format!("cannot read {}", shown(path)))?))
}

fn read_qrels(args: &EvalArgs) -> anyhow::Result<trec::Qrels> {
    let path = args.qrels.as_deref().ok_or_else(|| usage("give the judgements with `--qrels FILE`"))?;
    trec::read_qrels(open(path)?).with_context(|| shown(path))
}

fn write_trec(outcome: &Outcome, args: &EvalArgs) -> anyhow::Result<()> {
    if args.run_out.is_none() && args.qrels_out.is_none() {
        return Ok(());
    }
    let Some((run, qrels)) = &outcome.trec else {
        return Err(usage("--run-out and --qrels-out name the items of a library: evaluate with `--library`"));
    };
    let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", shown(path)));
    if let Some(path) = &args.run_out {
        trec::write_run(BufWriter::new(create(path)?), run).with_context(|| shown(path))?;
    }
    if let Some(path) = &args.qrels_out {
        trec::write_qrels(BufWriter::new(create(path)?), qrels).with_context(|| shown(path))?;
    }
    Ok(())
}

/// Where the paths of a table begin.
fn root_of(table: &Path, args: &EvalArgs) -> PathBuf {
    args.images.clone().unwrap_or_else(|| table.parent().map(Path::to_owned).unwrap_or_default())
}
