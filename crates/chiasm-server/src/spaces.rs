//! Making the library from the page: which spaces and models are on this machine, and a library in one of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use chiasm_core::Modality;
use chiasm_engine::{Library, Space};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, Work};
use crate::error::ApiError;
use crate::status::now;
use crate::tokens::Scope;
use crate::wire::{In, Kind};

/// What a library may be built in.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SpaceBody {
    /// To be named in POST /library
    name: String,
    /// `space` for one that was fitted, `model` for a dual encoder that brings its own
    what: &'static str,
    /// What can be found in it
    kinds: Vec<Kind>,
    dim: Option<usize>,
    path: String,
    licence: Option<&'static str>,
}

/// What is on this machine.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SpacesBody {
    spaces: Vec<SpaceBody>,
    /// Folders that were looked in
    looked_in: Vec<String>,
}

/// Spaces and models of the server's machine that a library may be built in
#[utoipa::path(get, path = "/spaces", tag = "library", responses((status = 200, description = "What is here", body = SpacesBody)))]
pub(crate) async fn spaces(State(app): State<Arc<App>>) -> Result<Json<SpacesBody>, ApiError> {
    app.run(Work::Slow, |app| {
        let looked_in = folders(app).iter().map(|folder| folder.to_string_lossy().into_owned()).collect();
        Ok(Json(SpacesBody { spaces: here(app), looked_in }))
    })
    .await
}

/// Folders that models and spaces are looked for in: those of models, and the one the library is to stand in.
fn folders(app: &App) -> Vec<PathBuf> {
    let mut folders = app.config.models.dirs().to_vec();
    folders.extend(app.config.library.parent().map(Path::to_owned));
    folders
}

fn here(app: &App) -> Vec<SpaceBody> {
    let mut found: Vec<SpaceBody> = Vec::new();
    for folder in folders(app) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            let shown = path.to_string_lossy().into_owned();
            if path.extension().is_some_and(|ending| ending == "space") {
                if let Ok(space) = Space::load(&path, &app.config.models) {
                    let kinds = space.modalities().into_iter().map(Kind::from).collect();
                    found.push(SpaceBody {
                        name: shown.clone(),
                        what: "space",
                        kinds,
                        dim: Some(space.dim()),
                        path: shown,
                        licence: None,
                    });
                }
            } else if path.is_dir() {
                found.extend(model(&shown, &shown, None));
            }
        }
    }
    for known in chiasm_encode::published() {
        if let Some(located) = chiasm_encode::locate(known.name, &app.config.models) {
            found.extend(model(known.name, &located.path.to_string_lossy(), known.licence));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.path == b.path);
    found
}

/// A model whose folder says that it knows texts and another kind, so that it brings a space along. Nothing is loaded.
fn model(name: &str, folder: &str, licence: Option<&'static str>) -> Option<SpaceBody> {
    let towers = chiasm_encode::towers_of(Path::new(folder)).ok()?;
    if towers.len() < 2 || !towers.contains(&Modality::Text) {
        return None;
    }
    let kinds = towers.iter().map(|kind| Kind::from(*kind)).collect();
    Some(SpaceBody { name: name.to_owned(), what: "model", kinds, dim: None, path: folder.to_owned(), licence })
}

/// Which space.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LibraryChoice {
    /// A name that GET /spaces gave
    name: String,
}

/// Make the library, empty, in a space or a model's own
#[utoipa::path(post, path = "/library", tag = "library", request_body = LibraryChoice, responses(
    (status = 201, description = "It is made", body = crate::status::StatusBody)
))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    In(choice): In<LibraryChoice>,
) -> Result<Response, ApiError> {
    app.run(Work::Slow, move |app| {
        let _turn = app.jobs.turn()?;
        if app.library_if_any().is_some() {
            return Err(ApiError::conflict("there is a library already").cure("start another server with another --library"));
        }
        let chosen = here(app).into_iter().find(|space| space.name == choice.name);
        let chosen = chosen.ok_or_else(|| {
            let message = format!("there is no space or model called `{}` here", choice.name.escape_debug());
            ApiError::not_found("no_such_space", message).cure("GET /api/v1/spaces lists what there is")
        })?;
        let space = match chosen.what {
            "space" => Space::load(Path::new(&chosen.path), &app.config.models)?,
            _ => Space::of_model(&chosen.name, &app.config.models)?,
        };
        app.set_library(Library::open_or_create(&app.config.library, &space, &app.config.models)?);
        app.jobs.changed();
        Ok((StatusCode::CREATED, Json(now(app, scope)?)).into_response())
    })
    .await
}
