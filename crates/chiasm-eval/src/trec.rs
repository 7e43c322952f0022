//! TREC run and qrels files.
//!
//! - A run line is `query Q0 document rank score tag`, a qrels line `query 0 document relevance`, fields separated by spaces or
//!   tabs. Reading is strict: a wrong number of fields, a score that is NaN or no number, a document twice for one query are
//!   errors with their line number. Blank lines are let pass.
//! - The rank field is not used for ordering, as in trec_eval: documents are ordered by score, equal ones by document id,
//!   *ascending* (trec_eval: descending). It must be a number.
//! - Relevance is a whole number; at most 0 is not relevant, and negative counts as 0 in gains, as in trec_eval.
//! - Ids are paths as often as not, and paths hold spaces, but the format has no quoting. Writing escapes white space, control
//!   characters and `%` as `%20` and so on by UTF-8 byte; reading turns such escapes back and leaves a `%` that begins none as
//!   it is. An empty id cannot be written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use crate::metrics::{JudgeError, Judged};
use crate::report::{EvalConfig, Report, evaluate};

/// A retrieved document.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieved {
    /// Id of the document.
    pub document: String,
    /// Greater is better; finite or infinite, never NaN.
    pub score: f64,
}

/// What a system retrieved: by query, documents in rank order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Name of the system; the last one read.
    pub tag: String,
    /// By query.
    pub queries: BTreeMap<String, Vec<Retrieved>>,
}

/// What is relevant: by query and document, the judged relevance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qrels {
    /// By query, then document.
    pub queries: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Why a file is no run or no qrels.
#[derive(Debug, thiserror::Error)]
pub enum TrecError {
    /// The reader or writer failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line with another number of fields.
    #[error("line {line}: {found} fields, expected {expected}")]
    Fields {
        /// From 1.
        line: usize,
        /// Fields there are.
        found: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A field that is not what stands there.
    #[error("line {line}: the {field} is `{value}`, expected {expected}")]
    Value {
        /// From 1.
        line: usize,
        /// Its name.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// One document twice for one query.
    #[error("line {line}: document `{document}` appears a second time for query `{query}`")]
    Duplicate {
        /// Of the second.
        line: usize,
        /// The query.
        query: String,
        /// The document.
        document: String,
    },
    /// Something that the format cannot hold.
    #[error("{what} of query `{query}` cannot be written: {reason}")]
    Unwritable {
        /// Which part.
        what: &'static str,
        /// The query.
        query: String,
        /// Why.
        reason: &'static str,
    },
}

/// Reads a run.
///
/// # Errors
/// [`TrecError`], with the line number.
pub fn read_run(reader: impl BufRead) -> Result<Run, TrecError> {
    let mut run = Run::default();
    let mut seen: BTreeMap<String, BTreeMap<String, ()>> = BTreeMap::new();
    each_line(reader, |line, fields| {
        let [query, _, document, rank, score, tag] = fields else {
            return Err(TrecError::Fields { line, found: fields.len(), expected: "6: query Q0 document rank score tag" });
        };
        let (query, document) = (unescape(query, line)?, unescape(document, line)?);
        let wrong = |field, value: &str, expected| TrecError::Value { line, field, value: value.to_owned(), expected };
        rank.parse::<i64>().map_err(|_| wrong("rank", rank, "a whole number"))?;
        let score = score.parse().ok().filter(|s: &f64| !s.is_nan()).ok_or_else(|| wrong("score", score, "a number"))?;
        if seen.entry(query.clone()).or_default().insert(document.clone(), ()).is_some() {
            return Err(TrecError::Duplicate { line, query, document });
        }
        unescape(tag, line)?.clone_into(&mut run.tag);
        run.queries.entry(query).or_default().push(Retrieved { document, score });
        Ok(())
    })?;
    run.queries.values_mut().for_each(|documents| sort(documents));
    Ok(run)
}

/// Writes a run, best document first, ranks from 1. Scores are written so that reading gives them back to the bit.
///
/// # Errors
/// [`TrecError::Io`], [`TrecError::Unwritable`] for an empty id or tag and for a score that is NaN.
pub fn write_run(mut writer: impl Write, run: &Run) -> Result<(), TrecError> {
    for (query, documents) in &run.queries {
        let mut documents = documents.clone();
        if documents.iter().any(|d| d.score.is_nan()) {
            return Err(TrecError::Unwritable { what: "a score", query: query.clone(), reason: "it is NaN" });
        }
        sort(&mut documents);
        let (tag, name) = (escape(&run.tag, "the tag", query)?, escape(query, "the id", query)?);
        for (i, found) in documents.iter().enumerate() {
            let document = escape(&found.document, "a document id", query)?;
            writeln!(writer, "{name} Q0 {document} {} {} {tag}", i + 1, found.score)?;
        }
    }
    Ok(writer.flush()?)
}

/// Reads qrels.
///
/// # Errors
/// [`TrecError`], with the line number.
pub fn read_qrels(reader: impl BufRead) -> Result<Qrels, TrecError> {
    let mut qrels = Qrels::default();
    each_line(reader, |line, fields| {
        let [query, _, document, relevance] = fields else {
            return Err(TrecError::Fields { line, found: fields.len(), expected: "4: query 0 document relevance" });
        };
        let (query, document) = (unescape(query, line)?, unescape(document, line)?);
        let relevance = relevance.parse().map_err(|_| TrecError::Value {
            line,
            field: "relevance",
            value: (*relevance).to_owned(),
            expected: "a whole number",
        })?;
        if qrels.queries.entry(query.clone()).or_default().insert(document.clone(), relevance).is_some() {
            return Err(TrecError::Duplicate { line, query, document });
        }
        Ok(())
    })?;
    Ok(qrels)
}

/// Writes qrels.
///
/// # Errors
/// [`TrecError::Io`], [`TrecError::Unwritable`] for an empty id.
pub fn write_qrels(mut writer: impl Write, qrels: &Qrels) -> Result<(), TrecError> {
    for (query, documents) in &qrels.queries {
        let name = escape(query, "the id", query)?;
        for (document, relevance) in documents {
            writeln!(writer, "{name} 0 {} {relevance}", escape(document, "a document id", query)?)?;
        }
    }
    Ok(writer.flush()?)
}

/// Judges each query of the qrels by what the run retrieved for it; a query that the run lacks retrieved nothing, and scores 0.
/// Gives the judged queries by id, and how many were skipped since nothing is relevant to them. Queries that only the run has
/// are not judged, as in trec_eval.
///
/// # Errors
/// [`JudgeError`] never arises from what this module's readers gave.
pub fn judge(run: &Run, qrels: &Qrels) -> Result<(BTreeMap<String, Judged>, usize), JudgeError> {
    let mut judged = BTreeMap::new();
    let mut n_skipped = 0;
    for (query, relevance) in &qrels.queries {
        let gains: BTreeMap<String, f64> = relevance.iter().map(|(d, r)| (d.clone(), (*r).max(0) as f64)).collect();
        let retrieved = run.queries.get(query).map_or(&[][..], Vec::as_slice);
        match Judged::from_ids(retrieved.iter().map(|r| &r.document), &gains) {
            Ok(one) => {
                judged.insert(query.clone(), one);
            }
            Err(JudgeError::NoRelevant) => n_skipped += 1,
            Err(other) => return Err(other),
        }
    }
    Ok((judged, n_skipped))
}

/// The report of a run.
///
/// # Errors
/// As [`judge`].
pub fn report(run: &Run, qrels: &Qrels, config: &EvalConfig) -> Result<Report, JudgeError> {
    let (judged, n_skipped) = judge(run, qrels)?;
    let queries: Vec<Judged> = judged.into_values().collect();
    Ok(evaluate(&run.tag, &queries, n_skipped, config))
}

fn each_line(reader: impl BufRead, mut f: impl FnMut(usize, &[&str]) -> Result<(), TrecError>) -> Result<(), TrecError> {
    for (i, line) in reader.lines().enumerate() {
        let line = line.map_err(|e| io::Error::new(e.kind(), format!("line {}: {e}", i + 1)))?;
        let line = if i == 0 { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
        // Only what writing escapes may separate; other Unicode spaces belong to ids.
        let fields: Vec<&str> = line.split([' ', '\t', '\r']).filter(|f| !f.is_empty()).collect();
        if !fields.is_empty() {
            f(i + 1, &fields)?;
        }
    }
    Ok(())
}

fn sort(documents: &mut [Retrieved]) {
    let order = |a: &Retrieved, b: &Retrieved| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal);
    documents.sort_by(|a, b| order(a, b).then_with(|| a.document.cmp(&b.document)));
}

fn escape(id: &str, what: &'static str, query: &str) -> Result<String, TrecError> {
    if id.is_empty() {
        return Err(TrecError::Unwritable { what, query: query.to_owned(), reason: "it is empty" });
    }
    let mut out = String::with_capacity(id.len());
    for c in id.chars() {
        if c.is_whitespace() || c.is_control() || c == '%' || c == '\u{feff}' {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
            }
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

fn unescape(id: &str, line: usize) -> Result<String, TrecError> {
    let mut out = Vec::with_capacity(id.len());
    let mut rest = id.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|two| Some((hex(two[0])?, hex(two[1])?)));
        match (first, digits) {
            (b'%', Some((high, low))) => {
                out.push(high * 16 + low);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).map_err(|_| TrecError::Value {
        line,
        field: "id",
        value: id.to_owned(),
        expected: "percent escapes that make UTF-8",
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Denominator;

    fn message<T>(result: Result<T, TrecError>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn errors_have_their_line() {
        let run = |text: &str| message(read_run(text.as_bytes()));
        assert_eq!(run("q Q0 d 1 0.5 t\n\nq Q0 d 2\n"), "line 3: 4 fields, expected 6: query Q0 document rank score tag");
        assert_eq!(run("q Q0 d 1 NaN t"), "line 1: the score is `NaN`, expected a number");
        assert_eq!(run("q Q0 d x 1 t"), "line 1: the rank is `x`, expected a whole number");
        assert_eq!(run("q Q0 d 1 2 t\nq Q0 d 2 1 t"), "line 2: document `d` appears a second time for query `q`");
        assert_eq!(run("q Q0 %FF 1 2 t"), "line 1: the id is `%FF`, expected percent escapes that make UTF-8");
        let qrels = |text: &str| message(read_qrels(text.as_bytes()));
        assert_eq!(qrels("q 0 d 1.5"), "line 1: the relevance is `1.5`, expected a whole number");
        assert_eq!(qrels("q 0 d 1\nq 0 d 1"), "line 2: document `d` appears a second time for query `q`");
        let empty = Qrels { queries: BTreeMap::from([("q".into(), BTreeMap::from([(String::new(), 1)]))]) };
        assert!(message(write_qrels(Vec::new(), &empty)).contains("it is empty"));
    }

    #[test]
    fn judges_as_stated() {
        let run = read_run("\u{feff}b Q0 d2 9 1 t\r\nb\tQ0\td1 1 1 t\nb Q0 d3 2 7e0 t\nonly Q0 d1 1 1 t\n".as_bytes()).unwrap();
        let order: Vec<&str> = run.queries["b"].iter().map(|r| r.document.as_str()).collect();
        assert_eq!(order, ["d3", "d1", "d2"]);
        let qrels = read_qrels("a 0 d1 1\nb 0 d1 2\nb 0 d3 -2\nc 0 d1 0\n".as_bytes()).unwrap();
        let (judged, n_skipped) = judge(&run, &qrels).unwrap();
        assert_eq!((judged.len(), n_skipped), (2, 1));
        assert_eq!(judged["a"].reciprocal_rank(), 0.0);
        assert_eq!(judged["b"].average_precision(None, Denominator::AllRelevant), 0.5);
        let report = report(&run, &qrels, &EvalConfig::default()).unwrap();
        assert_eq!((report.value("MAP"), report.n_skipped), (Some(0.25), 1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ids in proptest::collection::btree_set("[ -~\u{a0}\u{3000}\t\n%é照]{1,8}", 1..5),
            scores in proptest::collection::vec(proptest::num::f64::ANY.prop_filter("number", |s| !s.is_nan()), 5),
        ) {
            let documents: Vec<_> =
                ids.iter().zip(&scores).map(|(id, s)| Retrieved { document: id.clone(), score: *s }).collect();
            let mut run = Run { tag: "a tag".into(), queries: BTreeMap::new() };
            let mut qrels = Qrels::default();
            for query in &ids {
                let mut documents = documents.clone();
                sort(&mut documents);
                run.queries.insert(query.clone(), documents);
                qrels.queries.insert(query.clone(), ids.iter().map(|d| (d.clone(), d.len() as i64 - 3)).collect());
            }
            let (mut of_run, mut of_qrels) = (Vec::new(), Vec::new());
            write_run(&mut of_run, &run).unwrap();
            write_qrels(&mut of_qrels, &qrels).unwrap();
            prop_assert_eq!(read_run(&of_run[..]).unwrap(), run);
            prop_assert_eq!(read_qrels(&of_qrels[..]).unwrap(), qrels);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_run(&bytes[..]);
            let _ = read_qrels(&bytes[..]);
        }
    }
}
