//! `chiasm info`: what a library holds.

use std::process::ExitCode;

use chiasm_engine::{LaneInfo, LibraryInfo};
use clap::Args;

use crate::locate::LibraryArg;
use crate::space;
use crate::ui::{Paint, Ui, count, escape, shown, size};

/// Arguments of `chiasm info`.
#[derive(Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    library: LibraryArg,
}

/// `chiasm info`
pub(crate) fn run(args: &InfoArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let info = args.library.open()?.info()?;
    if ui.json {
        ui.print_json(&info)?;
    } else {
        ui.print(describe(&info, ui))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(info: &LibraryInfo, ui: &Ui) -> String {
    let what = if info.lanes.len() == 1 { "vector" } else { "part" };
    let mut text = format!("library      {}\n", ui.paint(Paint::Bold, &shown(&info.dir)));
    text += &format!(
        "holds        {} in {}, {}\n",
        count(info.n_items, "item"),
        count(info.n_paths, "file"),
        count(info.n_segments, what)
    );
    for kind in &info.kinds {
        text += &format!("  {:<9}  {}, {}\n", kind.kind, count(kind.n_items, "item"), count(kind.n_segments, what));
    }
    if info.n_captions > 0 {
        text += &format!("  captions   {}\n", info.n_captions);
    }
    for root in &info.roots {
        text += &format!("indexed      {}\n", shown(root));
    }
    if !info.refused.is_empty() {
        text += &format!("refused      {} (listed by `chiasm info --json`)\n", count(info.refused.len(), "file"));
    }
    let index = info.index_bytes.map_or_else(|| "to be built at the next search".to_owned(), size);
    text += &format!("on disk      database {}, index {index}\n", size(info.database_bytes));
    text += &format!("format       {}, generation {}\n", info.format, info.generation);
    if let [lane] = info.lanes.as_slice() {
        return text + &searches(lane) + &space::describe(&info.space, ui);
    }
    for lane in &info.lanes {
        text += &format!("\nlane         {}\n", ui.paint(Paint::Bold, &escape(&lane.name)));
        let index = lane.index_bytes.map_or_else(|| "to be built".to_owned(), size);
        text += &format!("holds        {}, index {index}\n", count(lane.n_vectors, "vector"));
        text += &searches(lane);
        if lane.n_lacking > 0 {
            text += &format!("lacks        {}, made by the next `chiasm index`\n", count(lane.n_lacking, "vector"));
        }
        if lane.n_gaps > 0 {
            text += &format!("gaps         {} its model can make nothing of\n", count(lane.n_gaps, "part"));
        }
        text += &space::describe(&lane.space, ui);
    }
    text
}

/// How a lane is searched, as a line.
pub(crate) fn searches(lane: &LaneInfo) -> String {
    let Some(cells) = &lane.cells else {
        return "search       exact: every vector is looked at\n".to_owned();
    };
    let recall = match (cells.recall, cells.wanted_recall) {
        (Some(recall), Some(wanted)) => {
            format!(
                "recall {recall:.3} of the ten nearest, measured on {}; {wanted} was asked for",
                count(cells.measured_on, "query")
            )
        }
        _ => "recall not measured".to_owned(),
    };
    format!("search       in {} of {}, {}; {recall}\n", cells.probes, count(cells.cells, "cell"), size(cells.bytes))
}
