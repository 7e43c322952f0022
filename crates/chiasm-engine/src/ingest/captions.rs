//! Texts beside media, which belong to the media's items.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chiasm_core::{Media, Modality};
use rusqlite::{Connection, OptionalExtension, params};

use super::embed::embed_in_lanes;
use super::rows::{add_segments, forget_refusal, store};
use super::{Parts, Run, Waiting, lies_unseen};
use crate::library::below;
use crate::pipeline::{self, Content, Refused};
use crate::store::path_bytes;
use crate::walk::{Caption, Stat, Walked};
use crate::{EngineError, Result};

/// Captions that make a transaction.
const STORE_CAPTIONS: usize = 64;

impl Run<'_> {
    /// Attaches texts to the items they lie beside, and detaches those that no longer do.
    pub(super) fn captions(&mut self, roots: &[PathBuf], walked: &Walked) -> Result<()> {
        let mut due: Vec<(&Caption, i64)> = Vec::new();
        let mut present: HashSet<(i64, Vec<u8>)> = HashSet::new();
        let err = EngineError::store("cannot read captions", Path::new(""));
        for caption in &walked.captions {
            let mut items = BTreeSet::new();
            for path in &caption.of {
                let db = self.known.writer.connection();
                let sql = "SELECT item FROM paths WHERE path = ?1";
                let found = db
                    .prepare_cached(sql)
                    .and_then(|mut s| s.query_row([path_bytes(path)], |row| row.get::<_, i64>(0)).optional());
                items.extend(found.map_err(&err)?);
            }
            let mut fresh = true;
            for item in items {
                present.insert((item, path_bytes(&caption.path)));
                if !self.options.reread && self.caption_is_known(caption, item).map_err(&err)? {
                    continue;
                }
                fresh = false;
                due.push((caption, item));
            }
            if fresh {
                self.report.n_captions += 1;
                self.progress.advance(1);
            }
        }
        if !due.is_empty() {
            self.warm_up(Modality::Text)?;
        }
        for batch in due.chunks(STORE_CAPTIONS) {
            self.cancel.check()?;
            self.store_captions(batch)?;
        }
        self.detach(roots, walked, &present)
    }

    fn caption_is_known(&self, caption: &Caption, item: i64) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM captions WHERE item = ?1 AND path = ?2 AND size = ?3 AND mtime_ns = ?4 AND settled = 1";
        let Stat { size, mtime_ns } = caption.stat;
        self.known.writer.connection().prepare_cached(sql)?.exists(params![
            item,
            path_bytes(&caption.path),
            size as i64,
            mtime_ns
        ])
    }

    fn store_captions(&mut self, batch: &[(&Caption, i64)]) -> Result<()> {
        struct Read<'a> {
            caption: &'a Caption,
            item: i64,
            content: Content,
            parts: Arc<Parts>,
        }
        let (mut read, mut same, mut waiting) = (Vec::new(), Vec::new(), Waiting::default());
        let err = EngineError::store("cannot read captions", Path::new(""));
        for (caption, item) in batch {
            match pipeline::prepare(&caption.path, &self.options.limits, |_| false, &|_| Vec::new()) {
                Err(refused) => waiting.refused.push((caption.path.clone(), caption.stat, refused)),
                Ok(mut content) => match content.decoded.take().map(|d| d.media) {
                    Some(media @ Media::Text(_)) => {
                        let known = "SELECT id FROM captions WHERE item = ?1 AND hash = ?2";
                        let db = self.known.writer.connection();
                        let found = db
                            .prepare_cached(known)
                            .and_then(|mut s| s.query_row((item, content.hash), |row| row.get::<_, i64>(0)).optional());
                        match found.map_err(&err)? {
                            Some(id) => same.push((*caption, id, content)),
                            None => {
                                let spans = chiasm_media::spans(&media, &self.options.cut).spans;
                                let parts = Arc::new(Parts { media: vec![media], spans });
                                read.push(Read { caption, item: *item, content, parts });
                            }
                        }
                    }
                    _ => {
                        let refused = Refused {
                            reason: "lies beside media as their caption, but holds no text".to_owned(),
                            lasting: true,
                        };
                        waiting.refused.push((caption.path.clone(), caption.stat, refused));
                    }
                },
            }
        }
        let parts: Vec<Arc<Parts>> = read.iter().map(|r| Arc::clone(&r.parts)).collect();
        let mut sound = Vec::new();
        let lanes = self.lanes;
        let in_lanes = self.encoders.install(|| embed_in_lanes(lanes, &parts))?;
        for (read, embedded) in read.iter().zip(in_lanes) {
            match embedded {
                Ok(in_lanes) => sound.push((read, in_lanes)),
                Err(reason) => {
                    waiting.refused.push((read.caption.path.clone(), read.caption.stat, Refused { reason, lasting: true }))
                }
            }
        }
        self.known.writer.batch(|tx| {
            for (caption, id, content) in &same {
                let sql = "UPDATE OR REPLACE captions SET path = ?1, size = ?2, mtime_ns = ?3, settled = ?4 WHERE id = ?5";
                let Stat { size, mtime_ns } = content.stat;
                tx.prepare_cached(sql)?.execute(params![
                    path_bytes(&caption.path),
                    size as i64,
                    mtime_ns,
                    content.settled,
                    id
                ])?;
                forget_refusal(tx, &path_bytes(&caption.path))?;
            }
            for (read, in_lanes) in &sound {
                let path = path_bytes(&read.caption.path);
                tx.prepare_cached("DELETE FROM captions WHERE item = ?1 AND path = ?2")?.execute((read.item, &path))?;
                let sql = "INSERT INTO captions (item, path, size, mtime_ns, settled, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let Stat { size, mtime_ns } = read.content.stat;
                let values = params![read.item, &path, size as i64, mtime_ns, read.content.settled, read.content.hash];
                tx.prepare_cached(sql)?.execute(values)?;
                let id = tx.last_insert_rowid();
                add_segments(tx, read.item, Some(id), &read.parts, in_lanes)?;
                forget_refusal(tx, &path)?;
            }
            store(tx, &waiting)
        })?;
        sound.iter().for_each(|(read, in_lanes)| self.tell(&read.caption.path, in_lanes));
        // A caption of several items is one file.
        let taken: BTreeSet<&Path> =
            same.iter().map(|(c, ..)| c.path.as_path()).chain(sound.iter().map(|(r, _)| r.caption.path.as_path())).collect();
        self.report.n_captions += taken.len();
        self.progress.advance(taken.len() as u64);
        self.stored(&mut waiting, true);
        Ok(())
    }

    fn detach(&mut self, roots: &[PathBuf], walked: &Walked, present: &HashSet<(i64, Vec<u8>)>) -> Result<()> {
        let err = EngineError::store("cannot read captions", Path::new(""));
        let list = |db: &Connection| -> rusqlite::Result<Vec<i64>> {
            let mut gone = Vec::new();
            let mut statement = db.prepare("SELECT id, item, path FROM captions WHERE path >= ?1 AND path < ?2")?;
            for root in roots {
                let mut rows = statement.query(below(root))?;
                while let Some(row) = rows.next()? {
                    let key = (row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?);
                    if !present.contains(&key) && !lies_unseen(&key.1, walked) {
                        gone.push(row.get(0)?);
                    }
                }
            }
            Ok(gone)
        };
        let gone = list(self.known.writer.connection()).map_err(&err)?;
        if gone.is_empty() {
            return Ok(());
        }
        self.known.writer.batch(|tx| {
            let mut statement = tx.prepare_cached("DELETE FROM captions WHERE id = ?1")?;
            gone.iter().try_for_each(|id| statement.execute([id]).map(|_| ()))
        })
    }
}
