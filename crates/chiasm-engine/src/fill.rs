//! Vectors that a lane lacks, because it was added to a library with items in it.
//!
//! Words are in the database; other media are read from their files again, decoded once for all lanes that lack them, and cut where they
//! were cut before. Each batch is one transaction, and what is lacking is asked of the database, so a run that ends early, however
//! it ends, leaves whole batches and the next one does the rest. A file that is away or has changed leaves its item lacking.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chiasm_core::{Media, Modality, Span};
use rusqlite::Connection;

use crate::ingest::{ENCODE_PARTS, Embedded, Lacking, Refusal, Run, embed};
use crate::lane::{Lane, insert_gap, insert_vector};
use crate::library::span_at;
use crate::pipeline::{self, Content, Event, media_bytes};
use crate::store::path_of;
use crate::{EngineError, Result};

/// Texts of a transaction.
const STORE_TEXTS: i64 = 64;

/// An item whose file was read again.
struct Filling {
    path: PathBuf,
    media: Media,
    segments: Vec<i64>,
    spans: Vec<Span>,
    /// Places of the lanes that lack it.
    lanes: BTreeSet<usize>,
    n_bytes: usize,
}

/// An item that lanes lack, and where it lies.
struct Wanted {
    item: i64,
    hash: [u8; 32],
    path: PathBuf,
    lanes: BTreeSet<usize>,
}

fn err(source: rusqlite::Error) -> EngineError {
    EngineError::store("cannot read what a lane lacks", Path::new(""))(source)
}

impl Run<'_> {
    /// Makes what lanes lack.
    pub(crate) fn fill(&mut self) -> Result<()> {
        let lanes = self.lanes;
        let db = self.known.writer.connection();
        let mut filling: Vec<&Lane> = Vec::new();
        let mut n_lacking = 0;
        for lane in lanes {
            if !lane.is_complete(db).map_err(err)? {
                n_lacking += count(db, lane).map_err(err)?;
                filling.push(lane);
            }
        }
        if filling.is_empty() {
            return Ok(());
        }
        self.progress.finish();
        self.progress.start("lanes", Some(n_lacking as u64));
        for lane in &filling {
            self.imported(lane)?;
            self.texts(lane)?;
        }
        self.media(&filling)?;
        for lane in filling {
            let n_segments = count(self.known.writer.connection(), lane).map_err(err)?;
            if n_segments > 0 {
                self.report.lacking.push(Lacking { lane: lane.name().to_owned(), n_segments });
            } else {
                self.known.writer.batch(|tx| tx.execute("UPDATE lanes SET complete = 1 WHERE id = ?1", [lane.id]))?;
            }
        }
        Ok(())
    }

    /// Of what came as a vector, there is nothing to embed but its words.
    fn imported(&mut self, lane: &Lane) -> Result<()> {
        let of_lane = format!(
            "FROM segments s JOIN items i ON i.id = s.item WHERE i.format = 'imported' AND {} AND {}
                AND NOT EXISTS (SELECT 1 FROM texts t WHERE t.segment = s.id AND s.modality = 'text')",
            lane.due(),
            lane.lacking()
        );
        let sql = format!("SELECT EXISTS (SELECT 1 {of_lane})");
        if self.known.writer.connection().query_row(&sql, [], |row| row.get(0)).map_err(err)? {
            let sql = format!("INSERT INTO gaps (segment, lane, reason) SELECT s.id, ?1, 'came as a vector' {of_lane}");
            let n = self.known.writer.batch(|tx| tx.execute(&sql, [lane.id]))?;
            self.progress.advance(n as u64);
        }
        Ok(())
    }

    fn texts(&mut self, lane: &Lane) -> Result<()> {
        if !lane.knows(Modality::Text) {
            return Ok(());
        }
        let sql = format!(
            "SELECT s.id, t.body, ifnull((SELECT c.path FROM captions c WHERE c.id = s.caption),
                    (SELECT min(p.path) FROM paths p WHERE p.item = s.item))
                FROM segments s JOIN texts t ON t.segment = s.id
                WHERE s.modality = 'text' AND s.id > ?1 AND {} AND {} ORDER BY s.id LIMIT {STORE_TEXTS}",
            lane.due(),
            lane.lacking()
        );
        let mut last = 0;
        loop {
            self.cancel.check()?;
            let read = |db: &Connection| -> rusqlite::Result<Vec<(i64, Media, PathBuf)>> {
                let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Media::Text(row.get(1)?), path_of(row.get(2)?)));
                db.prepare_cached(&sql)?.query_map([last], read)?.collect()
            };
            let texts = read(self.known.writer.connection()).map_err(err)?;
            let Some((id, ..)) = texts.last() else { return Ok(()) };
            last = *id;
            let parts: Vec<(&Media, &[Span])> = texts.iter().map(|(_, text, _)| (text, [Span::Whole].as_slice())).collect();
            let embedded = self.encoders.install(|| embed(lane.space(), &parts))?;
            self.known.writer.batch(|tx| {
                texts.iter().zip(&embedded).try_for_each(|((id, ..), embedded)| insert(tx, lane, &[*id], embedded))
            })?;
            texts.iter().zip(embedded).for_each(|((_, _, path), embedded)| self.tell(path, &[(lane.id, embedded)]));
            self.progress.advance(texts.len() as u64);
        }
    }

    /// What must be read from files again, for all lanes at once.
    fn media(&mut self, lanes: &[&Lane]) -> Result<()> {
        let wanted = wanted(self.known.writer.connection(), lanes).map_err(err)?;
        let paths: Vec<&Path> = wanted.iter().map(|w| w.path.as_path()).collect();
        let mut batches: BTreeMap<Modality, Vec<Filling>> = BTreeMap::new();
        let (cancel, options) = (self.cancel.clone(), self.options);
        pipeline::run(&paths, &options.limits, options.max_waiting_bytes, &|_| false, &|_| Vec::new(), |event, flow| {
            cancel.check()?;
            let (place, content) = match event {
                Event::Full => {
                    let fullest =
                        batches.iter().max_by_key(|(_, b)| b.iter().map(|f| f.n_bytes).sum::<usize>()).map(|(m, _)| *m);
                    if let Some(batch) = fullest.and_then(|kind| batches.remove(&kind)) {
                        flow.give_back(self.store_filled(batch, lanes)?);
                    }
                    return Ok(());
                }
                Event::Idle => return Ok(()),
                Event::File(place, content) => (place, content),
            };
            let wanted = &wanted[place];
            let lacks =
                |reason: &str| Refusal { path: wanted.path.clone(), reason: format!("a lane still lacks it: {reason}") };
            let (hash, media) = match content {
                Ok(Content { hash, decoded: Some(decoded), .. }) => (hash, decoded.media),
                Ok(_) => return Ok(()),
                Err(refused) => {
                    self.report.notes.push(lacks(&refused.reason));
                    return Ok(());
                }
            };
            let n_bytes = media_bytes(&media);
            if hash != wanted.hash {
                flow.give_back(n_bytes);
                self.report.notes.push(lacks("it has changed since it was indexed"));
                return Ok(());
            }
            let (segments, spans) = parts_of(self.known.writer.connection(), wanted.item).map_err(err)?.into_iter().unzip();
            let kind = media.modality();
            let batch = batches.entry(kind).or_default();
            let path = wanted.path.clone();
            batch.push(Filling { path, media, segments, spans, lanes: wanted.lanes.clone(), n_bytes });
            let is_full = batch.iter().map(|f| f.spans.len()).sum::<usize>() >= ENCODE_PARTS
                || batch.iter().map(|f| f.n_bytes).sum::<usize>() >= options.max_waiting_bytes / 4;
            if is_full && let Some(batch) = batches.remove(&kind) {
                flow.give_back(self.store_filled(batch, lanes)?);
            }
            Ok(())
        })?;
        for (_, batch) in batches {
            self.cancel.check()?;
            self.store_filled(batch, lanes)?;
        }
        Ok(())
    }

    /// Embeds and stores a batch of one modality; gives the bytes its media took.
    fn store_filled(&mut self, batch: Vec<Filling>, lanes: &[&Lane]) -> Result<usize> {
        let mut made: Vec<(&Lane, &Filling, Embedded)> = Vec::new();
        for (place, lane) in lanes.iter().enumerate() {
            let lacking: Vec<&Filling> = batch.iter().filter(|f| f.lanes.contains(&place)).collect();
            let parts: Vec<(&Media, &[Span])> = lacking.iter().map(|f| (&f.media, f.spans.as_slice())).collect();
            let embedded = self.encoders.install(|| embed(lane.space(), &parts))?;
            made.extend(lacking.into_iter().zip(embedded).map(|(filling, embedded)| (*lane, filling, embedded)));
        }
        self.known
            .writer
            .batch(|tx| made.iter().try_for_each(|(lane, filling, embedded)| insert(tx, lane, &filling.segments, embedded)))?;
        self.progress.advance(made.iter().map(|(_, filling, _)| filling.segments.len() as u64).sum());
        made.into_iter().for_each(|(lane, filling, embedded)| self.tell(&filling.path, &[(lane.id, embedded)]));
        Ok(batch.iter().map(|f| f.n_bytes).sum())
    }
}

/// Parts that a lane lacks.
fn count(db: &Connection, lane: &Lane) -> rusqlite::Result<usize> {
    let sql = format!("SELECT count(*) FROM segments s WHERE {} AND {}", lane.due(), lane.lacking());
    Ok(db.query_row(&sql, [], |row| row.get::<_, i64>(0))? as usize)
}

/// Items that are no texts and that lanes lack, in order of their numbers, each with a file that is there, if any is.
fn wanted(db: &Connection, lanes: &[&Lane]) -> rusqlite::Result<Vec<Wanted>> {
    let mut lacked: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
    for (place, lane) in lanes.iter().enumerate() {
        let sql = format!(
            "SELECT DISTINCT s.item FROM segments s WHERE s.caption IS NULL AND s.modality != 'text' AND {} AND {}",
            lane.due(),
            lane.lacking()
        );
        let mut statement = db.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            lacked.entry(row.get(0)?).or_default().insert(place);
        }
    }
    let mut of_item =
        db.prepare("SELECT i.hash, p.path FROM items i JOIN paths p ON p.item = i.id WHERE i.id = ?1 ORDER BY p.path")?;
    let mut wanted = Vec::with_capacity(lacked.len());
    for (item, lanes) in lacked {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, [u8; 32]>(0)?, path_of(row.get(1)?)));
        let files: Vec<([u8; 32], PathBuf)> = of_item.query_map([item], read)?.collect::<rusqlite::Result<_>>()?;
        let there = files.iter().find(|(_, path)| path.is_file()).or(files.first());
        wanted.extend(there.map(|(hash, path)| Wanted { item, hash: *hash, path: path.clone(), lanes }));
    }
    Ok(wanted)
}

/// The parts that an item was cut into.
fn parts_of(db: &Connection, item: i64) -> rusqlite::Result<Vec<(i64, Span)>> {
    let sql = "SELECT id, span_unit, span_start, span_end FROM segments WHERE item = ?1 AND caption IS NULL ORDER BY id";
    db.prepare_cached(sql)?.query_map([item], |row| Ok((row.get(0)?, span_at(row, 1)?)))?.collect()
}

/// Stores what a lane made of parts that belong together.
fn insert(tx: &Connection, lane: &Lane, segments: &[i64], embedded: &Embedded) -> rusqlite::Result<()> {
    match embedded {
        Ok(vectors) => segments.iter().zip(vectors).try_for_each(|(id, vector)| insert_vector(tx, lane.id, *id, vector)),
        Err(reason) => segments.iter().try_for_each(|id| insert_gap(tx, lane.id, *id, reason)),
    }
}
