//! `chiasm model`: the encoders there are, and whether their weights are found.

use std::process::ExitCode;

use chiasm_encode::{ModelDirs, ModelInfo};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::ModelsArg;
use crate::ui::{Paint, Ui, shown};

/// `chiasm model ...`
#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// All encoders, and which of them can be used here
    List(ModelsArg),
    /// One encoder: what it takes and gives, its fingerprint, its classes
    Info(InfoArgs),
}

/// Arguments of `chiasm model info`.
#[derive(Args)]
pub(crate) struct InfoArgs {
    /// A name that `chiasm model list` prints, or the path of a model's .json or folder
    name: String,
    #[command(flatten)]
    models: ModelsArg,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    kind: &'static str,
    dim: usize,
    licence: &'static str,
    needs: Option<&'static str>,
    found: bool,
    about: &'static str,
}

/// `chiasm model ...`
pub(crate) fn run(command: &ModelCommand, ui: &Ui) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::List(models) => list(&models.dirs(), ui),
        ModelCommand::Info(args) => info(args, ui),
    }
}

fn list(models: &ModelDirs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let rows: Vec<Row> = chiasm_encode::catalogue().iter().map(|info| row(info, models)).collect();
    if ui.json {
        let looked: Vec<_> = models.dirs().iter().map(|d| d.to_string_lossy()).collect();
        ui.print_json(&serde_json::json!({ "models": rows, "looked_in": looked }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
    for row in &rows {
        let state = match (row.needs, row.found) {
            (None, _) => ui.paint(Paint::Good, "no weights needed"),
            (Some(_), true) => ui.paint(Paint::Good, "found            "),
            (Some(_), false) => ui.paint(Paint::Warn, "not found        "),
        };
        ui.print(format!("{:<width$}  {:<6}  {:>5}-d  {state}  {}\n", row.name, row.kind, row.dim, row.about))?;
    }
    if rows.iter().any(|r| !r.found) {
        let looked: Vec<String> = models.dirs().iter().map(|d| shown(d)).collect();
        ui.remark(format!("looked in {}", looked.join(", ")));
        ui.hint("name the folder that holds the missing ones with `--models DIR`, or in the variable CHIASM_MODELS");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(info: &ModelInfo, models: &ModelDirs) -> Row {
    let found = info.needs.is_none_or(|file| models.dirs().iter().any(|dir| dir.join(file).exists()));
    Row {
        name: info.name,
        kind: info.modality.as_str(),
        dim: info.dim,
        licence: info.licence,
        needs: info.needs,
        found,
        about: info.about,
    }
}

fn info(args: &InfoArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let encoder = chiasm_encode::open(&args.name, &models)?;
    let listed = chiasm_encode::catalogue().iter().find(|info| info.name == args.name);
    // Features have no classes: an encoder says so by an error.
    let classes = chiasm_encode::class_names(&args.name, &models).unwrap_or_default();
    if ui.json {
        ui.print_json(&serde_json::json!({
            "name": encoder.name(),
            "kind": encoder.modality().as_str(),
            "dim": encoder.dim(),
            "fingerprint": encoder.fingerprint(),
            "licence": listed.map(|l| l.licence),
            "about": listed.map(|l| l.about),
            "classes": classes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("name         {}\n", encoder.name());
    text += &format!("takes        {}\n", encoder.modality());
    text += &format!("gives        {} numbers\n", encoder.dim());
    text += &format!("fingerprint  {}\n", encoder.fingerprint());
    if let Some(listed) = listed {
        text += &format!("licence      {}\nabout        {}\n", listed.licence, listed.about);
    }
    if !classes.is_empty() {
        let first: Vec<&str> = classes.iter().take(5).map(String::as_str).collect();
        text += &format!("classes      {}: {}, ... (all with --json)\n", classes.len(), first.join(", "));
    }
    ui.print(text)?;
    Ok(ExitCode::SUCCESS)
}
