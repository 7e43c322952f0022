//! `chiasm classify`: which of the labels given fits a file best, without training on any of them.

use std::path::PathBuf;
use std::process::ExitCode;

use chiasm_engine::{Classifier, LabelScore, Library, Limits, Space, load_media};
use clap::Args;
use serde::Serialize;

use crate::locate::{LibraryArg, given_space};
use crate::ui::{Paint, SOME_REFUSED, Ui, escape, shown, usage};

/// Arguments of `chiasm classify`.
#[derive(Args)]
pub(crate) struct ClassifyArgs {
    /// Labels to choose from
    #[arg(long, required = true, value_delimiter = ',', value_name = "LABEL,...")]
    labels: Vec<String>,
    /// Sentence that a label stands in, `{}` for the label; may be repeated [default: "{}", "a {}", "this is a {}"]
    #[arg(long = "template", visible_alias = "templates", value_name = "SENTENCE")]
    templates: Vec<String>,
    /// How many labels to show for a file
    #[arg(short, value_name = "N", default_value_t = 3)]
    k: usize,
    /// The space to work in [default: the library's]
    #[arg(long, value_name = "FILE")]
    space: Option<PathBuf>,
    /// Work in the space of this model (a dual encoder such as CLIP): a name or the path of its folder
    #[arg(long, value_name = "NAME", conflicts_with = "space")]
    model: Option<String>,
    /// Pictures, sounds, texts or series
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    library: LibraryArg,
}

#[derive(Serialize)]
struct Row {
    path: String,
    labels: Vec<LabelScore>,
    refused: Option<String>,
}

/// `chiasm classify`
pub(crate) fn run(args: &ClassifyArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let labels: Vec<String> = args.labels.iter().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
    if labels.is_empty() {
        return Err(usage("--labels: no label in it: give some, separated by commas"));
    }
    let (library, loaded);
    let space: &Space = match given_space(args.space.as_deref(), args.model.as_deref(), &args.library.dirs())? {
        Some(space) => {
            loaded = space;
            &loaded
        }
        None => {
            library = args.library.open()?;
            Library::space(&library)
        }
    };
    let classifier = Classifier::new(space, &labels, &args.templates)?;
    let width = labels.iter().map(|l| escape(l).chars().count()).max().unwrap_or(0);
    let mut rows = Vec::new();
    let mut any_refused = false;
    for path in &args.files {
        ui.cancel.check()?;
        match load_media(path, &Limits::default()).and_then(|media| classifier.classify(&media)) {
            Ok(mut scores) => {
                scores.truncate(args.k.max(1));
                if !ui.json {
                    ui.print(block(path, &scores, width, ui))?;
                }
                rows.push(Row { path: path.to_string_lossy().into_owned(), labels: scores, refused: None });
            }
            Err(error) => {
                any_refused = true;
                ui.complaint(format!("refused {error}"));
                rows.push(Row {
                    path: path.to_string_lossy().into_owned(),
                    labels: Vec::new(),
                    refused: Some(error.to_string()),
                });
            }
        }
    }
    if ui.json {
        ui.print_json(&rows)?;
    }
    Ok(if any_refused { ExitCode::from(SOME_REFUSED) } else { ExitCode::SUCCESS })
}

fn block(path: &std::path::Path, scores: &[LabelScore], width: usize, ui: &Ui) -> String {
    let mut text = format!("{}\n", ui.paint(Paint::Bold, &shown(path)));
    for s in scores {
        text += &format!("  {:<width$}  {:>5.1} %  {:>6.3}\n", escape(&s.label), 100.0 * s.probability, s.score);
    }
    text
}
