//! `chiasm space rerank`: learn to put the first hits of a space in order by the parts of pictures and texts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chiasm_align::FolderDraft;
use chiasm_align::parts::second_look::Kind;
use chiasm_engine::{LookFigures, SecondLookReport, SecondLookRequest, Space, learn_second_look};
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::ModelsArg;
use crate::draft::LogArg;
use crate::space::stem;
use crate::ui::{Paint, Ui, duration, escape, shown};

/// Arguments of `chiasm space rerank`.
#[derive(Args)]
#[command(after_help = "\
Learn it from the pairs that the space was fitted on: how much it counts is chosen on pictures left out of both, for which the space's method is
fitted again. Both encoders must tell parts: places of a map, patches, words (mobilenet_v2, ResNet, ViT, CLIP; BERT and its kin).")]
pub(crate) struct RerankArgs {
    /// The space file, with a view for pictures and one for texts
    pub(crate) space: PathBuf,
    /// Table of what belongs together: CSV with a header, a column image and columns text or caption
    #[arg(long, value_name = "FILE")]
    pairs: PathBuf,
    /// Folder in which the table's paths begin [default: the table's own]
    #[arg(long, visible_alias = "root", value_name = "DIR")]
    images: Option<PathBuf>,
    /// What looks at parts: stacked cross attention, or a transformer over both
    #[arg(long, value_name = "NAME", default_value = Kind::NAMES[0], value_parser = PossibleValuesParser::new(Kind::NAMES))]
    pub(crate) method: String,
    /// Folds over which pictures are left out to choose how much it counts beside the space
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..))]
    folds: u16,
    /// Decides every random choice: the same seed and pairs give the same re-ranker
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Name kept in the file [default: the file's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) log: LogArg,
    #[command(flatten)]
    models: ModelsArg,
}

/// `chiasm space rerank`
pub(crate) fn run(args: &RerankArgs, draft: &FolderDraft, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let space = Space::load(&args.space, &models)?;
    let request = SecondLookRequest {
        name: args.name.clone().unwrap_or_else(|| stem(&args.output)),
        method: args.method.clone(),
        pairs: args.pairs.clone(),
        root: args.images.clone().unwrap_or_else(|| args.pairs.parent().map(Path::to_owned).unwrap_or_default()),
        folds: usize::from(args.folds),
        seed: args.seed,
    };
    let learned = learn_second_look(&space, &request, ui, &ui.cancel, Some(draft))?;
    learned.save(&args.output)?;
    let report = learned.report();
    if ui.json {
        ui.print_json(
            &serde_json::json!({ "file": args.output.to_string_lossy(), "rerank": report, "helps": report.helps() }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    ui.print(describe(&request.name, report, ui))?;
    ui.print(format!("written to   {}\n", shown(&args.output)))?;
    if report.helps() {
        ui.hint(format!("search with it: `chiasm search --rerank {} WORDS`", shown(&args.output)));
    } else {
        ui.remark("on pictures left out it gains less than two standard errors over the space alone: search without it, or learn it from more pairs");
    }
    Ok(ExitCode::SUCCESS)
}

/// A re-ranker in some lines.
pub(crate) fn describe(name: &str, report: &SecondLookReport, ui: &Ui) -> String {
    let SecondLookReport { method, n_images, n_texts, dropped, bridge, in_space, n_folds, n_top, share, wall_s, .. } = report;
    let mut text = format!("re-ranker    {}\n", ui.paint(Paint::Bold, &escape(name)));
    text += &format!("method       {method}, learned from {n_images} pictures and {n_texts} texts in {}\n", duration(*wall_s));
    text += if *in_space {
        "parts        in the space\n"
    } else {
        "parts        as the encoders give them, for their mean is not the embedding\n"
    };
    text += &format!("share        {share} of the score is the parts', the rest the space's\n");
    for (reason, n) in dropped {
        text += &format!("left out     {n} texts: {}\n", escape(reason));
    }
    let how = match bridge {
        Some(method) => format!("for which {method} was fitted again"),
        None => "among which the space itself may have seen some".to_owned(),
    };
    let head = format!("on pictures left out in {n_folds} folds, {how}; the first {n_top} hits put in order anew");
    text += &format!("{}\n", ui.paint(Paint::Dim, &head));
    if let Some([before, after]) = report.before_and_after() {
        text += &format!("{:<16} {:>22} {:>22}\n", "R@1 / 5 / 10", "text->image", "image->text");
        let line = |name: &str, of: &LookFigures| {
            let cell = |[a, b, c]: [f64; 3]| format!("{:.1} / {:.1} / {:.1}", 100.0 * a, 100.0 * b, 100.0 * c);
            format!("{name:<16} {:>22} {:>22}\n", cell(of.text_to_image), cell(of.image_to_text))
        };
        text += &line("the space alone", before);
        text += &line("re-ranked", after);
        let [gain, error] = report.gain.map(|x| 100.0 * x);
        text +=
            &format!("gain         {gain:+.1} ± {error:.1} points in the mean of the six, one standard error over pictures\n");
    }
    text
}
