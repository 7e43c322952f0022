//! Questions put to a library, through its index, as a user would put them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chiasm_core::{Media, Modality, Progress as _, Vectors};
use chiasm_engine::{Item, Library, Query, QueryMedia, Rerank, SearchRequest};
use chiasm_eval::trec::{Qrels, Retrieved, Run};
use chiasm_eval::{EvalConfig, JudgeError, Judged, evaluate};

use super::pairs::{Column, Embedded, Thing, columns, embed, judge};
use super::{EvalArgs, Outcome, read_qrels, root_of};
use crate::ModelsArg;
use crate::locate;
use crate::query::media;
use crate::ui::{Ui, shown, usage};

/// Where nothing else is asked for, every item is ranked up to this many: a mean over whole rankings of a larger library costs
/// more than its last digits are worth.
const MOST_ANSWERS: usize = 10_000;

/// Remarks of single searches that are told, of all different ones.
const MOST_REMARKS: usize = 5;

/// An open library and what its items are called in runs and qrels.
struct Asked<'a> {
    library: Library,
    items: Vec<Item>,
    /// By item number: the path below the indexed folder, with `/`; the whole path where two would be called the same.
    ids: BTreeMap<i64, String>,
    /// By path.
    by_path: BTreeMap<PathBuf, i64>,
    by_id: BTreeMap<String, i64>,
    rerank: Option<Rerank>,
    args: &'a EvalArgs,
    ui: &'a Ui,
}

/// One query and what is relevant to it, by the ids of items.
struct Question {
    id: String,
    what: QueryMedia,
    relevant: BTreeMap<String, i64>,
}

impl<'a> Asked<'a> {
    fn open(args: &'a EvalArgs, ui: &'a Ui) -> anyhow::Result<Self> {
        let at = locate::LibraryArg { library: args.library.clone(), models: ModelsArg { models: args.models.models.clone() } };
        let rerank = args.rerank.open(&at.dirs())?;
        let library = at.open()?;
        let items = library.items(None)?;
        if items.is_empty() {
            bail!("the library {} is empty: fill it with `chiasm index DIR`", shown(library.dir()));
        }
        let roots = library.info()?.roots;
        let short = |item: &Item| {
            let path = item.paths.first().cloned().unwrap_or_default();
            let below = roots.iter().filter_map(|root| path.strip_prefix(root).ok()).filter(|p| !p.as_os_str().is_empty());
            let id = below.min_by_key(|p| p.as_os_str().len()).unwrap_or(&path).to_string_lossy().into_owned();
            if std::path::MAIN_SEPARATOR == '/' { id } else { id.replace(std::path::MAIN_SEPARATOR, "/") }
        };
        let mut n_called: BTreeMap<String, usize> = BTreeMap::new();
        for item in &items {
            *n_called.entry(short(item)).or_default() += 1;
        }
        let name = |item: &Item| {
            let id = short(item);
            let path = item.paths.first().map(|p| p.to_string_lossy().into_owned());
            // Imported rows of two kinds may have one name, and so may one path below two roots.
            if n_called[&id] == 1 { id } else { path.filter(|p| *p != id).unwrap_or_else(|| format!("{}:{id}", item.kind)) }
        };
        let ids: BTreeMap<i64, String> = items.iter().map(|item| (item.id, name(item))).collect();
        let by_id = ids.iter().map(|(item, id)| (id.clone(), *item)).collect();
        let by_path = items.iter().flat_map(|item| item.paths.iter().map(|p| (p.clone(), item.id))).collect();
        Ok(Asked { library, items, ids, by_path, by_id, rerank, args, ui })
    }

    /// The item at a path as a table writes it: as it is, made absolute, with links followed, or as an id.
    fn item_at(&self, path: &Path, cell: &str) -> Option<i64> {
        let absolute = || std::path::absolute(path).ok();
        let real = || path.canonicalize().ok();
        let by = |p: PathBuf| self.by_path.get(&p).copied();
        self.by_path
            .get(path)
            .copied()
            .or_else(|| by(absolute()?))
            .or_else(|| by(real()?))
            .or_else(|| self.by_id.get(cell).copied())
    }

    fn kinds_present(&self) -> Vec<Modality> {
        let asked = &self.args.kinds;
        let is_there = |m: &Modality| self.items.iter().any(|item| item.kind == *m) && (asked.is_empty() || asked.contains(m));
        Modality::ALL.into_iter().filter(is_there).collect()
    }

    /// Asks every question for items of some kinds and judges the answers.
    fn ask(&self, title: &str, questions: Vec<Question>, kinds: &[Modality], config: &EvalConfig) -> anyhow::Result<Outcome> {
        let k = self.args.k.map_or(self.items.len().min(MOST_ANSWERS), |k| k as usize);
        let mut outcome = Outcome::default();
        if k < self.items.len() {
            outcome
                .remarks
                .push(format!("{title}: the first {k} answers were judged; a relevant item after them counts as not found"));
        }
        let (mut run, mut qrels) = (Run { tag: "chiasm".to_owned(), ..Run::default() }, Qrels::default());
        let (mut judged, mut n_skipped) = (Vec::with_capacity(questions.len()), 0);
        // Those of a search are said once, not with every query.
        let mut remarks = BTreeSet::new();
        self.ui.start(title, Some(questions.len() as u64));
        for question in questions {
            self.ui.cancel.check()?;
            let gains: BTreeMap<String, f64> =
                question.relevant.iter().map(|(id, r)| (id.clone(), (*r).max(0) as f64)).collect();
            qrels.queries.insert(question.id.clone(), question.relevant);
            let query = Query::of(question.what);
            let lanes = self.args.lanes.clone();
            let rerank = self.rerank.clone();
            let request = SearchRequest { query, k, kinds: kinds.to_vec(), lanes, rerank, ..SearchRequest::default() };
            let reply = self.library.search(&request).with_context(|| format!("query `{}`", question.id))?;
            let ranked: Vec<&String> = reply.hits.iter().map(|hit| &self.ids[&hit.item]).collect();
            match Judged::from_ids(ranked.iter().copied(), &gains) {
                Ok(one) => judged.push(one.with_gallery(reply.n_candidates.max(gains.len()))),
                Err(JudgeError::NoRelevant) => n_skipped += 1,
                Err(other) => return Err(other.into()),
            }
            // The order of the answers is that of the joined ranks of several lanes, else of z where all have one, else of the
            // score: a run keeps what orders it. What was put in order anew has no one number for that but its place.
            let by_z = reply.hits.iter().all(|hit| hit.z.is_some());
            let n = reply.hits.len();
            let found = reply.hits.iter().zip(&ranked).enumerate().map(|(place, (hit, id))| Retrieved {
                document: (*id).clone(),
                score: match &self.rerank {
                    Some(_) => (n - place) as f64,
                    None => hit.fused.unwrap_or_else(|| f64::from(hit.z.filter(|_| by_z).unwrap_or(hit.score))),
                },
            });
            run.queries.insert(question.id, found.collect());
            reply.remarks.into_iter().for_each(|remark| _ = remarks.insert(remark));
            self.ui.advance(1);
        }
        self.ui.finish();
        let n_more = remarks.len().saturating_sub(MOST_REMARKS);
        outcome.remarks.extend(remarks.into_iter().take(MOST_REMARKS));
        if n_more > 0 {
            outcome
                .remarks
                .push(format!("{title}: {n_more} more remarks on single queries, `chiasm search` tells those of one"));
        }
        outcome.reports.push(evaluate(title, &judged, n_skipped, config));
        outcome.trec = Some((run, qrels));
        Ok(outcome)
    }
}

/// `--library L --queries FILE --qrels FILE`
pub(super) fn queries(path: &Path, args: &EvalArgs, config: &EvalConfig, ui: &Ui) -> anyhow::Result<Outcome> {
    let asked = Asked::open(args, ui)?;
    let mut qrels = read_qrels(args)?;
    let (mut n_unknown, mut unknown) = (0, None);
    for documents in qrels.queries.values_mut() {
        let named = std::mem::take(documents).into_iter().map(|(document, relevance)| {
            let item = asked.by_id.get(&document).copied().or_else(|| asked.item_at(Path::new(&document), &document));
            if item.is_none() {
                n_unknown += 1;
                unknown.get_or_insert_with(|| document.clone());
            }
            (item.map_or(document, |item| asked.ids[&item].clone()), relevance)
        });
        *documents = named.collect();
    }
    let root = root_of(path, args);
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", shown(path)))?;
    let (mut questions, mut n_unjudged, mut seen) = (Vec::new(), 0, BTreeSet::new());
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}, line {}", shown(path), at + 1);
        let (id, kind, value) = parse_query(line).with_context(place)?;
        if !seen.insert(id.clone()) {
            bail!("{}: the query `{id}` appears a second time", place());
        }
        let Some(relevant) = qrels.queries.remove(&id) else {
            n_unjudged += 1;
            continue;
        };
        let what = match kind {
            Asking::Words => QueryMedia::Media(Media::Text(value)),
            Asking::File(modality) => QueryMedia::Media(media(&root.join(value), modality).with_context(place)?),
            Asking::Item => QueryMedia::Item(match asked.item_at(&root.join(&value), &value) {
                Some(item) => item,
                None => asked.library.find_item(&value).with_context(place)?.id,
            }),
        };
        questions.push(Question { id, what, relevant });
    }
    if questions.is_empty() {
        bail!("no query of {} has a judgement in the qrels: do their ids agree?", shown(path));
    }
    let mut outcome = asked.ask("queries", questions, &args.kinds, config)?;
    if let Some(first) = unknown {
        let line =
            format!("{n_unknown} judged documents are not in the library and count as not found, the first is `{first}`");
        outcome.remarks.push(line);
    }
    if n_unjudged > 0 {
        outcome.remarks.push(format!("{n_unjudged} queries have no judgement and were left out"));
    }
    if !qrels.queries.is_empty() {
        outcome.remarks.push(format!("{} judged queries are not among the queries and were left out", qrels.queries.len()));
    }
    Ok(outcome)
}

/// How a query is given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asking {
    Words,
    File(Modality),
    Item,
}

/// `{"id": "7", "text": "a dog"}`, `7<TAB>a dog`, or `7<TAB>audio<TAB>bark.wav`.
fn parse_query(line: &str) -> anyhow::Result<(String, Asking, String)> {
    let asking = |word: &str| match word {
        "text" | "words" => Some(Asking::Words),
        "item" | "like" => Some(Asking::Item),
        "text-file" => Some(Asking::File(Modality::Text)),
        _ => word.parse().ok().map(Asking::File),
    };
    if line.trim_start().starts_with('{') {
        let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(line)?;
        let string = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let id = object.get("id").map(string).context("no `id`: expected {\"id\": ..., \"text\": ...}")?;
        let mut parts = object.iter().filter_map(|(key, value)| Some((asking(key)?, string(value))));
        return match (parts.next(), parts.next()) {
            (Some((kind, value)), None) => Ok((id, kind, value)),
            _ => bail!("expected exactly one of text, image, audio, series, video, text-file, item beside the id"),
        };
    }
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    match fields.as_slice() {
        [id, words] if !id.is_empty() && !words.is_empty() => Ok(((*id).to_owned(), Asking::Words, (*words).to_owned())),
        [id, kind, value] if !id.is_empty() && !value.is_empty() => match asking(kind) {
            Some(asking) => Ok(((*id).to_owned(), asking, (*value).to_owned())),
            None => bail!("`{kind}` is no kind of query: expected text, text-file, image, audio, series, video or item"),
        },
        _ => bail!("{} tab-separated fields, expected `id<TAB>words` or `id<TAB>kind<TAB>words or file`", fields.len()),
    }
}

/// `--library L --by-folder`
pub(super) fn by_folder(args: &EvalArgs, config: &EvalConfig, ui: &Ui) -> anyhow::Result<Outcome> {
    let asked = Asked::open(args, ui)?;
    let mut outcome = Outcome::default();
    for kind in asked.kinds_present() {
        let mut folders: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
        for item in asked.items.iter().filter(|item| item.kind == kind) {
            for path in &item.paths {
                // An item that lies in the indexed folder itself has no folder of its own to be named after.
                let own = Path::new(&asked.ids[&item.id]).parent().is_some_and(|p| !p.as_os_str().is_empty());
                let Some(name) = path.parent().filter(|_| own).and_then(Path::file_name) else { continue };
                folders.entry(name.to_string_lossy().into_owned()).or_default().insert(asked.ids[&item.id].clone(), 1);
            }
        }
        let question = |(name, relevant): (String, BTreeMap<String, i64>)| {
            let words = name.replace(['_', '-'], " ");
            Question { id: name, what: QueryMedia::Media(Media::Text(words)), relevant }
        };
        let questions: Vec<Question> = folders.into_iter().map(question).collect();
        if !questions.is_empty() {
            merge(&mut outcome, asked.ask(&format!("folder name->{kind}"), questions, &[kind], config)?);
        }
    }
    if outcome.reports.is_empty() {
        bail!("no item of the library {} lies in a folder below an indexed one", shown(asked.library.dir()));
    }
    Ok(outcome)
}

/// `--library L --by-name`
pub(super) fn by_name(args: &EvalArgs, config: &EvalConfig, ui: &Ui) -> anyhow::Result<Outcome> {
    let asked = Asked::open(args, ui)?;
    let stems = |item: &Item| -> BTreeSet<String> {
        item.paths.iter().filter_map(|p| p.file_stem()).map(|s| s.to_string_lossy().into_owned()).collect()
    };
    let mut named: BTreeMap<(Modality, String), Vec<i64>> = BTreeMap::new();
    for item in &asked.items {
        for stem in stems(item) {
            named.entry((item.kind, stem)).or_default().push(item.id);
        }
    }
    let kinds = asked.kinds_present();
    let mut outcome = Outcome::default();
    for from in &kinds {
        for to in kinds.iter().filter(|to| *to != from) {
            let question = |item: &Item| {
                let partners = stems(item).into_iter().filter_map(|stem| named.get(&(*to, stem))).flatten();
                let relevant: BTreeMap<String, i64> = partners.map(|id| (asked.ids[id].clone(), 1)).collect();
                Question { id: asked.ids[&item.id].clone(), what: QueryMedia::Item(item.id), relevant }
            };
            let questions: Vec<Question> = asked.items.iter().filter(|item| item.kind == *from).map(question).collect();
            if questions.iter().any(|q| !q.relevant.is_empty()) {
                merge(&mut outcome, asked.ask(&format!("{from}->{to}"), questions, &[*to], config)?);
            }
        }
    }
    if outcome.reports.is_empty() {
        bail!("no two items of different kinds in the library {} share a file name", shown(asked.library.dir()));
    }
    Ok(outcome)
}

/// `--library L --pairs FILE`: texts find items through the index; items find texts among those of the table, which the library
/// does not hold.
pub(super) fn pairs(table: &Path, args: &EvalArgs, config: &EvalConfig, ui: &Ui) -> anyhow::Result<Outcome> {
    let asked = Asked::open(args, ui)?;
    let root = root_of(table, args);
    let lanes = asked.library.lanes_named(&args.lanes)?;
    // Several lanes are asked in words, each for itself; what they embed is compared in the first that knows words.
    let is_one = lanes.len() == 1;
    let of_words = lanes.iter().find(|lane| lane.space().modalities().contains(&Modality::Text));
    let lane = of_words.or(lanes.first()).context("a library has a lane")?;
    let space = lane.space();
    let kinds = asked.kinds_present();
    let known = space.modalities();
    let mut outcome = Outcome::default();
    let mut texts: Vec<(Column, Embedded)> = Vec::new();
    let mut files: Vec<Column> = Vec::new();
    for mut column in columns(&super::pairs::read(table)?, &root) {
        if column.modality == Modality::Text && column.things.iter().all(|t| matches!(t, Thing::Text { .. })) {
            if !known.contains(&Modality::Text) {
                return Err(usage("the library's space has no view for texts, so they cannot find anything in it"));
            }
            let embedded = embed(space, &column, &mut outcome.refused, ui)?;
            texts.push((column, embedded));
        } else if kinds.contains(&column.modality) {
            let n = column.things.len();
            column.things.retain(|thing| item_of(&asked, thing, &root).is_some());
            if column.things.len() < n {
                let missing = n - column.things.len();
                outcome.remarks.push(format!(
                    "{missing} of {n} files in the column of {} are not in the library and were left out",
                    column.name
                ));
            }
            files.push(column);
        }
    }
    files.retain(|column| !column.things.is_empty());
    if texts.is_empty() || files.is_empty() {
        bail!(
            "{} pairs no texts with files of the library {}: is `--images DIR` the folder its paths begin in?",
            shown(table),
            shown(asked.library.dir())
        );
    }
    for column in &files {
        if !known.contains(&column.modality) {
            outcome.remarks.push(format!("{} find no texts of the table: lane {} knows none", column.name, lane.name()));
        }
        let mut of_group: BTreeMap<u32, BTreeMap<String, i64>> = BTreeMap::new();
        for thing in &column.things {
            if let Some(item) = item_of(&asked, thing, &root) {
                of_group.entry(thing.group()).or_default().insert(asked.ids[&item].clone(), 1);
            }
        }
        let back = match known.contains(&column.modality) {
            true => Some(embed(space, column, &mut outcome.refused, ui)?),
            false => None,
        };
        for (text, embedded) in &texts {
            // Whoever looks again must have the words.
            let by_vector = is_one && asked.rerank.is_none();
            let questions = questions(text, &embedded.vectors, &of_group, by_vector);
            merge(&mut outcome, asked.ask(&format!("{}->{}", text.name, column.name), questions, &[column.modality], config)?);
            let Some(back) = &back else { continue };
            let mut report = judge(space, back, embedded)?.report(config);
            let mut only = if is_one { String::new() } else { format!(" (lane {} alone)", lane.name()) };
            if asked.rerank.is_some() {
                only += " (not re-ranked: the table's texts are not in the library)";
            }
            report.title = format!("{}->{}{only}", column.name, text.name);
            outcome.reports.push(report);
        }
    }
    Ok(outcome)
}

/// Texts as questions: by their vectors, or by their words where they are for several lanes.
fn questions(
    text: &Column,
    vectors: &Vectors,
    of_group: &BTreeMap<u32, BTreeMap<String, i64>>,
    by_vector: bool,
) -> Vec<Question> {
    let question = |(thing, vector): (&Thing, &[f32])| {
        let (line, words) = match thing {
            Thing::Text { line, text, .. } => (*line, Some(text)),
            Thing::File { .. } => (0, None),
        };
        let what = match words.filter(|_| !by_vector) {
            Some(words) => QueryMedia::Media(Media::Text(words.clone())),
            None => QueryMedia::Vector(Modality::Text, vector.to_vec()),
        };
        Question {
            id: format!("{}-{line}", text.name),
            what,
            relevant: of_group.get(&thing.group()).cloned().unwrap_or_default(),
        }
    };
    text.things.iter().zip(vectors.rows()).map(question).collect()
}

fn item_of(asked: &Asked<'_>, thing: &Thing, root: &Path) -> Option<i64> {
    let Thing::File { path, .. } = thing else { return None };
    asked.item_at(path, &path.strip_prefix(root).unwrap_or(path).to_string_lossy())
}

/// Adds one direction's outcome to the others'. Queries of two directions may have one id, so the later ones are told apart.
fn merge(all: &mut Outcome, one: Outcome) {
    all.reports.extend(one.reports);
    all.remarks.extend(one.remarks);
    all.refused.extend(one.refused);
    let Some((run, qrels)) = one.trec else { return };
    let Some((all_runs, all_qrels)) = &mut all.trec else {
        all.trec = Some((run, qrels));
        return;
    };
    let title = all.reports.last().map_or(String::new(), |r| r.title.clone());
    let taken: BTreeSet<String> = all_qrels.queries.keys().cloned().collect();
    let apart = |id: String| if taken.contains(&id) { format!("{title}:{id}") } else { id };
    all_runs.queries.extend(run.queries.into_iter().map(|(id, found)| (apart(id), found)));
    all_qrels.queries.extend(qrels.queries.into_iter().map(|(id, relevant)| (apart(id), relevant)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_in_three_forms() {
        let read = |line: &str| parse_query(line).unwrap();
        assert_eq!(read("7\ta dog"), ("7".into(), Asking::Words, "a dog".into()));
        assert_eq!(read("7\taudio\tbark.wav"), ("7".into(), Asking::File(Modality::Audio), "bark.wav".into()));
        assert_eq!(read(r#"{"id": 7, "item": "x.png", "note": "n"}"#), ("7".into(), Asking::Item, "x.png".into()));
    }

    #[test]
    fn bad_queries_are_refused() {
        for line in ["7", "\ta dog", "7\tsmell\tx", r#"{"text": "a"}"#, r#"{"id": 1, "text": "a", "image": "b"}"#, "{"] {
            assert!(parse_query(line).is_err(), "{line}");
        }
    }
}
