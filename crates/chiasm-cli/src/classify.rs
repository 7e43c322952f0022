//! `chiasm classify`: which of the labels given fits a file best, without training on any of them, or with a few examples of each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chiasm_core::{Media, Modality};
use chiasm_engine::{
    Classifier, EngineError, LabelScore, LabelledFiles, Language, Limits, Logits, Prompts, Space, Squash, load_media,
};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::locate::{LibraryArg, given_space};
use crate::ui::{Paint, SOME_REFUSED, Ui, escape, shown, usage};

/// Arguments of `chiasm classify`.
#[derive(Args)]
pub(crate) struct ClassifyArgs {
    /// Labels to choose from; `|` between names of one thing, as in `sofa|couch`
    #[arg(long, required_unless_present = "examples", value_delimiter = ',', value_name = "LABEL,...")]
    labels: Vec<String>,
    /// A few files of each label: a folder with a folder for each label, or CSV with a header of file and label. Without `--labels`
    /// theirs are chosen from
    #[arg(long, value_name = "DIR|FILE")]
    examples: Option<PathBuf>,
    /// Sentences that a label is put in: imagenet (the 80 of CLIP), short (the seven best of them), plain, or a file with one a
    /// line, `{}` for the label [default: short in the space of a model, plain in one that was fitted]
    #[arg(long, value_name = "SET", conflicts_with = "templates")]
    prompts: Option<PathBuf>,
    /// Sentence that a label is put in, `{}` for the label, in place of a set; may be repeated
    #[arg(long = "template", visible_alias = "templates", value_name = "SENTENCE")]
    templates: Vec<String>,
    /// What the sets are written in [default: Chinese for labels in Chinese, else English]
    #[arg(long, value_enum, value_name = "LANG")]
    language: Option<LanguageArg>,
    /// How many labels to show for a file
    #[arg(short, value_name = "N", default_value_t = 3)]
    k: usize,
    /// The space to work in [default: the library's]
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// Work in the space of this model (a dual encoder such as CLIP): a name or the path of its folder
    #[arg(long, value_name = "NAME", conflicts_with = "space")]
    model: Option<String>,
    /// Of a library of several models, ask this one [default: for each file the first that knows its kind]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["space", "model"])]
    lane: Option<String>,
    /// Pictures, sounds, texts or series
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    library: LibraryArg,
}

/// A language by its code.
#[derive(Clone, Copy, ValueEnum)]
enum LanguageArg {
    En,
    Zh,
}

#[derive(Serialize)]
struct Row {
    path: String,
    /// The lane that was asked, of a library.
    lane: Option<String>,
    labels: Vec<LabelScore>,
    /// Examples of its kind that counted.
    n_examples: usize,
    /// How the scores became probabilities.
    logits: Option<Logits>,
    refused: Option<String>,
}

/// `chiasm classify`
pub(crate) fn run(args: &ClassifyArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let examples = args.examples.as_deref().map(LabelledFiles::read).transpose()?;
    let mut labels: Vec<String> = args.labels.iter().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
    if let (true, Some(examples)) = (args.labels.is_empty(), &examples) {
        labels = examples.labels();
    }
    if let Some(examples) = &examples
        && !examples.labels().iter().any(|label| labels.contains(label))
    {
        return Err(usage(format!("--examples: none is of the labels given; theirs are {}", examples.labels().join(", "))));
    }
    if labels.is_empty() {
        return Err(usage("--labels: no label in it: give some, separated by commas"));
    }
    let (library, loaded);
    let lanes: Vec<(Option<&str>, &Space)> =
        match given_space(args.space.as_deref(), args.model.as_deref(), &args.library.dirs())? {
            Some(space) => {
                loaded = space;
                vec![(None, &loaded)]
            }
            None => {
                library = args.library.open()?;
                let named: Vec<String> = args.lane.iter().cloned().collect();
                library.lanes_named(&named)?.into_iter().map(|lane| (Some(lane.name()), lane.space())).collect()
            }
        };
    let language = args.language.map(|language| match language {
        LanguageArg::En => Language::English,
        LanguageArg::Zh => Language::Chinese,
    });
    let prompts = prompts(args)?;
    let classifier = |space| -> Result<Classifier<'_>, EngineError> {
        let by_names = Classifier::new(space, &labels, &prompts, language)?;
        let Some(examples) = &examples else { return Ok(by_names) };
        let (with_examples, refused) = by_names.with_examples(examples, ui, &ui.cancel)?;
        refused.iter().for_each(|line| ui.complaint(format!("left out of the examples: {line}")));
        Ok(with_examples)
    };
    // That of the lane that most files ask: the first that knows texts. Others are made when a file needs them.
    let knows = |space: &Space, kind: Modality| {
        let kinds = space.modalities();
        kinds.contains(&Modality::Text) && kinds.contains(&kind)
    };
    let usual = lanes.iter().position(|(_, space)| knows(space, Modality::Text)).unwrap_or(0);
    let mut classifiers = BTreeMap::from([(usual, classifier(lanes[usual].1)?)]);
    let width = labels.iter().map(|l| escape(l).chars().count()).max().unwrap_or(0);
    let mut rows = Vec::new();
    let (mut any_refused, mut each_by_itself) = (false, false);
    for path in &args.files {
        ui.cancel.check()?;
        let path_shown = path.to_string_lossy().into_owned();
        let mut judge = |media: Media| -> Result<_, EngineError> {
            let kind = media.modality();
            let at = lanes.iter().position(|(_, space)| knows(space, kind)).unwrap_or(usual);
            let classifier = match classifiers.entry(at) {
                Entry::Occupied(made) => made.into_mut(),
                Entry::Vacant(place) => place.insert(classifier(lanes[at].1)?),
            };
            let lane = lanes[at].0.map(str::to_owned);
            Ok((classifier.classify(&media)?, classifier.logits(kind)?, classifier.n_examples(kind), lane))
        };
        match load_media(path, &Limits::default()).and_then(&mut judge) {
            Ok((mut scores, logits, n_examples, lane)) => {
                scores.truncate(args.k.max(1));
                if !ui.json {
                    ui.print(block(path, &scores, width, ui))?;
                }
                each_by_itself |= logits.squash == Squash::Sigmoid;
                rows.push(Row { path: path_shown, lane, labels: scores, n_examples, logits: Some(logits), refused: None });
            }
            Err(error) => {
                any_refused = true;
                ui.complaint(format!("refused {error}"));
                let refused = Some(error.to_string());
                rows.push(Row { path: path_shown, lane: None, labels: Vec::new(), n_examples: 0, logits: None, refused });
            }
        }
    }
    if each_by_itself && !ui.json {
        ui.remark("each percentage stands by itself: the model judges a label whatever the others are");
    }
    if ui.json {
        ui.print_json(&rows)?;
    }
    Ok(if any_refused { ExitCode::from(SOME_REFUSED) } else { ExitCode::SUCCESS })
}

/// The sentences that were asked for: a set by its name, before a file of that name.
fn prompts(args: &ClassifyArgs) -> anyhow::Result<Prompts> {
    if !args.templates.is_empty() {
        return Ok(Prompts::Own(args.templates.clone()));
    }
    let Some(given) = &args.prompts else { return Ok(Prompts::Suitable) };
    Ok(match given.to_str() {
        Some("imagenet") => Prompts::ImageNet,
        Some("short") => Prompts::Short,
        Some("plain") => Prompts::Plain,
        _ => {
            let unreadable = || format!("--prompts: expected imagenet, short, plain or a file; cannot read {}", shown(given));
            let text = std::fs::read_to_string(given).with_context(unreadable)?;
            Prompts::parse(&text).with_context(|| shown(given))?
        }
    })
}

fn block(path: &Path, scores: &[LabelScore], width: usize, ui: &Ui) -> String {
    let mut text = format!("{}\n", ui.paint(Paint::Bold, &shown(path)));
    for s in scores {
        text += &format!("  {:<width$}  {:>5.1} %  {:>6.3}\n", escape(&s.label), 100.0 * s.probability, s.score);
    }
    text
}
