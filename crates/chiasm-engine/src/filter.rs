//! Filters such as `taken > 2020-01-01 AND kind = image AND folder = 'trips/*' AND size < 2MB`.
//!
//! # Grammar
//! ```text
//! filter    := and (OR and)*
//! and       := not (AND not)*
//! not       := NOT not | '(' filter ')' | condition
//! condition := has (place | date | text | caption | tag)
//!            | (kind | folder | name | format | tag) (= | !=) word
//!            | kind in '(' word (',' word)* ')'
//!            | (name | folder | text | tag) contains word
//!            | (taken | size | duration | width | height | latitude | longitude | id) (= | != | < | <= | > | >=) value
//! ```
//! Words are bare or in single or double quotes, doubled within to stand for themselves. Keywords may be in any case.
//!
//! | field | value |
//! | --- | --- |
//! | `kind` | `image`, `text`, `audio`, `series`, `video` |
//! | `folder` | a pattern of `*` and `?`, ASCII letters in any case; it matches whole folder names anywhere along the path, and what lies below: `trips`, `trips/*`, `/home/me/trips` |
//! | `name` | a pattern for the whole file name: `*.jpg` |
//! | `tag` | a whole tag, ASCII letters in any case |
//! | `taken` | a year, month, day or minute: `2020`, `2020-05`, `2020-05-17`, `2020-05-17T18:30`; `=` means within it, `>` after its end |
//! | `size` | bytes, or with `kB MB GB` (thousands) or `KiB MiB GiB` (1024) |
//! | `duration` | seconds, or with `s min h`, or `1:30` |
//! | `width`, `height` | pixels |
//! | `latitude`, `longitude` | degrees |
//!
//! An item with several files meets a condition on `folder` or `name` when one of them does, one with several tags a condition on
//! `tag` likewise; `!=` is met when none of them is that. An item without a date, size in
//! pixels or place meets no condition on it, `!=` included; `NOT` turns that round.
//!
//! What is typed reaches the database only as bound values, never as SQL.

use std::borrow::Cow;
use std::str::FromStr;

use chiasm_core::Modality;
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::{FilterError, tags};

/// Parentheses and NOTs within one another; more would only be an attack on the stack.
const MAX_DEPTH: usize = 64;
/// Characters of a filter.
const MAX_CHARS: usize = 10_000;
/// Where conditions on tags look, and where they look in a library that has no such table: there nothing meets them.
const TAGS: &str = "FROM tags g";
const NO_TAGS: &str = "FROM (SELECT NULL AS item, NULL AS tag) g";

/// A condition on items; see the table in the documentation of [`Filter::parse`].
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    source: String,
    /// True or false for a row of `items` named `i`.
    sql: String,
    values: Vec<Value>,
}

impl Filter {
    /// Reads a filter: conditions on `kind`, `folder`, `name`, `format`, `tag`, `taken`, `size`, `duration`, `width`, `height`,
    /// `latitude`, `longitude`, `id`, `has place`, `has date`, `has text`, `has caption`, `has tag`, `text contains 'words'`, joined by
    /// `AND`, `OR`, `NOT` and parentheses.
    ///
    /// # Errors
    /// [`FilterError`] with the place at fault and what was expected there.
    pub fn parse(source: &str) -> Result<Filter, FilterError> {
        if source.chars().count() > MAX_CHARS {
            return Err(FilterError { at: MAX_CHARS, message: format!("a filter has at most {MAX_CHARS} characters") });
        }
        let tokens = tokens(source)?;
        let mut parser =
            Parser { tokens: &tokens, next: 0, end: source.chars().count(), sql: String::new(), values: Vec::new() };
        parser.any(0)?;
        if let Some(token) = parser.peek() {
            return Err(token.expected("AND, OR or the end"));
        }
        let Parser { sql, values, .. } = parser;
        Ok(Filter { source: source.to_owned(), sql, values })
    }

    /// What was read.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A condition on `items AS i` of this library, with its values in the order of its `?`.
    pub(crate) fn sql(&self, library: &Connection) -> rusqlite::Result<(Cow<'_, str>, &[Value])> {
        let has_no_tags = self.sql.contains(TAGS) && !tags::exist(library)?;
        let sql = if has_no_tags { self.sql.replace(TAGS, NO_TAGS).into() } else { Cow::Borrowed(self.sql.as_str()) };
        Ok((sql, &self.values))
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(source: &str) -> Result<Self, FilterError> {
        Filter::parse(source)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// A bare word: a keyword, a field or a value.
    Word,
    /// A word in quotes: only ever a value.
    Quoted,
    /// `= != < <= > >= ( ) ,`
    Sign,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    text: String,
    at: usize,
}

impl Token {
    fn expected(&self, what: &str) -> FilterError {
        FilterError { at: self.at, message: format!("`{}` came, expected {what}", self.text) }
    }

    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

fn tokens(source: &str) -> Result<Vec<Token>, FilterError> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let c = chars[at];
        at += 1;
        if c.is_whitespace() {
            continue;
        }
        let (kind, text) = match c {
            '\'' | '"' => {
                let mut text = String::new();
                loop {
                    match (chars.get(at), chars.get(at + 1)) {
                        (None, _) => {
                            return Err(FilterError {
                                at: start,
                                message: format!("this quote is not closed: expected another {c}"),
                            });
                        }
                        (Some(a), Some(b)) if *a == c && *b == c => (text.push(c), at += 2).1,
                        (Some(a), _) if *a == c => break,
                        (Some(a), _) => (text.push(*a), at += 1).1,
                    }
                }
                at += 1;
                (Kind::Quoted, text)
            }
            '(' | ')' | ',' | '=' => (Kind::Sign, c.to_string()),
            '<' | '>' | '!' => {
                let wide = chars.get(at) == Some(&'=');
                at += usize::from(wide);
                if c == '!' && !wide {
                    return Err(FilterError { at: start, message: "`!` came, expected `!=` or NOT".to_owned() });
                }
                (Kind::Sign, chars[start..at].iter().collect())
            }
            _ => {
                let ends = |c: &char| c.is_whitespace() || "'\"(),=<>!".contains(*c);
                while at < chars.len() && !ends(&chars[at]) {
                    at += 1;
                }
                (Kind::Word, chars[start..at].iter().collect())
            }
        };
        tokens.push(Token { kind, text, at: start });
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    next: usize,
    end: usize,
    sql: String,
    values: Vec<Value>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self, expected: &str) -> Result<&'a Token, FilterError> {
        let token =
            self.peek().ok_or_else(|| FilterError { at: self.end, message: format!("it ends here, expected {expected}") })?;
        self.next += 1;
        Ok(token)
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|t| t.is_word(word));
        self.next += usize::from(found);
        found
    }

    fn any(&mut self, depth: usize) -> Result<(), FilterError> {
        self.joined("OR", " OR ", |p| p.joined("AND", " AND ", |p| p.not(depth)))
    }

    fn joined(
        &mut self,
        word: &str,
        sql: &str,
        part: impl Fn(&mut Self) -> Result<(), FilterError>,
    ) -> Result<(), FilterError> {
        self.sql.push('(');
        part(self)?;
        while self.skip_word(word) {
            self.sql.push_str(sql);
            part(self)?;
        }
        self.sql.push(')');
        Ok(())
    }

    fn not(&mut self, depth: usize) -> Result<(), FilterError> {
        if depth > MAX_DEPTH {
            let at = self.peek().map_or(self.end, |t| t.at);
            return Err(FilterError { at, message: format!("more than {MAX_DEPTH} parentheses or NOTs within one another") });
        }
        if self.skip_word("NOT") {
            // A condition on what is not known is NULL in SQL; here it is false, so that NOT makes it true.
            self.sql.push_str("NOT ifnull(");
            self.not(depth + 1)?;
            self.sql.push_str(", 0)");
            return Ok(());
        }
        if self.peek().is_some_and(|t| t.is_sign("(")) {
            self.next += 1;
            self.any(depth + 1)?;
            let close = self.take("`)`")?;
            return if close.is_sign(")") { Ok(()) } else { Err(close.expected("AND, OR or `)`")) };
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<(), FilterError> {
        const FIELDS: &str =
            "has, kind, folder, name, format, tag, taken, size, duration, width, height, latitude, longitude, id or text";
        let field = self.take(FIELDS)?;
        if field.kind != Kind::Word {
            return Err(field.expected(FIELDS));
        }
        match field.text.to_ascii_lowercase().as_str() {
            "has" => self.has(),
            "kind" => self.kind(),
            "folder" => self.folder(),
            "name" => self.name(),
            "format" => {
                let not = self.equal()?;
                let value = self.value("a format such as jpeg")?.text.clone();
                self.bind(&format!("{not}(lower(i.format) = lower(?))"), [Value::Text(value)]);
                Ok(())
            }
            "tag" => self.tag(),
            "text" => self.text(),
            "taken" => self.taken(),
            "size" => self.number("i.size", "a size such as 500kB or 2MB", bytes),
            "duration" => self.number("i.duration_s", "a duration such as 10, 90s, 2min or 1:30", seconds),
            "width" => self.number("i.width", "a number of pixels", plain),
            "height" => self.number("i.height", "a number of pixels", plain),
            "latitude" => self.number("i.latitude", "degrees", plain),
            "longitude" => self.number("i.longitude", "degrees", plain),
            "id" => self.number("i.id", "the number of an item", plain),
            _ => Err(field.expected(FIELDS)),
        }
    }

    fn bind(&mut self, sql: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(sql);
        self.values.extend(values);
    }

    fn value(&mut self, expected: &str) -> Result<&'a Token, FilterError> {
        let token = self.take(expected)?;
        if token.kind == Kind::Sign { Err(token.expected(expected)) } else { Ok(token) }
    }

    /// `=` or `!=`, as what stands before the condition.
    fn equal(&mut self) -> Result<&'static str, FilterError> {
        let token = self.take("`=` or `!=`")?;
        match token.text.as_str() {
            "=" if token.kind == Kind::Sign => Ok(""),
            "!=" if token.kind == Kind::Sign => Ok("NOT "),
            _ => Err(token.expected("`=` or `!=`")),
        }
    }

    fn comparison(&mut self) -> Result<&'a str, FilterError> {
        const SIGNS: &str = "=, !=, <, <=, > or >=";
        let token = self.take(SIGNS)?;
        let known = token.kind == Kind::Sign && ["=", "!=", "<", "<=", ">", ">="].contains(&token.text.as_str());
        if known { Ok(&token.text) } else { Err(token.expected(SIGNS)) }
    }

    fn has(&mut self) -> Result<(), FilterError> {
        const WHAT: &str = "place, date, text, caption or tag";
        let token = self.take(WHAT)?;
        let sql = match token.text.to_ascii_lowercase().as_str() {
            "place" => "(i.latitude IS NOT NULL)",
            "date" => "(i.taken IS NOT NULL)",
            "text" => "EXISTS (SELECT 1 FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = i.id)",
            "caption" => "EXISTS (SELECT 1 FROM captions c WHERE c.item = i.id)",
            "tag" => {
                self.bind(&format!("EXISTS (SELECT 1 {TAGS} WHERE g.item = i.id)"), []);
                return Ok(());
            }
            _ => return Err(token.expected(WHAT)),
        };
        self.bind(sql, []);
        Ok(())
    }

    fn kind(&mut self) -> Result<(), FilterError> {
        const KINDS: &str = "image, text, audio, series or video";
        let one = |token: &Token| -> Result<Value, FilterError> {
            let kind: Modality = token.text.to_ascii_lowercase().parse().map_err(|_| token.expected(KINDS))?;
            Ok(Value::Text(kind.as_str().to_owned()))
        };
        if self.skip_word("in") {
            let open = self.take("`(`")?;
            if !open.is_sign("(") {
                return Err(open.expected("`(`"));
            }
            let mut kinds = vec![one(self.value(KINDS)?)?];
            loop {
                let token = self.take("`,` or `)`")?;
                match (token.is_sign(","), token.is_sign(")")) {
                    (true, _) => kinds.push(one(self.value(KINDS)?)?),
                    (_, true) => break,
                    _ => return Err(token.expected("`,` or `)`")),
                }
            }
            let marks = vec!["?"; kinds.len()].join(", ");
            self.bind(&format!("(i.kind IN ({marks}))"), kinds);
            return Ok(());
        }
        let not = self.equal()?;
        let kind = one(self.value(KINDS)?)?;
        self.bind(&format!("{not}(i.kind = ?)"), [kind]);
        Ok(())
    }

    fn folder(&mut self) -> Result<(), FilterError> {
        const PATTERN: &str = "a folder or a pattern such as 'trips/*'";
        if self.skip_word("contains") {
            let value = self.value(PATTERN)?.text.clone();
            self.path_condition("", "p.folder LIKE ? ESCAPE '\\'", [Value::Text(like(&value))]);
            return Ok(());
        }
        let not = self.equal()?;
        let value = self.value(PATTERN)?;
        let pattern = glob(value.text.trim_end_matches('/'));
        if pattern.is_empty() {
            return Err(value.expected(PATTERN));
        }
        // `folder` ends in `/`, so that a pattern ends where a name ends: the folder itself and all that lies below it.
        let anchor = if pattern.starts_with('/') { "" } else { "*/" };
        let patterns = [Value::Text(format!("{anchor}{pattern}/*"))];
        self.path_condition(not, "lower(p.folder) GLOB lower(?)", patterns);
        Ok(())
    }

    fn name(&mut self) -> Result<(), FilterError> {
        const PATTERN: &str = "a file name or a pattern such as '*.jpg'";
        if self.skip_word("contains") {
            let value = self.value(PATTERN)?.text.clone();
            self.path_condition("", "p.name LIKE ? ESCAPE '\\'", [Value::Text(like(&value))]);
            return Ok(());
        }
        let not = self.equal()?;
        let pattern = glob(&self.value(PATTERN)?.text);
        self.path_condition(not, "lower(p.name) GLOB lower(?)", [Value::Text(pattern)]);
        Ok(())
    }

    fn path_condition(&mut self, not: &str, sql: &str, values: impl IntoIterator<Item = Value>) {
        self.bind(&format!("{not}EXISTS (SELECT 1 FROM paths p WHERE p.item = i.id AND {sql})"), values);
    }

    fn tag(&mut self) -> Result<(), FilterError> {
        const TAG: &str = "a tag";
        let is_part = self.skip_word("contains");
        let not = if is_part { "" } else { self.equal()? };
        let value = self.value(TAG)?;
        let tag = value.text.trim();
        if tag.is_empty() {
            return Err(value.expected(TAG));
        }
        let (condition, tag) = if is_part { ("g.tag LIKE ? ESCAPE '\\'", like(tag)) } else { ("g.tag = ?", tag.to_owned()) };
        self.bind(&format!("{not}EXISTS (SELECT 1 {TAGS} WHERE g.item = i.id AND {condition})"), [Value::Text(tag)]);
        Ok(())
    }

    fn text(&mut self) -> Result<(), FilterError> {
        let verb = self.take("contains")?;
        if !verb.is_word("contains") {
            return Err(verb.expected("contains"));
        }
        let words = self.value("words")?;
        if words.text.is_empty() {
            return Err(words.expected("words"));
        }
        // The index knows every three letters in a row; of fewer it knows nothing.
        if words.text.chars().count() >= 3 {
            let phrase = format!("\"{}\"", words.text.replace('"', "\"\""));
            let sql = "(i.id IN (SELECT s.item FROM segments s WHERE s.id IN (SELECT rowid FROM words WHERE words MATCH ?)))";
            self.bind(sql, [Value::Text(phrase)]);
        } else {
            let sql = "EXISTS (SELECT 1 FROM segments s JOIN texts t ON t.segment = s.id WHERE s.item = i.id AND t.body LIKE ? ESCAPE '\\')";
            self.bind(sql, [Value::Text(like(&words.text))]);
        }
        Ok(())
    }

    fn taken(&mut self) -> Result<(), FilterError> {
        const DATE: &str = "a date such as 2020, 2020-05, 2020-05-17 or 2020-05-17T18:30";
        let sign = self.comparison()?;
        let token = self.value(DATE)?;
        let (start, end) = date_range(&token.text).ok_or_else(|| token.expected(DATE))?;
        let (start, end) = (Value::Text(start), Value::Text(end));
        match sign {
            "<" => self.bind("(i.taken < ?)", [start]),
            "<=" => self.bind("(i.taken < ?)", [end]),
            ">" => self.bind("(i.taken >= ?)", [end]),
            ">=" => self.bind("(i.taken >= ?)", [start]),
            "=" => self.bind("(i.taken >= ? AND i.taken < ?)", [start, end]),
            _ => self.bind("(i.taken < ? OR i.taken >= ?)", [start, end]),
        }
        Ok(())
    }

    fn number(&mut self, column: &str, expected: &str, read: fn(&str) -> Option<f64>) -> Result<(), FilterError> {
        let sign = self.comparison()?;
        let token = self.value(expected)?;
        let value = read(&token.text).filter(|v| v.is_finite()).ok_or_else(|| token.expected(expected))?;
        self.bind(&format!("({column} {sign} ?)"), [Value::Real(value)]);
        Ok(())
    }
}

fn plain(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// A number with a unit's factor.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let at = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    Some(plain(number)? * factor)
}

fn bytes(text: &str) -> Option<f64> {
    let ki = 1024.0;
    with_unit(
        text,
        &[("", 1.0), ("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("KiB", ki), ("MiB", ki * ki), ("GiB", ki * ki * ki)],
    )
}

fn seconds(text: &str) -> Option<f64> {
    match text.split_once(':') {
        None => with_unit(text, &[("", 1.0), ("s", 1.0), ("sec", 1.0), ("min", 60.0), ("h", 3600.0)]),
        Some((minutes, rest)) => {
            let (minutes, rest) = match rest.split_once(':') {
                Some((m, s)) => (plain(minutes)? * 60.0 + plain(m)?, s),
                None => (plain(minutes)?, rest),
            };
            Some(minutes * 60.0 + plain(rest)?)
        }
    }
}

/// First moment of a year, month, day or minute and first moment after it, as text that sorts as time does.
fn date_range(text: &str) -> Option<(String, String)> {
    use jiff::ToSpan;
    use jiff::civil::{Date, DateTime};
    let day = |text: &str| text.parse::<Date>().ok();
    let (start, span): (DateTime, jiff::Span) = match text.len() {
        4 => (day(&format!("{text}-01-01"))?.into(), 1.year()),
        7 => (day(&format!("{text}-01"))?.into(), 1.month()),
        10 => (day(text)?.into(), 1.day()),
        16 => (format!("{text}:00").parse().ok()?, 1.minute()),
        19 => (text.parse().ok()?, 1.second()),
        _ => return None,
    };
    let format = |t: DateTime| t.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    Some((format(start), format(start.checked_add(span).ok()?)))
}

/// A pattern of `*` and `?` for SQLite's GLOB, in which `[` would begin a class.
fn glob(pattern: &str) -> String {
    pattern.replace('[', "[[]")
}

/// Text for SQLite's LIKE, in which `%` and `_` would stand for anything.
fn like(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(source: &str) -> String {
        Filter::parse(source).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_place() {
        assert_eq!(
            error("kind = picture"),
            "filter, character 8: `picture` came, expected image, text, audio, series or video"
        );
        assert!(error("size < two").starts_with("filter, character 8: `two` came, expected a size"));
        assert!(error("kind = image AND").starts_with("filter, character 17: it ends here, expected has, kind"));
        assert!(error("(kind = image").starts_with("filter, character 14: it ends here, expected `)`"));
        assert!(error("name = 'a").starts_with("filter, character 8: this quote is not closed"));
        assert!(error("taken > 2020-13-01").contains("expected a date"));
        assert!(error("kind = image kind = text").starts_with("filter, character 14: `kind` came, expected AND, OR"));
        assert!(error("").contains("it ends here"));
        assert!(error(&"(".repeat(5000)).contains("within one another"));
        assert!(error(&"not ".repeat(2000)).contains("within one another"));
    }

    #[test]
    fn units_and_dates() {
        assert_eq!(bytes("2MB"), Some(2e6));
        assert_eq!(bytes("1.5kib"), Some(1536.0));
        assert_eq!(bytes("3 apples"), None);
        assert_eq!(seconds("1:30"), Some(90.0));
        assert_eq!(seconds("1:00:01"), Some(3601.0));
        assert_eq!(seconds("2min"), Some(120.0));
        let range = |t| date_range(t).map(|(a, b)| format!("{a} {b}"));
        assert_eq!(range("2020-02").as_deref(), Some("2020-02-01T00:00:00 2020-03-01T00:00:00"));
        assert_eq!(range("2019-12-31").as_deref(), Some("2019-12-31T00:00:00 2020-01-01T00:00:00"));
        assert_eq!(range("2020-02-30"), None);
    }

    #[test]
    fn what_is_typed_is_bound_never_pasted() {
        let filter = Filter::parse("name = 'x'') OR 1=1; DROP TABLE items --' AND text contains \"it''s\"").unwrap();
        let (sql, values) = (&filter.sql, &filter.values);
        assert!(!sql.contains("DROP"), "{sql}");
        assert_eq!(values[0], Value::Text("x') OR 1=1; DROP TABLE items --".to_owned()));
        assert_eq!(values.len(), sql.matches('?').count());
    }

    proptest! {
        #[test]
        fn nothing_typed_panics_or_reaches_the_sql(source in "[a-z'\"()=<>! 0-9:,*MB-]{0,60}") {
            if let Ok(filter) = Filter::parse(&source) {
                prop_assert_eq!(filter.values.len(), filter.sql.matches('?').count());
            }
        }
    }
}
