//! `chiasm verify`: whether a library is whole.

use std::process::ExitCode;

use clap::Args;

use crate::locate::LibraryArg;
use crate::ui::{FAILED, Paint, Ui, count, duration, escape};

/// Arguments of `chiasm verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Also read every indexed file and compare its content with what was indexed
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    library: LibraryArg,
}

/// `chiasm verify`: exit code 1 when the library is damaged.
pub(crate) fn run(args: &VerifyArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let report = args.library.open()?.verify(args.deep)?;
    if ui.json {
        let mut document = serde_json::to_value(&report)?;
        if let Some(object) = document.as_object_mut() {
            object.insert("clean".to_owned(), report.is_clean().into());
        }
        ui.print_json(&document)?;
    } else {
        for problem in report.problems.iter().chain(&report.outdated) {
            ui.print(format!("{}\n  {}\n", escape(&problem.what), ui.paint(Paint::Dim, &escape(&problem.cure))))?;
        }
        let verdict = if report.is_clean() { "clean".to_owned() } else { count(report.problems.len(), "problem") };
        let mut line = format!("{verdict}: {}, {}", count(report.n_items, "item"), count(report.n_segments, "vector"));
        if args.deep {
            line += &format!(", {} read, {} outdated", count(report.n_files_hashed, "file"), report.outdated.len());
        }
        ui.print(format!("{line}; {}\n", duration(report.wall_s)))?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
