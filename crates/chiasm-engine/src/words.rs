//! Search by words: which texts, captions and file names hold those of the query.
//!
//! A model finds what is meant, words find what is written: a number in a file's name, a person, a word the model never met. Both lists
//! are joined by reciprocal ranks (`search/`). The words stand in SQLite's full-text index FTS5 and are ranked by its BM25 (Robertson and
//! Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with k1 = 1.2 and b = 0.75).
//!
//! # What a word is
//! A run of letters and digits, in small letters, without accents, by its English stem (Porter). In scripts that are written without
//! spaces every two characters in a row are a word, as in Lucene's analyser for Chinese, Japanese and Korean; a single character of a query matches those that begin
//! with it. In names, `beach2019` and `BeachHouse` are also known by their parts.

use std::collections::{BTreeSet, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::store::{has_table, path_of};

const TABLES: &str = include_str!("words.sql");
/// Words of a query that are looked for; of a longer one the first.
const MAX_TERMS: usize = 32;
/// Characters of a text that a snippet shows.
const SNIPPET_CHARS: usize = 200;
/// Characters that a snippet shows before the first word of the query.
const SNIPPET_BEFORE: usize = 60;
/// From so many texts on, words that stand in more than a tenth of them are looked for only together with all others: they cost most and
/// tell least.
const MANY_TEXTS: i64 = 50;
/// Letters of a word that is looked for where longer ones are: `a`, `in`, `of` stand everywhere.
const MIN_LETTERS: usize = 3;
/// Rows that are weighed at most where models are asked as well: what stands in more tells less than they do, and costs more.
const MAX_RANKED: i64 = 5_000;
/// Who types more words than these describes rather than names: beside a model only texts with every word are told. On captions of photos
/// sentences lost R@1 to texts with some of their words, and queries of two to five words gained (`reference/hybrid_weights.py`).
const FEW_WORDS: usize = 5;
/// An item that lacks some of the words is told only when it is at least this share as good as the best.
const SHARE_OF_BEST: f64 = 0.5;

/// Where words are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Texts and captions.
    Texts,
    /// Names of files and of their folders.
    Names,
}

impl Field {
    fn table(self) -> &'static str {
        match self {
            Field::Texts => "terms",
            Field::Names => "names",
        }
    }
}

/// A word of a query.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Term {
    text: String,
    /// Whether it stands for every word that begins with it.
    prefix: bool,
}

impl Term {
    /// Whether it tells something; in scripts without spaces every character does.
    fn is_long(&self) -> bool {
        self.prefix || self.text.chars().any(is_cjk) || self.text.chars().count() >= MIN_LETTERS
    }

    /// As FTS5 wants it; a term holds letters and digits alone, so no quote can end it.
    fn sql(&self) -> String {
        format!("\"{}\"{}", self.text, if self.prefix { " *" } else { "" })
    }
}

/// What is looked for, and what must not be there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    wanted: Vec<Term>,
    unwanted: Vec<Term>,
}

/// An item that holds words of the query.
#[derive(Clone, Debug)]
pub(crate) struct Holds {
    pub(crate) item: i64,
    /// The part that holds them; of a name the item's first.
    pub(crate) segment: i64,
    /// BM25, greater for better.
    pub(crate) score: f64,
    /// Whether all words of the query are there.
    pub(crate) all: bool,
}

impl Asked {
    /// The words of texts; `None` when the wanted ones hold none.
    pub(crate) fn new<'a>(wanted: impl Iterator<Item = &'a str>, unwanted: impl Iterator<Item = &'a str>) -> Option<Asked> {
        let of = |texts: &mut dyn Iterator<Item = &'a str>| -> Vec<Term> {
            let mut seen = BTreeSet::new();
            let all = texts.flat_map(query_terms).filter(|term| seen.insert(term.clone()));
            all.take(MAX_TERMS).collect()
        };
        let (mut wanted_texts, mut unwanted_texts) = (wanted, unwanted);
        let mut wanted = of(&mut wanted_texts);
        if wanted.iter().any(Term::is_long) {
            wanted.retain(Term::is_long);
        }
        (!wanted.is_empty()).then_some(Asked { wanted, unwanted: of(&mut unwanted_texts) })
    }

    /// The best items of a field, at most `depth`, best first; `condition` is one on `items AS i`, with its values. `alone` says that no
    /// model is asked, so that words must do whatever they cost. `None` where the library has no index of words yet.
    pub(crate) fn find(
        &self,
        connection: &Connection,
        field: Field,
        condition: (&str, &[Value]),
        depth: usize,
        alone: bool,
    ) -> rusqlite::Result<Option<Vec<Holds>>> {
        if !exist(connection)? {
            return Ok(None);
        }
        // Those with every word stand first whatever their weight.
        let every = self.expression(&self.wanted, " AND ");
        if !alone && count(connection, field, &every, MAX_RANKED)? > MAX_RANKED {
            return Ok(Some(Vec::new()));
        }
        let with_all = rows(connection, field, &every, condition, depth)?;
        let some_do = self.wanted.len() > 1 && (alone || self.wanted.len() <= FEW_WORDS);
        // A name is short: one word of many in it is chance.
        let telling = match field {
            Field::Texts if some_do && with_all.len() < depth => self.telling(connection)?,
            Field::Texts | Field::Names => Vec::new(),
        };
        let with_some = match telling.as_slice() {
            [] => Vec::new(),
            telling => rows(connection, field, &self.expression(telling, " OR "), condition, depth)?,
        };
        let mut best: HashMap<i64, Holds> = HashMap::new();
        let told = with_all.into_iter().map(|row| (row, true)).chain(with_some.into_iter().map(|row| (row, false)));
        for ((item, segment, score), all) in told {
            let holds = Holds { item, segment, score, all };
            let kept = best.entry(item).or_insert_with(|| holds.clone());
            if (holds.all, holds.score) > (kept.all, kept.score) {
                *kept = holds;
            }
        }
        let mut best: Vec<Holds> = best.into_values().collect();
        // Those that hold next to nothing of what was asked tell nothing.
        let least = best.iter().map(|holds| holds.score).fold(0.0, f64::max) * SHARE_OF_BEST;
        best.retain(|holds| holds.all || holds.score >= least);
        best.sort_by(|a, b| b.all.cmp(&a.all).then(b.score.total_cmp(&a.score)).then(a.item.cmp(&b.item)));
        Ok(Some(best))
    }

    /// The words that tell something of a library's texts: the rarest, as long as they stand in few enough of them.
    fn telling(&self, connection: &Connection) -> rusqlite::Result<Vec<Term>> {
        let n_texts: i64 =
            connection.prepare_cached("SELECT ifnull(max(id), 0) FROM terms_docsize")?.query_row([], |row| row.get(0))?;
        let many = if n_texts < MANY_TEXTS { MAX_RANKED } else { MAX_RANKED.min(n_texts / 10) };
        let mut counted = Vec::new();
        for term in &self.wanted {
            counted.push((count(connection, Field::Texts, &term.sql(), many)?, term));
        }
        counted.sort();
        let mut left = MAX_RANKED;
        let few = counted.into_iter().take_while(|(n, _)| {
            left -= n;
            *n <= many && left >= 0
        });
        Ok(few.map(|(_, term)| term.clone()).collect())
    }

    fn expression(&self, wanted: &[Term], joined: &str) -> String {
        let of = |terms: &[Term], joined: &str| terms.iter().map(Term::sql).collect::<Vec<_>>().join(joined);
        match self.unwanted.as_slice() {
            [] => of(wanted, joined),
            unwanted => format!("({}) NOT ({})", of(wanted, joined), of(unwanted, " OR ")),
        }
    }

    /// A text on one line of at most 200 characters about the first word of the query, and where words of it stand there: first
    /// character and the one after the last, counted in characters.
    pub(crate) fn passage(&self, body: &str) -> (String, Vec<(usize, usize)>) {
        let line: Vec<char> = body
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .collect();
        let first = self.marks(&line).first().map_or(0, |(start, _)| *start);
        let mut from =
            if line.len() <= SNIPPET_CHARS || first < SNIPPET_CHARS - SNIPPET_BEFORE { 0 } else { first - SNIPPET_BEFORE };
        // Not within a word, where there are spaces.
        if from > 0
            && let Some(space) = line[from..first].iter().position(|c| *c == ' ')
        {
            from += space + 1;
        }
        let mut shown: Vec<char> = Vec::new();
        if from > 0 {
            shown.extend(['…', ' ']);
        }
        let room = SNIPPET_CHARS - shown.len();
        if line.len() - from > room {
            shown.extend(&line[from..from + room - 1]);
            shown.push('…');
        } else {
            shown.extend(&line[from..]);
        }
        let marks = self.marks(&shown);
        (shown.into_iter().collect(), marks)
    }

    /// Where words of the query stand in a text.
    fn marks(&self, line: &[char]) -> Vec<(usize, usize)> {
        let mut marks: Vec<(usize, usize)> = Vec::new();
        for run in runs(line) {
            let word: String = line[run.start..run.end].iter().flat_map(|c| fold(*c)).collect();
            if run.cjk {
                let chars: Vec<char> = line[run.start..run.end].to_vec();
                for term in &self.wanted {
                    let wanted: Vec<char> = term.text.chars().collect();
                    if wanted.len() <= chars.len() && !wanted.is_empty() {
                        for at in (0..=chars.len() - wanted.len()).filter(|at| chars[*at..].starts_with(&wanted)) {
                            marks.push((run.start + at, run.start + at + wanted.len()));
                        }
                    }
                }
            } else if self.wanted.iter().any(|term| same_stem(&term.text, &word)) {
                marks.push((run.start, run.end));
            }
        }
        marks.sort_unstable();
        // Pairs of characters overlap: one mark for what hangs together.
        marks.into_iter().fold(Vec::new(), |mut joined: Vec<(usize, usize)>, (start, end)| {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
            joined
        })
    }
}

/// Whether the tables are there.
pub(crate) fn exist(connection: &Connection) -> rusqlite::Result<bool> {
    has_table(connection, "names_due")
}

/// How many rows an expression is true of; one more than `most` stands for all beyond.
fn count(connection: &Connection, field: Field, expression: &str, most: i64) -> rusqlite::Result<i64> {
    let table = field.table();
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ?1 LIMIT ?2)");
    connection.prepare_cached(&sql)?.query_row((expression, most + 1), |row| row.get(0))
}

/// Item, segment and score of the best rows.
fn rows(
    connection: &Connection,
    field: Field,
    expression: &str,
    (condition, values): (&str, &[Value]),
    depth: usize,
) -> rusqlite::Result<Vec<(i64, i64, f64)>> {
    // Several parts of one item may hold the words, so more rows are read than items are asked for.
    let limit = Value::Integer(i64::try_from(depth.saturating_mul(2)).unwrap_or(i64::MAX));
    let expression = Value::Text(expression.to_owned());
    let table = field.table();
    let of_match = format!("SELECT rowid AS id, rank FROM {table} WHERE {table} MATCH ?");
    let (item, segment) = match field {
        Field::Texts => ("s.item", "s.id"),
        Field::Names => ("m.id", "ifnull((SELECT min(id) FROM segments WHERE item = m.id), 0)"),
    };
    let join = match field {
        Field::Texts => "JOIN segments s ON s.id = m.id",
        Field::Names => "",
    };
    // Without a condition the best are chosen before anything is joined to them.
    let sql = match condition {
        "1" => format!("SELECT {item}, {segment}, m.rank FROM ({of_match} ORDER BY rank LIMIT ?) m {join}"),
        condition => format!(
            "SELECT {item}, {segment}, m.rank FROM ({of_match}) m {join} JOIN items i ON i.id = {item} WHERE {condition} ORDER BY m.rank LIMIT ?"
        ),
    };
    let bound = std::iter::once(expression).chain(values.iter().cloned()).chain([limit]);
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, -row.get::<_, f64>(2)?));
    connection.prepare_cached(&sql)?.query_map(params_from_iter(bound), read)?.collect()
}

/// Brings the index of words up to what the other tables hold; part of every transaction that writes.
pub(crate) fn catch_up(tx: &Connection) -> rusqlite::Result<()> {
    if !exist(tx)? {
        tx.execute_batch(TABLES)?;
    }
    // Numbers of segments only ever grow, so what is missing lies above what is there.
    let last: i64 = tx.prepare_cached("SELECT ifnull(max(id), 0) FROM terms_docsize")?.query_row([], |row| row.get(0))?;
    let mut texts = tx.prepare_cached("SELECT segment, body FROM texts WHERE segment > ?1 ORDER BY segment")?;
    let mut insert = tx.prepare_cached("INSERT INTO terms (rowid, body) VALUES (?1, ?2)")?;
    let mut rows = texts.query([last])?;
    while let Some(row) = rows.next()? {
        let terms = text_terms(row.get_ref(1)?.as_str()?);
        insert.execute((row.get::<_, i64>(0)?, terms))?;
    }
    let due: Vec<i64> =
        tx.prepare_cached("SELECT item FROM names_due")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut paths = tx.prepare_cached("SELECT path FROM paths WHERE item = ?1")?;
    for item in &due {
        let names: Vec<String> =
            paths.query_map([item], |row| Ok(name_terms(&path_of(row.get(0)?))))?.collect::<Result<_, _>>()?;
        tx.prepare_cached("DELETE FROM names WHERE rowid = ?1")?.execute([item])?;
        if !names.is_empty() {
            tx.prepare_cached("INSERT INTO names (rowid, body) VALUES (?1, ?2)")?.execute((item, names.join(" ")))?;
        }
    }
    if !due.is_empty() {
        tx.prepare_cached("DELETE FROM names_due")?.execute([])?;
    }
    Ok(())
}

/// A run of letters and digits, all or none of them of a script without spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: usize,
    end: usize,
    cjk: bool,
}

fn runs(chars: &[char]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, c) in chars.iter().enumerate().filter(|(_, c)| c.is_alphanumeric()) {
        let cjk = is_cjk(*c);
        match runs.last_mut() {
            Some(run) if run.end == at && run.cjk == cjk => run.end += 1,
            _ => runs.push(Run { start: at, end: at + 1, cjk }),
        }
    }
    runs
}

/// Whether a letter belongs to a script that is written without spaces: Han, kana, Thai, Lao, Khmer, Burmese.
fn is_cjk(c: char) -> bool {
    matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x2_0000..=0x3_FFFF)
}

fn fold(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase()
}

/// Words of a query.
fn query_terms(text: &str) -> Vec<Term> {
    let chars: Vec<char> = text.chars().collect();
    let mut terms = Vec::new();
    for run in runs(&chars) {
        let word = &chars[run.start..run.end];
        match (run.cjk, word) {
            (true, [one]) => terms.push(Term { text: one.to_string(), prefix: true }),
            (true, _) => terms.extend(word.windows(2).map(|pair| Term { text: pair.iter().collect(), prefix: false })),
            (false, _) => terms.push(Term { text: word.iter().flat_map(|c| fold(*c)).collect(), prefix: false }),
        }
    }
    terms
}

/// A text as it goes into the index.
fn text_terms(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut terms = String::new();
    for run in runs(&chars) {
        push_run(&chars[run.start..run.end], run.cjk, &mut terms);
    }
    terms
}

/// Two characters in a row are a word, and the last one by itself, so that a single one is found wherever it stands.
fn push_run(word: &[char], cjk: bool, terms: &mut String) {
    if cjk {
        for pair in word.windows(2) {
            terms.extend(pair);
            terms.push(' ');
        }
        terms.extend(word.last());
    } else {
        terms.extend(word);
    }
    terms.push(' ');
}

/// The name of a file and of the folder it lies in, as they go into the index.
fn name_terms(path: &std::path::Path) -> String {
    let folder = path.parent().and_then(|folder| folder.file_name());
    let mut terms = String::new();
    for name in [path.file_name(), folder].into_iter().flatten() {
        let chars: Vec<char> = name.to_string_lossy().chars().collect();
        for run in runs(&chars) {
            let word = &chars[run.start..run.end];
            push_run(word, run.cjk, &mut terms);
            let parts = if run.cjk { Vec::new() } else { parts_of(word) };
            if parts.len() > 1 {
                parts.iter().for_each(|part| push_run(part, false, &mut terms));
            }
        }
    }
    terms
}

/// Parts of a name that are written together: `beach2019` is `beach` and `2019`, `BeachHouse` is `Beach` and `House`.
fn parts_of(word: &[char]) -> Vec<&[char]> {
    let apart = |a: &char, b: &char| a.is_numeric() != b.is_numeric() || (a.is_lowercase() && b.is_uppercase());
    word.chunk_by(|a, b| !apart(a, b)).collect()
}

/// Whether two words in small letters differ by an ending at most: `run`, `runs`, `running`.
fn same_stem(a: &str, b: &str) -> bool {
    a == b || stem(a) == stem(b)
}

/// A word without the usual English endings: a simpler rule than Porter's, for what is shown only.
fn stem(word: &str) -> String {
    const ENDINGS: [&str; 7] = ["ing", "ers", "ed", "es", "er", "ly", "s"];
    let cut = ENDINGS.iter().find_map(|ending| word.strip_suffix(ending).filter(|rest| rest.chars().count() >= 3));
    let mut stem: Vec<char> = cut.unwrap_or(word).chars().collect();
    match stem.as_slice() {
        [.., a, b] if cut.is_some() && a == b => _ = stem.pop(),
        [.., 'e'] if stem.len() > 3 => _ = stem.pop(),
        [rest @ .., 'y'] => stem = rest.iter().copied().chain(['i']).collect(),
        _ => {}
    }
    stem.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(texts: &[&str]) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(include_str!("schema.sql")).unwrap();
        for (at, text) in texts.iter().enumerate() {
            let id = at as i64 + 1;
            let hash = blake3::hash(text.as_bytes());
            db.execute(
                "INSERT INTO items (id, hash, kind, format, size) VALUES (?1, ?2, 'text', 'TXT', 1)",
                (id, hash.as_bytes()),
            )
            .unwrap();
            db.execute("INSERT INTO segments (id, item, modality) VALUES (?1, ?1, 'text')", [id]).unwrap();
            db.execute("INSERT INTO texts (segment, body) VALUES (?1, ?2)", (id, text)).unwrap();
        }
        catch_up(&db).unwrap();
        db
    }

    fn find(db: &Connection, field: Field, wanted: &str, unwanted: &str) -> Vec<(i64, bool)> {
        let unwanted = (!unwanted.is_empty()).then_some(unwanted);
        let asked = Asked::new([wanted].into_iter(), unwanted.into_iter()).unwrap();
        let found = asked.find(db, field, ("1", &[]), 10, true).unwrap().unwrap();
        found.iter().map(|holds| (holds.item, holds.all)).collect()
    }

    #[test]
    fn words_are_found_by_their_stems_in_any_case_and_without_accents() {
        let db = filled(&["Two dogs RUN along the beach", "A café at night", "the runner's dogma"]);
        assert_eq!(find(&db, Field::Texts, "running dog", ""), [(1, true)]);
        assert_eq!(find(&db, Field::Texts, "cafe", ""), [(2, true)]);
        assert_eq!(find(&db, Field::Texts, "the beach", ""), [(1, true)], "the other holds next to nothing of it");
        assert_eq!(find(&db, Field::Texts, "on a beach", ""), [(1, true)], "little words are not asked for");
        assert_eq!(find(&db, Field::Texts, "a", "").len(), 1, "but where nothing else is");
        assert_eq!(find(&db, Field::Texts, "the", "beach"), [(3, true)]);
    }

    #[test]
    fn scripts_without_spaces_are_found_by_pairs_and_by_single_characters() {
        let db = filled(&["海滩上的一只狗", "夜晚的城市", "狗在跑"]);
        assert_eq!(find(&db, Field::Texts, "海滩", ""), [(1, true)]);
        assert_eq!(find(&db, Field::Texts, "狗", "").iter().map(|f| f.0).collect::<BTreeSet<_>>(), BTreeSet::from([1, 3]));
        assert_eq!(find(&db, Field::Texts, "城市 night", ""), [(2, false)]);
    }

    #[test]
    fn names_follow_their_files() {
        let db = filled(&["x", "y"]);
        let add = |path: &str, item: i64| {
            let sql = "INSERT INTO paths (path, folder, name, size, mtime_ns, settled, item) VALUES (?1, '', '', 0, 0, 1, ?2)";
            db.execute(sql, (path.as_bytes(), item)).unwrap();
            catch_up(&db).unwrap();
        };
        add("/trips/IMG_2043.jpg", 1);
        add("/home/BeachHouse2019.png", 2);
        assert_eq!(find(&db, Field::Names, "img 2043", ""), [(1, true)]);
        assert_eq!(find(&db, Field::Names, "trip", ""), [(1, true)]);
        assert_eq!(find(&db, Field::Names, "trip to paris", ""), [], "a name holds all words or none");
        for part in ["beach", "house", "2019", "beachhouse2019"] {
            assert_eq!(find(&db, Field::Names, part, ""), [(2, true)], "{part}");
        }
        db.execute("DELETE FROM paths WHERE item = 1", []).unwrap();
        catch_up(&db).unwrap();
        assert_eq!(find(&db, Field::Names, "trip", ""), []);
    }

    #[test]
    fn what_leaves_is_not_found_and_what_comes_is() {
        let db = filled(&["a dog", "a cat", "a dog again"]);
        db.execute("DELETE FROM texts WHERE segment = 3", []).unwrap();
        db.execute("INSERT INTO texts (segment, body) VALUES (7, 'a third dog')", []).unwrap_err();
        db.execute("DELETE FROM texts WHERE segment = 1", []).unwrap();
        db.execute("INSERT INTO segments (id, item, modality) VALUES (7, 2, 'text')", []).unwrap();
        db.execute("INSERT INTO texts (segment, body) VALUES (7, 'a third dog')", []).unwrap();
        catch_up(&db).unwrap();
        assert_eq!(find(&db, Field::Texts, "dog", ""), [(2, true)]);
    }

    #[test]
    fn nothing_typed_can_be_an_expression() {
        let db = filled(&["near and or not", "body"]);
        for text in
            ["\"", "body:x OR", "NEAR(a b)", "near AND not", "*", "^a", "-a", "(((", "a\u{0}b", "'; DROP TABLE terms; --"]
        {
            if let Some(asked) = Asked::new([text].into_iter(), ["\"\" NOT"].into_iter()) {
                asked.find(&db, Field::Texts, ("1", &[]), 10, true).unwrap();
            }
        }
        assert!(Asked::new(["…!?"].into_iter(), std::iter::empty()).is_none());
    }

    #[test]
    fn passages_show_the_words_and_say_where_they_stand() {
        let asked = Asked::new(["a running dog 海滩上"].into_iter(), std::iter::empty()).unwrap();
        let shown = |(text, marks): (String, Vec<(usize, usize)>)| -> Vec<String> {
            let chars: Vec<char> = text.chars().collect();
            marks.iter().map(|(a, b)| chars[*a..*b].iter().collect()).collect()
        };
        assert_eq!(shown(asked.passage("The Dog\n runs on dogma, 在海滩上跑")), ["Dog", "runs", "海滩上"]);
        let long = format!("{} here a dog sleeps {}", "word ".repeat(100), "more ".repeat(100));
        let (text, marks) = asked.passage(&long);
        assert!(text.starts_with("… word") && text.ends_with('…') && text.chars().count() <= SNIPPET_CHARS, "{text}");
        assert_eq!(shown((text, marks)), ["dog"]);
    }
}
