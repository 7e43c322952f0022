//! Several rankings joined in one, of models and of words, and what was found as it is told.

use std::collections::{BTreeMap, HashMap, HashSet};

use chiasm_core::Modality;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::asked::{Asked, item_of, name_of};
use super::ranked::{Candidate, Ranked, closeness_of};
use super::{Found, InLane, Order, SearchRequest, Strength};
use crate::derived::modality_at;
use crate::library::{METADATA_COLUMNS, item_metadata, one_line, span_at};
use crate::store::path_of;
use crate::words::{self, Field, Holds};
use crate::{Library, Result};

/// How many of each ranking are joined. The number is the same for every page of a list, so that pages fit together; what no ranking has
/// among so many comes after, by its place in the ranking that has it first.
pub(super) const JOINED: usize = 200;
/// What is added to a rank before it is turned round (Cormack et al.).
const RANK_OFFSET: f64 = 60.0;
/// How much a place counts that an item has for some of the words alone. Chosen among 0, .05, .1, .25, .5 and 1 on captions of photos, asked for
/// by sentences and by two to five words: at 1 sentences lose 10 points of R@1, for words then count as much as all that a model reads
/// (`reference/hybrid_weights.py`).
const SOME_WORDS: f64 = 0.05;
/// Of so many of the closest items those that stand out are put in the order of their dates.
pub(super) const DATED: usize = 500;

/// An answer on its way to be told.
pub(super) struct Shown {
    /// The item as a model sees it, or as words do where none was asked.
    candidate: Candidate,
    /// The part that holds words of the query, if any does.
    words_in: Option<i64>,
    all_words: bool,
    fused: Option<f64>,
    lanes: Vec<InLane>,
}

impl Shown {
    /// As the one lane that was asked sees it.
    pub(super) fn alone(candidate: Candidate) -> Shown {
        Shown { candidate, words_in: None, all_words: false, fused: None, lanes: Vec::new() }
    }

    fn strength(&self) -> Strength {
        Strength::of(self.candidate.chance, self.all_words)
    }
}

/// See [`SearchReply::cut`]; `limit` is how many were asked for.
pub(super) fn cut(shown: &[Shown], limit: usize) -> Option<usize> {
    let known = shown.iter().any(|s| s.strength() != Strength::Unknown);
    let cut = shown.iter().rposition(|s| s.strength().stands_out()).map_or(0, |last| last + 1);
    (known && (cut < shown.len() || cut < limit)).then_some(cut)
}

impl Library {
    /// The items whose texts or names hold words of a query.
    pub(super) fn by_words(
        &self,
        reader: &Connection,
        words: &words::Asked,
        field: Field,
        request: &SearchRequest,
        depth: usize,
        alone: bool,
    ) -> Result<Option<Vec<Holds>>> {
        let err = self.store.err("cannot look for words");
        let (sql, values) = condition(reader, request).map_err(&err)?;
        words.find(reader, field, (&sql, &values), depth, alone).map_err(err)
    }

    /// How many items kinds and filter leave.
    pub(super) fn n_allowed(&self, reader: &Connection, request: &SearchRequest) -> Result<usize> {
        let count = || -> rusqlite::Result<i64> {
            let (sql, values) = condition(reader, request)?;
            reader
                .prepare_cached(&format!("SELECT count(*) FROM items i WHERE {sql}"))?
                .query_row(params_from_iter(values), |row| row.get(0))
        };
        Ok(count().map_err(self.store.err("cannot count items"))? as usize)
    }

    /// The best `k` of several rankings, joined by reciprocal ranks.
    pub(super) fn joined(
        &self,
        asked: &[Asked<'_>],
        rankings: &[Ranked],
        by_words: &[(Field, Vec<Holds>)],
        k: usize,
    ) -> Result<Vec<Shown>> {
        let of_models = rankings.iter().map(|r| r.candidates.iter().map(|c| c.item).collect());
        let of_words = by_words.iter().map(|(_, found)| found.iter().map(|h| h.item).collect());
        let lists: Vec<Vec<i64>> = of_models.chain(of_words).collect();
        let mut scores: BTreeMap<i64, f64> = BTreeMap::new();
        for (list, items) in lists.iter().enumerate() {
            for (at, item) in items.iter().take(JOINED).enumerate() {
                let weight = match list.checked_sub(rankings.len()).map(|field| &by_words[field].1[at]) {
                    Some(holds) if !holds.all => SOME_WORDS,
                    _ => 1.0,
                };
                *scores.entry(*item).or_default() += weight / (RANK_OFFSET + (at + 1) as f64);
            }
        }
        let mut order: Vec<(i64, Option<f64>)> = scores.into_iter().map(|(item, score)| (item, Some(score))).collect();
        order.sort_by(|(a, x), (b, y)| y.unwrap_or(0.0).total_cmp(&x.unwrap_or(0.0)).then(a.cmp(b)));
        let mut seen: HashSet<i64> = order.iter().map(|(item, _)| *item).collect();
        let deepest = lists.iter().map(Vec::len).max().unwrap_or(0);
        for at in JOINED..deepest {
            let further = lists.iter().filter_map(|list| list.get(at)).copied();
            order.extend(further.filter(|item| seen.insert(*item)).map(|item| (item, None)));
        }
        let places: Vec<HashMap<i64, usize>> =
            lists.iter().map(|list| list.iter().enumerate().map(|(at, item)| (*item, at)).collect()).collect();
        let mut all = Vec::new();
        for (item, score) in order.into_iter().take(k) {
            let held: Vec<(usize, usize)> =
                places.iter().enumerate().filter_map(|(list, places)| places.get(&item).map(|at| (list, *at))).collect();
            let words: Vec<(Field, &Holds)> = held
                .iter()
                .filter_map(|(list, at)| {
                    by_words.get(list.checked_sub(rankings.len())?).map(|(field, found)| (*field, &found[*at]))
                })
                .collect();
            let model = held.iter().filter(|(list, _)| *list < rankings.len()).min_by_key(|(list, at)| (*at, *list));
            let seen = match (model, words.first()) {
                (Some((list, at)), _) => Some(rankings[*list].candidates[*at].clone()),
                // Only its words were found: told with the closeness that the first model which knows it sees there.
                (None, Some((_, holds))) => {
                    let seen =
                        asked.iter().zip(rankings).find_map(|(asked, ranked)| closeness_of(asked, &ranked.live, holds.segment));
                    Some(seen.unwrap_or_else(|| Candidate::by_words(holds)))
                }
                (None, None) => None,
            };
            let Some(mut candidate) = seen else { continue };
            let words_in = words.iter().find(|(field, _)| *field == Field::Texts).map(|(_, holds)| holds.segment);
            if let Some(segment) = words_in.filter(|_| candidate.via == Modality::Text) {
                candidate.segment = segment;
            }
            let in_lane = |(list, at): &(usize, usize)| match rankings.get(*list) {
                Some(ranked) => {
                    let c = &ranked.candidates[*at];
                    let (z, chance) = (c.z.map(|z| z as f32), c.chance.map(|c| c as f32));
                    InLane { lane: ranked.lane.clone(), rank: at + 1, score: c.score as f32, z, chance }
                }
                None => {
                    let (field, found) = &by_words[list - rankings.len()];
                    InLane {
                        lane: name_of(*field).to_owned(),
                        rank: at + 1,
                        score: found[*at].score as f32,
                        z: None,
                        chance: None,
                    }
                }
            };
            all.push(Shown {
                candidate,
                words_in,
                all_words: words.iter().any(|(_, holds)| holds.all),
                fused: score,
                lanes: held.iter().map(in_lane).collect(),
            });
        }
        Ok(all)
    }

    /// Those that stand out, by their dates.
    pub(super) fn dated(
        &self,
        reader: &Connection,
        mut shown: Vec<Shown>,
        cut: Option<usize>,
        order: Order,
    ) -> Result<Vec<Shown>> {
        shown.truncate(cut.unwrap_or(DATED).min(DATED));
        let taken = |item: i64| -> rusqlite::Result<Option<String>> {
            let mut statement = reader.prepare_cached("SELECT taken FROM items WHERE id = ?1")?;
            Ok(statement.query_row([item], |row| row.get(0)).optional()?.flatten())
        };
        let err = self.store.err("cannot read dates");
        let dates = shown.iter().map(|s| taken(s.candidate.item)).collect::<rusqlite::Result<Vec<_>>>().map_err(err)?;
        let mut dated: Vec<(Option<String>, Shown)> = dates.into_iter().zip(shown).collect();
        dated.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) if order == Order::Newest => b.cmp(a),
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        Ok(dated.into_iter().map(|(_, shown)| shown).collect())
    }
}

/// Kinds and filter of a request as a condition on `items AS i`, with the items asked with left out.
fn condition(reader: &Connection, request: &SearchRequest) -> rusqlite::Result<(String, Vec<Value>)> {
    let (mut sql, values) = crate::browse::condition(reader, request.filter.as_ref(), &request.kinds)?;
    let own: Vec<String> = request.query.parts.iter().filter_map(|p| item_of(&p.what)).map(|id| id.to_string()).collect();
    if !own.is_empty() {
        sql = format!("{sql} AND i.id NOT IN ({})", own.join(", "));
    }
    Ok((sql, values))
}

/// An answer as it is told, with what the catalogue knows; none where it has left the library.
pub(super) fn found(reader: &Connection, shown: &Shown, words: Option<&words::Asked>) -> rusqlite::Result<Option<Found>> {
    let candidate = &shown.candidate;
    let sql = format!(
        "SELECT i.kind, p.path, s.span_unit, s.span_start, s.span_end, t.body, {METADATA_COLUMNS}
        FROM items i
        JOIN segments s ON s.id = ?2 AND s.item = i.id
        JOIN paths p ON p.path = (SELECT min(path) FROM paths WHERE item = i.id)
        LEFT JOIN texts t ON t.segment = s.id
        WHERE i.id = ?1"
    );
    let read = |row: &rusqlite::Row<'_>| {
        let body: Option<String> = row.get(5)?;
        let found = Found {
            item: candidate.item,
            path: path_of(row.get(1)?),
            kind: modality_at(row, 0)?,
            via: candidate.via,
            score: candidate.score as f32,
            z: candidate.z.map(|z| z as f32),
            chance: candidate.chance.map(|c| c as f32),
            rerank_score: None,
            span: span_at(row, 2)?,
            snippet: None,
            marks: Vec::new(),
            all_words: shown.all_words,
            metadata: item_metadata(row, 6)?,
            fused: shown.fused,
            lanes: shown.lanes.clone(),
        };
        Ok((found, body))
    };
    let Some((mut found, mut body)) =
        reader.prepare_cached(&sql)?.query_row((candidate.item, candidate.segment), read).optional()?
    else {
        return Ok(None);
    };
    if let Some(segment) = shown.words_in.filter(|segment| *segment != candidate.segment) {
        let sql = "SELECT body FROM texts WHERE segment = ?1";
        body = reader.prepare_cached(sql)?.query_row([segment], |row| row.get(0)).optional()?;
    }
    if body.is_none() {
        let sql = "SELECT t.body FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = ?1 ORDER BY s.id LIMIT 1";
        body = reader.prepare_cached(sql)?.query_row([candidate.item], |row| row.get(0)).optional()?;
    }
    match (body, words) {
        (Some(body), Some(words)) => {
            let (snippet, marks) = words.passage(&body);
            (found.snippet, found.marks) = (Some(snippet), marks);
        }
        (body, _) => found.snippet = body.map(|body| one_line(&body)),
    }
    Ok(Some(found))
}
