//! `chiasm model`: which encoders and published models there are, what is here of them, and what is known of one.

use std::process::ExitCode;

use chiasm_encode::{ModelDirs, ModelInfo, ModelName, OpenError, Place, Published, Store};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::ModelsArg;
use crate::model_store::{self, ImportArgs, PullArgs, RmArgs, VerifyArgs};
use crate::ui::{Paint, Ui, escape, shown, size};

/// `chiasm model ...`
#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Encoders and published models, and which of them are here
    List(ListArgs),
    /// One model: what it takes and gives, licence, published figures, its fingerprint where it is here
    Info(InfoArgs),
    /// Fetch a published model into chiasm's store: the only command that uses the network
    Pull(PullArgs),
    /// Take a copy of a model's folder into chiasm's store, after all of it has been opened
    Import(ImportArgs),
    /// Check the files of stored models against their checksums
    Verify(VerifyArgs),
    /// Take a model out of chiasm's store
    Rm(RmArgs),
}

/// Arguments of `chiasm model list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Only what is here
    #[arg(long)]
    here: bool,
    #[command(flatten)]
    models: ModelsArg,
}

/// Arguments of `chiasm model info`.
#[derive(Args)]
pub(crate) struct InfoArgs {
    /// A name that `chiasm model list` prints, another name of the same model, or the path of a model's .json or folder
    name: String,
    #[command(flatten)]
    models: ModelsArg,
}

#[derive(Serialize)]
struct Row {
    name: String,
    aliases: &'static [&'static str],
    /// What it takes, `image+text` where it has several towers.
    kind: String,
    dim: Option<usize>,
    licence: Option<&'static str>,
    languages: Option<&'static str>,
    megabytes: Option<u32>,
    /// The file or folder that an encoder of the catalogue needs.
    needs: Option<&'static str>,
    /// Whether its architecture can be opened.
    supported: bool,
    found: bool,
    /// Where it is: `store`, `models`, `Hugging Face's cache`.
    place: Option<&'static str>,
    about: String,
}

/// `chiasm model ...`
pub(crate) fn run(command: &ModelCommand, ui: &Ui) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::List(args) => list(args, ui),
        ModelCommand::Info(args) => info(args, ui),
        ModelCommand::Pull(args) => model_store::pull(args, ui),
        ModelCommand::Import(args) => model_store::import(args, ui),
        ModelCommand::Verify(args) => model_store::verify(args, ui),
        ModelCommand::Rm(args) => model_store::rm(args, ui),
    }
}

fn list(args: &ListArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let mut rows: Vec<Row> = chiasm_encode::catalogue().iter().map(|info| of_catalogue(info, &models)).collect();
    rows.extend(chiasm_encode::published().iter().map(|known| of_published(known, &models)));
    rows.extend(others(&models));
    rows.retain(|row| row.found || !args.here);
    let looked: Vec<String> = models.dirs().iter().map(|d| d.to_string_lossy().into_owned()).collect();
    if ui.json {
        let (store, cache) = (models.store(), models.hub_cache());
        ui.print_json(&serde_json::json!({ "models": rows, "looked_in": looked, "store": store, "hub_cache": cache }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = rows.iter().map(|r| r.name.chars().count()).max().unwrap_or(0);
    for row in &rows {
        let (state, paint) = match row {
            Row { needs: None, found: true, place: None, .. } => ("no weights needed", Paint::Good),
            Row { found: true, place: Some(place), .. } if *place != Place::Models.as_str() => (*place, Paint::Good),
            Row { found: true, .. } => ("here", Paint::Good),
            Row { supported: false, .. } => ("not supported yet", Paint::Dim),
            _ => ("not here", Paint::Warn),
        };
        let state = ui.paint(paint, &format!("{state:<20}"));
        let dim = row.dim.map_or_else(|| "-".to_owned(), |dim| format!("{dim}-d"));
        let megabytes = row.megabytes.map_or_else(String::new, about_size);
        ui.print(format!(
            "{:<width$}  {:<10}  {dim:>7}  {state}  {megabytes:>8}  {}\n",
            escape(&row.name),
            row.kind,
            escape(&row.about)
        ))?;
    }
    ui.remark(format!("looked in {}", looked.join(", ")));
    if let Some(cache) = models.hub_cache() {
        ui.remark(format!("and in Hugging Face's cache, {}", shown(cache)));
    }
    if rows.iter().any(|r| !r.found) {
        ui.hint("`chiasm model pull NAME` fetches a published one; for others name their folder with `--models DIR` or in CHIASM_MODELS");
    }
    Ok(ExitCode::SUCCESS)
}

fn of_catalogue(info: &ModelInfo, models: &ModelDirs) -> Row {
    let published = chiasm_encode::published_as(info.name);
    let located = published.and_then(|known| chiasm_encode::locate(known.name, models));
    let found = info.needs.is_none_or(|file| located.is_some() || models.dirs().iter().any(|dir| dir.join(file).exists()));
    Row {
        name: info.name.to_owned(),
        aliases: &[],
        kind: info.modality.to_string(),
        dim: Some(info.dim),
        licence: Some(info.licence),
        languages: None,
        megabytes: None,
        needs: info.needs,
        supported: true,
        found,
        place: (found && info.needs.is_some()).then_some(Place::Models.as_str()),
        about: info.about.to_owned(),
    }
}

fn of_published(known: &'static Published, models: &ModelDirs) -> Row {
    let place = place(known.name, models);
    Row {
        name: known.name.to_owned(),
        aliases: known.aliases,
        kind: kinds(known.towers().iter().map(|kind| kind.as_str())),
        dim: Some(known.dim),
        licence: known.licence,
        languages: known.languages,
        megabytes: known.megabytes,
        needs: None,
        supported: known.is_supported(),
        found: place.is_some(),
        place,
        about: known.about.to_owned(),
    }
}

/// What is here beside the published: models that were imported, revisions, and what Hugging Face's cache holds.
fn others(models: &ModelDirs) -> Vec<Row> {
    let row = |name: String, kind: String, dim: Option<usize>, place: &'static str, about: String| Row {
        name,
        aliases: &[],
        kind,
        dim,
        licence: None,
        languages: None,
        megabytes: None,
        needs: None,
        supported: true,
        found: true,
        place: Some(place),
        about,
    };
    let is_listed = |name: &ModelName| name.published().is_some_and(|known| known.name == name.to_string());
    let mut rows = Vec::new();
    let own = chiasm_encode::NANO;
    if let (Some(Place::BuiltIn), Ok(towers)) =
        (chiasm_encode::locate(own, models).map(|found| found.place), chiasm_encode::towers(own, models))
    {
        let kind = kinds(towers.iter().map(|kind| kind.as_str()));
        let about = "this project's own, of generated scenes and emoji: models/chiasm-nano/MODEL_CARD.md".to_owned();
        rows.push(row(own.to_owned(), kind, None, Place::BuiltIn.as_str(), about));
    }
    for entry in Store::of(models).map(|store| store.entries()).unwrap_or_default() {
        if is_listed(&entry.name) {
            continue;
        }
        rows.push(match &entry.manifest {
            Some(manifest) => {
                let kind = kinds(manifest.towers.iter().map(|tower| tower.kind.as_str()));
                let dim = manifest.towers.first().map(|tower| tower.dim);
                row(entry.name.to_string(), kind, dim, "store", format!("from {}", manifest.source))
            }
            None => row(entry.name.to_string(), String::new(), None, "store", "damaged, see `chiasm model verify`".to_owned()),
        });
    }
    for (name, path) in chiasm_encode::hub_cache(models) {
        if is_listed(&name) || rows.iter().any(|row| row.name == name.to_string()) {
            continue;
        }
        // The cache is shared with other programs: what cannot be opened here is none of this list.
        if let Ok(towers) = chiasm_encode::towers_of(&path) {
            let kind = kinds(towers.iter().map(|kind| kind.as_str()));
            rows.push(row(name.to_string(), kind, None, Place::HubCache.as_str(), String::new()));
        }
    }
    rows
}

/// Where a published model is.
fn place(name: &str, models: &ModelDirs) -> Option<&'static str> {
    let located = chiasm_encode::locate(name, models)?;
    let stored = located.path.join(chiasm_encode::MANIFEST).is_file();
    Some(if stored { "store" } else { located.place.as_str() })
}

/// A size that is known roughly.
fn about_size(megabytes: u32) -> String {
    if megabytes < 1000 { format!("{megabytes} MB") } else { size(u64::from(megabytes) * 1_000_000) }
}

fn kinds<'a>(towers: impl Iterator<Item = &'a str>) -> String {
    towers.collect::<Vec<_>>().join("+")
}

#[derive(Serialize)]
struct Tower {
    name: String,
    kind: &'static str,
    dim: usize,
    fingerprint: String,
}

fn info(args: &InfoArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let known = chiasm_encode::published_as(&args.name);
    let located = chiasm_encode::locate(&args.name, &models);
    let towers = match chiasm_encode::towers(&args.name, &models) {
        Ok(kinds) => {
            let open = |kind: &chiasm_core::Modality| -> anyhow::Result<Tower> {
                let name = if kinds.len() == 1 { args.name.clone() } else { chiasm_encode::tower_name(&args.name, *kind) };
                let encoder = chiasm_encode::open(&name, &models)?;
                let (kind, dim) = (encoder.modality().as_str(), encoder.dim());
                Ok(Tower { name, kind, dim, fingerprint: encoder.fingerprint().to_owned() })
            };
            kinds.iter().map(open).collect::<anyhow::Result<Vec<Tower>>>()?
        }
        // Of what is published something can be told before it is here.
        Err(OpenError::NotHere { .. }) if known.is_some() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let listed = chiasm_encode::catalogue().iter().find(|info| info.name == args.name);
    let (licence, about) = match (listed, known) {
        (Some(info), _) => (Some(info.licence), Some(info.about)),
        (None, Some(known)) => (known.licence, Some(known.about)),
        (None, None) => (None, None),
    };
    // Features have no classes: an encoder says so by an error.
    let classes =
        if towers.is_empty() { Vec::new() } else { chiasm_encode::class_names(&args.name, &models).unwrap_or_default() };
    if ui.json {
        let figures: Vec<_> = known.map_or(&[][..], |known| known.figures).iter().map(figure_json).collect();
        let first = towers.first();
        ui.print_json(&serde_json::json!({
            "name": args.name,
            "published_as": known.map(|known| known.name),
            "aliases": known.map(|known| known.aliases),
            "supported": known.map(Published::is_supported),
            "found": !towers.is_empty(),
            "path": located.as_ref().map(|found| found.path.to_string_lossy()),
            "kind": first.filter(|_| towers.len() == 1).map(|tower| tower.kind),
            "dim": first.map(|tower| tower.dim).or(known.map(|known| known.dim)),
            "fingerprint": first.filter(|_| towers.len() == 1).map(|tower| &tower.fingerprint),
            "towers": towers,
            "licence": licence,
            "languages": known.and_then(|known| known.languages),
            "megabytes": known.and_then(|known| known.megabytes),
            "about": about,
            "figures": figures,
            "classes": classes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("name         {}\n", ui.paint(Paint::Bold, &escape(&args.name)));
    if let Some(known) = known {
        if known.name != args.name {
            text += &format!("published as {}\n", known.name);
        }
        text += &format!("also called  {}\n", known.aliases.join(", "));
    }
    if let Some(about) = about {
        text += &format!("about        {about}\n");
    }
    if towers.is_empty() {
        let takes = known.map(|known| kinds(known.towers().iter().map(|kind| kind.as_str()))).filter(|kinds| !kinds.is_empty());
        text += &format!("takes        {}\n", takes.as_deref().unwrap_or("a kind of media that chiasm does not read yet"));
        text += &known.map_or_else(String::new, |known| format!("gives        {} numbers\n", known.dim));
    }
    for tower in &towers {
        text += &format!("takes        {}, gives {} numbers; fingerprint {}\n", tower.kind, tower.dim, tower.fingerprint);
    }
    if let Some(languages) = known.and_then(|known| known.languages) {
        text += &format!("languages    {languages}\n");
    }
    if known.is_some() || licence.is_some() {
        text +=
            &format!("licence      {}\n", licence.unwrap_or("not stated on the model's page: look there before you use it"));
    }
    if let Some(n) = known.and_then(|known| known.megabytes) {
        text += &format!("weights      about {}\n", about_size(n));
    }
    match &located {
        Some(found) if found.place == Place::BuiltIn => text += "stands in    this program itself\n",
        Some(found) if found.place != Place::Path => text += &format!("stands in    {}\n", shown(&found.path)),
        _ => {}
    }
    for figure in known.map_or(&[][..], |known| known.figures) {
        let [r1, r5, r10] = figure.recalls;
        text += &format!("{:<22}  R@1 {r1:5.1}  R@5 {r5:5.1}  R@10 {r10:5.1}  ({})\n", figure.task, figure.source);
    }
    if !classes.is_empty() {
        let first: Vec<&str> = classes.iter().take(5).map(String::as_str).collect();
        text += &format!("classes      {}: {}, ... (all with --json)\n", classes.len(), first.join(", "));
    }
    ui.print(text)?;
    match known {
        Some(known) if towers.is_empty() && known.is_supported() => {
            ui.hint(format!("it is not here: `chiasm model pull {}` fetches it", known.name));
        }
        Some(known) if towers.is_empty() => {
            ui.remark(format!("its architecture, {}, cannot be opened by this version of chiasm", known.family));
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn figure_json(figure: &chiasm_encode::Figure) -> serde_json::Value {
    let [r1, r5, r10] = figure.recalls;
    serde_json::json!({ "task": figure.task, "R@1": r1, "R@5": r5, "R@10": r10, "source": figure.source })
}
