//! Work that a stop does not lose.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chiasm_align::FolderDraft;
use chiasm_train::FitLog;

use crate::ui::{Ui, shown};

/// Where a fit says how it went.
#[derive(clap::Args)]
pub(crate) struct LogArg {
    /// Folder for what a training says of itself: a line of JSON for each epoch (`log.jsonl`), and its curves as a page (`curves.html`)
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// [`kept`], while the log takes what is told of `fit`: behind what it has of it, where the draft is of a run that was stopped.
pub(crate) fn kept_and_logged(
    output: &Path,
    log: &LogArg,
    fit: &str,
    ui: &Ui,
    work: impl FnOnce(&FolderDraft) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match &log.log {
        Some(folder) => ui.logged(FitLog::open(folder, fit, beside(output).folder().is_dir())?, || kept(output, ui, work)),
        None => kept(output, ui, work),
    }
}

/// The draft of what is to be written there.
fn beside(output: &Path) -> FolderDraft {
    let mut folder = output.as_os_str().to_owned();
    folder.push(".draft");
    FolderDraft::new(folder)
}

/// Does work that ends in a file. Until that is written, what is done is kept in a folder beside it, from which the same command goes on after a stop.
pub(crate) fn kept(
    output: &Path,
    ui: &Ui,
    work: impl FnOnce(&FolderDraft) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let draft = beside(output);
    let folder = shown(draft.folder());
    if draft.folder().is_dir() {
        ui.remark(format!("{folder} is of a run that was stopped: what there is of the same rows and method is taken up"));
    }
    let done = work(&draft);
    if done.is_ok() {
        draft.remove().with_context(|| format!("removing {folder}, which is not needed any more"))?;
    } else if draft.folder().is_dir() {
        ui.hint(format!("what is done is kept in {folder}; the same command goes on from there"));
    }
    done
}
