//! `chiasm rm`: files out of the library; the files themselves stay.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::locate::LibraryArg;
use crate::ui::{Ui, count};

/// Arguments of `chiasm rm`.
#[derive(Args)]
pub(crate) struct RmArgs {
    /// Indexed files, or folders with all that is indexed under them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    library: LibraryArg,
}

/// `chiasm rm`
pub(crate) fn run(args: &RmArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let n = args.library.open()?.remove(&args.paths)?;
    if ui.json {
        ui.print_json(&serde_json::json!({ "n_removed": n }))?;
    } else {
        ui.print(format!("{} left the library; no file was touched\n", count(n, "item")))?;
        ui.hint("`chiasm index` over their folder takes them in again");
    }
    Ok(ExitCode::SUCCESS)
}
