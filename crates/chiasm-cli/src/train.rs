//! `chiasm train`: towers of one's own, from raw files.

use std::path::PathBuf;
use std::process::ExitCode;

use chiasm_train::{Begin, Config, Line, Outcome, train};
use clap::Args;

use crate::ModelsArg;
use crate::ui::{SOME_REFUSED, Ui, shown};

/// Arguments of `chiasm train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    /// Description of what is trained on what: TOML, see `docs/training.md`
    config: PathBuf,
    /// Folder of the model [default: the description's name without its ending]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on where a run was stopped; a new one begins where there is none
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    models: ModelsArg,
}

/// `chiasm train ...`
pub(crate) fn run(args: &TrainArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let config = Config::read(&args.config)?;
    let folder = args.out.clone().unwrap_or_else(|| args.config.with_extension(""));
    let begin = if args.resume { Begin::Resume } else { Begin::New };
    let outcome = train(&config, &folder, begin, &args.models.dirs(), ui, &ui.cancel)?;
    if ui.json {
        ui.print_json(&serde_json::json!({
            "folder": outcome.folder.to_string_lossy(),
            "n_steps": outcome.n_steps,
            "best_epoch": outcome.best_epoch,
            "n_train": outcome.n_things[0],
            "n_validation": outcome.n_things[1],
            "n_parameters": outcome.n_parameters,
            "best": outcome.best,
            "refused": outcome.refused,
        }))?;
    } else {
        ui.print(described(&outcome))?;
        let folder = shown(&outcome.folder);
        ui.hint(format!("curves in {folder}/curves.html; index a folder with it: `chiasm index DIR --model {folder}`"));
    }
    Ok(if outcome.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME_REFUSED) })
}

fn described(outcome: &Outcome) -> String {
    let [n_train, n_aside] = outcome.n_things;
    let mut text = format!(
        "{}: {} numbers learned from {n_train} things in {} steps; weights of epoch {}\n",
        shown(&outcome.folder),
        outcome.n_parameters,
        outcome.n_steps,
        outcome.best_epoch
    );
    let Some(Line::Validation { directions, swaps, .. }) = &outcome.best else { return text };
    text += &format!("on {n_aside} things set aside; beside each figure what chance would give\n");
    text += &format!("{:<18} {:>14} {:>14} {:>14} {:>9} {:>9}\n", "", "R@1", "R@5", "R@10", "queries", "among");
    for d in directions {
        let chance = |k: usize| 100.0 * (k as f64 / d.n_gallery.max(1) as f64).min(1.0);
        let cell = |at: usize, k: usize| format!("{:>5.1} ({:>4.1})", 100.0 * d.recall[at], chance(k));
        let name = format!("{}->{}", d.from, d.to);
        text += &format!(
            "{name:<18} {:>14} {:>14} {:>14} {:>9} {:>9}\n",
            cell(0, 1),
            cell(1, 5),
            cell(2, 10),
            d.n_queries,
            d.n_gallery
        );
    }
    for s in swaps {
        text += &format!(
            "{:<34} {:>5.1} (50.0) of {} texts\n",
            format!("{}: right before {} exchanged", s.media, s.what),
            100.0 * s.right,
            s.n
        );
    }
    text
}
