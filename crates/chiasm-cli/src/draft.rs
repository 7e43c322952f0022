//! Work that a stop does not lose.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use chiasm_align::FolderDraft;

use crate::ui::{Ui, shown};

/// Does work that ends in a file. Until that is written, what is done is kept in a folder beside it, from which the same command goes on after a stop.
pub(crate) fn kept(
    output: &Path,
    ui: &Ui,
    work: impl FnOnce(&FolderDraft) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let mut folder = output.as_os_str().to_owned();
    folder.push(".draft");
    let draft = FolderDraft::new(folder);
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
