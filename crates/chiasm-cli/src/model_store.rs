//! `chiasm model pull | import | verify | rm`: what comes into chiasm's own store of models and what leaves it.

use std::path::PathBuf;
use std::process::ExitCode;

use chiasm_encode::{Entry, Manifest, ModelName, Place, Store};
use chiasm_hub::{Hub, HubConfig};
use clap::Args;

use crate::ModelsArg;
use crate::ui::{DONE, FAILED, Paint, Ui, count, escape, hinted, shown, size, usage};

/// Arguments of `chiasm model pull`.
#[derive(Args)]
pub(crate) struct PullArgs {
    /// A published model by any of its names (`chiasm model list` prints some), such as `openai/clip-vit-base-patch32`,
    /// `ViT-B-32/openai` or `hf-hub:org/name`; `@REVISION` behind it for another than the main one
    name: String,
    /// Use no network: say whether it is here [also: $HF_HUB_OFFLINE=1]
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    models: ModelsArg,
}

/// Arguments of `chiasm model import`.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// Folder of a model, as Hugging Face or sentence-transformers lay it out
    path: PathBuf,
    /// What to call it [default: as the folder is called]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Link the files instead of copying them: no space is used, but who changes the originals in place changes the model
    #[arg(long)]
    link: bool,
    #[command(flatten)]
    models: ModelsArg,
}

/// Arguments of `chiasm model verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// A model of the store [default: all]
    name: Option<String>,
    #[command(flatten)]
    models: ModelsArg,
}

/// Arguments of `chiasm model rm`.
#[derive(Args)]
pub(crate) struct RmArgs {
    /// A model of the store
    name: String,
    #[command(flatten)]
    models: ModelsArg,
}

/// `chiasm model pull`
pub(crate) fn pull(args: &PullArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let name = ModelName::parse(&args.name).map_err(usage)?;
    let listed = chiasm_encode::catalogue().iter().find(|info| info.name == args.name);
    match (listed, name.published()) {
        (Some(info), None) if info.needs.is_none() => return Err(usage(format!("`{}` needs no weights", args.name))),
        (Some(info), None) => {
            return Err(hinted(
                format!("`{}` is not published where it could be fetched from", args.name),
                format!("put `{}` and what belongs to it into a folder of models", info.needs.unwrap_or_default()),
            ));
        }
        (_, Some(known)) if !known.is_supported() => {
            return Err(hinted(
                format!(
                    "`{name}` was not fetched: its architecture, {}, cannot be opened by this version of chiasm",
                    known.family
                ),
                "`chiasm model list` tells which can",
            ));
        }
        _ => {}
    }
    let store = Store::of(&models)?;
    let elsewhere = chiasm_encode::locate(&name.to_string(), &models).filter(|_| store.entry(&name).is_none());
    if let Some(found) = elsewhere.filter(|found| found.place != Place::Path)
        && let Ok(towers) = chiasm_encode::towers_at(&found.path)
    {
        let path = shown(&found.path);
        if ui.json {
            ui.print_json(&serde_json::json!({ "name": name.to_string(), "was_here": true, "path": path, "towers": towers }))?;
        } else {
            ui.print(format!("{name}: here already, in {path}; nothing was fetched\n"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let hub = Hub::new(HubConfig::from_env(args.offline))?;
    let pulled = chiasm_hub::pull(&hub, &store, &name, &ui.in_bytes(), &ui.cancel)?;
    tell(&pulled.entry, if pulled.was_here { "here already, and whole" } else { "fetched" }, pulled.was_here, ui)
}

/// `chiasm model import`
pub(crate) fn import(args: &ImportArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let store = Store::of(&args.models.dirs())?;
    let entry = store.import(&args.path, args.name.as_deref(), args.link, &ui.in_bytes(), &ui.cancel)?;
    tell(&entry, "imported", false, ui)
}

/// What is in the store now.
fn tell(entry: &Entry, done: &str, was_here: bool, ui: &Ui) -> anyhow::Result<ExitCode> {
    let path = shown(&entry.folder);
    if ui.json {
        ui.print_json(&serde_json::json!({
            "name": entry.name.to_string(), "was_here": was_here, "path": path, "model": entry.manifest,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(manifest) = &entry.manifest else { return Ok(ExitCode::SUCCESS) };
    let towers: Vec<String> = manifest.towers.iter().map(|t| format!("{} to {} numbers", t.kind, t.dim)).collect();
    ui.print(format!("{}: {done}; {}; {}, in {path}\n", entry.name, towers.join(", "), files_of(manifest)))?;
    if manifest.towers.len() > 1 {
        ui.hint(format!("`chiasm index DIR --model {}` makes a library in its space", entry.name));
    } else if let Some(tower) = manifest.towers.first() {
        ui.hint(format!("`chiasm space fit --{} {} ...` learns a space with it", tower.kind, entry.name));
    }
    Ok(ExitCode::SUCCESS)
}

fn files_of(manifest: &Manifest) -> String {
    format!("{}, {}", count(manifest.files.len(), "file"), size(manifest.bytes()))
}

/// `chiasm model verify`: exit code 1 when a file is missing or changed.
pub(crate) fn verify(args: &VerifyArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let store = Store::of(&models)?;
    let entries = match &args.name {
        None => store.entries(),
        Some(name) => {
            let name = ModelName::parse(name).map_err(usage)?;
            let elsewhere = chiasm_encode::locate(&name.to_string(), &models);
            let Some(entry) = store.entry(&name) else {
                return Err(hinted(
                    format!("`{name}` is not in the store {}", shown(store.root())),
                    match elsewhere {
                        Some(found) => format!(
                            "it stands in {}, of which chiasm has no checksums: `chiasm model import` takes in a copy",
                            shown(&found.path)
                        ),
                        None => format!("`chiasm model pull {name}` fetches it"),
                    },
                ));
            };
            vec![entry]
        }
    };
    let mut reports = Vec::new();
    let mut n_bad = 0;
    for entry in &entries {
        let problems = store.verify(entry, &ui.in_bytes(), &ui.cancel)?;
        n_bad += usize::from(!problems.is_empty());
        if !ui.json {
            let state = match (&entry.manifest, problems.is_empty()) {
                (Some(manifest), true) => ui.paint(Paint::Good, &format!("whole: {}", files_of(manifest))),
                _ => ui.paint(Paint::Error, "damaged"),
            };
            ui.print(format!("{}  {state}\n", entry.name))?;
            for problem in &problems {
                ui.print(format!("  {}: {}\n", escape(&problem.file), escape(&problem.what)))?;
            }
        }
        reports.push(serde_json::json!({ "name": entry.name.to_string(), "whole": problems.is_empty(), "problems": problems }));
    }
    if ui.json {
        ui.print_json(&serde_json::json!({ "clean": n_bad == 0, "models": reports }))?;
    } else if entries.is_empty() {
        ui.print(format!("the store {} holds no models\n", shown(store.root())))?;
    }
    if n_bad > 0 {
        ui.hint("`chiasm model pull NAME` fetches anew what is damaged of a published model; an imported one must be imported again");
    }
    Ok(ExitCode::from(if n_bad == 0 { DONE } else { FAILED }))
}

/// `chiasm model rm`
pub(crate) fn rm(args: &RmArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let models = args.models.dirs();
    let name = ModelName::parse(&args.name).map_err(usage)?;
    let store = Store::of(&models)?;
    let removed = store.remove(&name, &models)?;
    if ui.json {
        ui.print_json(&serde_json::json!({ "name": name.to_string(), "n_bytes": removed.bytes, "left": removed.left }))?;
    } else {
        ui.print(format!("{name}: removed, {} freed\n", size(removed.bytes)))?;
        for path in &removed.left {
            ui.remark(format!("{} is not of the store and stays", shown(path)));
        }
    }
    Ok(ExitCode::SUCCESS)
}
