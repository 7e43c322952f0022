//! Pairs encoded in a space: every kind of media against every other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chiasm_core::{Media, Modality, Progress as _, Vectors};
use chiasm_engine::{Cut, Limits, Space, load_media};
use chiasm_eval::pairs::{Pairs, Role, read_pairs};
use chiasm_eval::{EvalConfig, cross};

use super::{EvalArgs, Outcome, root_of};
use crate::ui::{Ui, shown, usage};

/// Media that are encoded at once: enough to keep the cores busy, few enough to hold decoded.
const BATCH: usize = 32;
/// Videos at a time: each may be hundreds of megabytes.
const BATCH_OF_VIDEOS: usize = 4;

/// Things of one column: what to encode, and the group each belongs to.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) modality: Modality,
    pub(super) things: Vec<Thing>,
}

/// A text of the table, or a file it names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Text { text: String, group: u32, line: u64 },
    File { path: PathBuf, group: u32 },
}

impl Thing {
    pub(super) fn group(&self) -> u32 {
        match self {
            Thing::Text { group, .. } | Thing::File { group, .. } => *group,
        }
    }
}

/// A column in the space.
pub(super) struct Embedded {
    pub(super) name: String,
    pub(super) modality: Modality,
    pub(super) vectors: Vectors,
    pub(super) groups: Vec<u32>,
}

/// One direction, ranked as a library ranks.
pub(super) fn judge(space: &Space, query: &Embedded, gallery: &Embedded) -> anyhow::Result<cross::Direction> {
    let queries = space.as_query(query.modality, &query.vectors)?;
    let base = space.as_gallery(gallery.modality, &gallery.vectors)?;
    let query = cross::Side { name: &query.name, vectors: &queries, groups: &query.groups, labels: None };
    let gallery = cross::Side { name: &gallery.name, vectors: &base, groups: &gallery.groups, labels: None };
    Ok(cross::judge(query, gallery, space.ranking_metric())?)
}

/// The columns of a table that hold media. A text stands once for each line; a file once for each group that names it, since the
/// five captions of a picture repeat its path.
pub(super) fn columns(table: &Pairs, root: &Path) -> Vec<Column> {
    let mut columns = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        let cells = table.rows.iter().filter_map(|row| Some((row, row.cells[at].as_deref()?)));
        let mut of_kind: BTreeMap<Modality, Vec<Thing>> = BTreeMap::new();
        for (row, cell) in cells {
            let (group, line) = (row.group, row.line);
            match column.role {
                Role::Other => {}
                Role::Text => {
                    of_kind.entry(Modality::Text).or_default().push(Thing::Text { text: cell.to_owned(), group, line });
                }
                Role::Media(modality) => {
                    of_kind.entry(modality).or_default().push(Thing::File { path: root.join(cell), group });
                }
                Role::File => {
                    let path = root.join(cell);
                    // What no ending tells is refused when it is read, as what its column's neighbours are.
                    let modality = chiasm_media::modality_of(&path).unwrap_or(Modality::Image);
                    of_kind.entry(modality).or_default().push(Thing::File { path, group });
                }
            }
        }
        for (modality, mut things) in of_kind {
            if things.iter().any(|t| matches!(t, Thing::File { .. })) {
                let mut seen = BTreeSet::new();
                things.retain(|thing| seen.insert(thing.clone()));
            }
            let name = if column.role == Role::Text && !["caption", "sentence", "description"].contains(&column.name.as_str()) {
                column.name.clone()
            } else {
                modality.as_str().to_owned()
            };
            columns.push(Column { name, modality, things });
        }
    }
    columns
}

/// Reads a table of pairs.
pub(super) fn read(path: &Path) -> anyhow::Result<Pairs> {
    read_pairs(path).with_context(|| shown(path))
}

/// `--space S --pairs FILE`
pub(super) fn in_space(space: &Path, table: &Path, args: &EvalArgs, config: &EvalConfig, ui: &Ui) -> anyhow::Result<Outcome> {
    let space = Space::load(space, &args.models.dirs())?;
    let known = space.modalities();
    let (mut outcome, mut sides) = (Outcome::default(), Vec::new());
    let pairs = read(table)?;
    outcome.refused.extend(pairs.wrong.iter().map(|wrong| format!("{}, {wrong}", shown(table))));
    for column in columns(&pairs, &root_of(table, args)) {
        if known.contains(&column.modality) {
            sides.push(embed(&space, &column, &mut outcome.refused, ui)?);
        } else {
            outcome.remarks.push(format!("the column of {} was left out: the space has no view for it", column.name));
        }
    }
    if sides.len() < 2 {
        let names: Vec<&str> = sides.iter().map(|s| s.name.as_str()).collect();
        return Err(usage(format!(
            "{} has {} columns that the space can encode ({}), two are needed to find one by the other",
            shown(table),
            sides.len(),
            names.join(", ")
        )));
    }
    let galleries = match args.gallery {
        None => vec![sides],
        Some(n) => deal(&sides, n as usize, &mut outcome)?,
    };
    let n_sides = galleries[0].len();
    for from in 0..n_sides {
        for to in (0..n_sides).filter(|to| *to != from) {
            let mut judged = galleries.iter().map(|sides| judge(&space, &sides[from], &sides[to]));
            let mut pooled = judged.next().expect("at least one gallery")?;
            for one in judged {
                let one = one?;
                pooled.rows.extend(one.rows);
                pooled.queries.extend(one.queries);
                pooled.expected_ap.extend(one.expected_ap);
                pooled.n_skipped += one.n_skipped;
                pooled.n_tied += one.n_tied;
            }
            let mut report = pooled.report(config);
            let (query, gallery) = (&galleries[0][from], &galleries[0][to]);
            report.title = format!("{}->{}", query.name, gallery.name);
            outcome.reports.push(report);
        }
    }
    Ok(outcome)
}

/// Deals the things (groups) of all columns in turn into as many galleries of `n` as they fill; the rest is left out and said.
fn deal(sides: &[Embedded], n: usize, outcome: &mut Outcome) -> anyhow::Result<Vec<Vec<Embedded>>> {
    let groups: BTreeSet<u32> = sides.iter().flat_map(|s| s.groups.iter().copied()).collect();
    let n_galleries = groups.len() / n;
    if n_galleries == 0 {
        bail!("--gallery {n}: the pairs hold only {} things", groups.len());
    }
    let n_left = groups.len() - n_galleries * n;
    outcome
        .remarks
        .push(format!("{n_galleries} galleries of {n} things each, their queries pooled; {n_left} things left over"));
    let gallery_of: BTreeMap<u32, usize> =
        groups.into_iter().take(n_galleries * n).enumerate().map(|(i, group)| (group, i % n_galleries)).collect();
    let of_gallery = |gallery: usize, side: &Embedded| -> anyhow::Result<Embedded> {
        let kept: Vec<usize> = (0..side.groups.len()).filter(|i| gallery_of.get(&side.groups[*i]) == Some(&gallery)).collect();
        let data = kept.iter().flat_map(|i| side.vectors.row(*i)).copied().collect();
        let groups = kept.iter().map(|i| side.groups[*i]).collect();
        Ok(Embedded {
            name: side.name.clone(),
            modality: side.modality,
            vectors: Vectors::new(data, side.vectors.dim())?,
            groups,
        })
    };
    (0..n_galleries).map(|gallery| sides.iter().map(|side| of_gallery(gallery, side)).collect()).collect()
}

/// Encodes a column; files that cannot be read go to `refused`.
pub(super) fn embed(space: &Space, column: &Column, refused: &mut Vec<String>, ui: &Ui) -> anyhow::Result<Embedded> {
    let (mut data, mut groups) = (Vec::new(), Vec::new());
    ui.start(&format!("encoding {}", column.name), Some(column.things.len() as u64));
    let at_a_time = if column.modality == Modality::Video { BATCH_OF_VIDEOS } else { BATCH };
    for chunk in column.things.chunks(at_a_time) {
        ui.cancel.check()?;
        let mut batch = Vec::with_capacity(chunk.len());
        for thing in chunk {
            match media(thing, column.modality) {
                Ok(media) => {
                    batch.push(media);
                    groups.push(thing.group());
                }
                Err(reason) => refused.push(reason),
            }
        }
        data.extend(embed_batch(space, &batch)?);
        ui.advance(chunk.len() as u64);
    }
    ui.finish();
    if groups.is_empty() {
        bail!("nothing in the column of {} could be encoded: {}", column.name, refused.first().map_or("it is empty", |r| r));
    }
    let vectors = Vectors::new(data, space.dim())?;
    Ok(Embedded { name: column.name.clone(), modality: column.modality, vectors, groups })
}

/// Short media at once; those that the library would cut into parts one by one, as queries are.
fn embed_batch(space: &Space, batch: &[Media]) -> anyhow::Result<Vec<f32>> {
    if batch.iter().all(|media| chiasm_media::spans(media, &Cut::default()).spans.len() <= 1) {
        return Ok(space.embed(batch)?.into_data());
    }
    let mut data = Vec::with_capacity(batch.len() * space.dim());
    for media in batch {
        data.extend(space.embed_query(media)?);
    }
    Ok(data)
}

fn media(thing: &Thing, modality: Modality) -> Result<Media, String> {
    match thing {
        Thing::Text { text, .. } => Ok(Media::Text(text.clone())),
        Thing::File { path, .. } => match load_media(path, &Limits::default()) {
            Ok(media) if media.modality() == modality => Ok(media),
            Ok(media) => Err(format!("{}: holds {}, its column is of {modality}", shown(path), media.modality())),
            Err(error) => Err(error.to_string()),
        },
    }
}
