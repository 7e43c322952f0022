//! Tables of text: `.csv`, `.tsv`, `.list`, `.txt`, separated by comma, semicolon, tab or spaces, with or without a header.
//!
//! The separator is the one that cuts the first lines into equally many cells. Cells may be quoted as in RFC 4180. Blank lines do
//! not count, but between the lines of a single column, where they are empty cells. Where the first line begins with `#`, all
//! lines that do are comments.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};

use super::error::{FeatureError, excerpt};
use super::input::{Input, InputReader};
use super::{Entry, kinds};

const FORMAT: &str = "table";

/// So many lines tell the separator and the header.
const LOOKED_AT: usize = 50;

/// A quoted cell that is longer was never closed.
const MOST_IN_QUOTES: usize = 1 << 20;

/// Words that head a column of words; elsewhere the first line of such a column is data like the rest.
const HEADS: [&str; 12] =
    ["label", "labels", "class", "classes", "category", "categories", "target", "y", "id", "name", "tag", "tags"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Char(char),
    Spaces,
    /// One column.
    None,
}

/// A table whose first lines were read, and the columns chosen of it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    input: Input,
    separator: Separator,
    looked_at: bool,
    comments: bool,
    header: Option<Vec<String>>,
    n_columns: usize,
    /// Rows after the header.
    pub(super) n: usize,
    /// Numbers of the chosen columns, from 0.
    pub(super) columns: Vec<usize>,
    chosen: Option<String>,
}

/// A line, or several where quotes hold line breaks.
struct Record {
    line: u64,
    text: String,
}

impl Table {
    /// Reads the whole file once: the first lines tell its form, and all must have equally many cells.
    pub(super) fn open(input: &Input, name: Option<&str>) -> Result<Table, FeatureError> {
        let at = input.at(FORMAT);
        let start = input.bytes(0, input.len().min(4096)).map_err(|e| at.io(e))?.unwrap_or_default();
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(at.unsupported("text in UTF-16", "save it as UTF-8"));
        }
        if let Some(i) = start.iter().position(|b| *b == 0) {
            return Err(FeatureError::Unknown { path: input.path(), reason: format!("byte {i} is 0, so it is no text") });
        }
        let comments = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start).starts_with(b"#");
        let mut table = Table {
            input: input.clone(),
            separator: Separator::None,
            looked_at: false,
            comments,
            header: None,
            n_columns: 0,
            n: 0,
            columns: Vec::new(),
            chosen: None,
        };
        let mut lines = table.records();
        let mut head = Vec::new();
        while head.len() < LOOKED_AT {
            let Some(record) = lines.next()? else { break };
            head.push(record);
        }
        table.separator = separator(&head);
        table.looked_at = true;
        // The first lines once more, now that quotes can be told from the separator.
        let mut records = table.records();
        let mut rows: Vec<Vec<String>> = Vec::new();
        let (mut bad, mut n_bad) = (Vec::new(), 0);
        let mut n_records = 0;
        while let Some(record) = records.next()? {
            let cells = split(&record.text, table.separator);
            if n_records == 0 {
                table.n_columns = cells.len();
            }
            if cells.len() != table.n_columns {
                n_bad += 1;
                if bad.len() < 3 {
                    bad.push(format!("line {} has {} cells, the first {}", record.line, cells.len(), table.n_columns));
                }
            }
            if rows.len() < LOOKED_AT {
                rows.push(cells.into_iter().map(|c| c.trim().to_owned()).collect());
            }
            n_records += 1;
        }
        if n_bad > 0 {
            return Err(FeatureError::Lines { path: input.path(), first: bad.join("; "), n_bad });
        }
        if has_header(&rows) {
            table.header = rows.first().cloned();
        }
        table.n = n_records - usize::from(table.header.is_some());
        table.columns = table.choose(name, &rows)?;
        table.chosen = name.map(str::to_owned);
        Ok(table)
    }

    /// One entry for each column.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, FeatureError> {
        let mut rows = self.rows();
        let mut words = vec![false; self.n_columns];
        for _ in 0..LOOKED_AT {
            let Some((_, cells)) = rows.next()? else { break };
            words.iter_mut().zip(cells).for_each(|(word, cell)| *word |= number(&cell).is_none());
        }
        Ok((0..self.n_columns)
            .map(|i| Entry {
                name: self.name_of(i),
                shape: vec![self.n],
                kind: if words[i] { "text" } else { "number" }.to_owned(),
            })
            .collect())
    }

    fn name_of(&self, column: usize) -> String {
        let name = self.header.as_ref().map(|h| h[column].clone()).filter(|h| !h.is_empty());
        name.unwrap_or_else(|| (column + 1).to_string())
    }

    /// The names of the chosen columns, where there is a header.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        self.header.as_ref().map(|header| self.columns.iter().map(|c| header[*c].clone()).collect())
    }

    pub(super) fn form(&self) -> String {
        let separated = match self.separator {
            Separator::Char(',') => "comma-separated",
            Separator::Char(';') => "semicolon-separated",
            Separator::Char(_) => "tab-separated",
            Separator::Spaces => "space-separated",
            Separator::None => "one column",
        };
        format!("{separated} with{} header", if self.header.is_some() { " a" } else { "out" })
    }

    pub(super) fn label(&self) -> String {
        let nameless = self.header.as_ref().is_some_and(|h| h.first().is_some_and(String::is_empty));
        match &self.chosen {
            Some(name) if self.columns.len() == 1 => format!("column {name}"),
            Some(name) => format!("columns {name}"),
            None if nameless && self.n_columns > 1 => format!(
                "all {0} columns (the first has no name; if it counts the rows, leave it out by naming columns 2-{0})",
                self.n_columns
            ),
            None if self.n_columns == 1 => String::new(),
            None => format!("all {} columns", self.n_columns),
        }
    }

    fn choose(&self, name: Option<&str>, rows: &[Vec<String>]) -> Result<Vec<usize>, FeatureError> {
        let Some(name) = name else { return Ok((0..self.n_columns).collect()) };
        let by_name = |name: &str| self.header.as_ref().and_then(|h| h.iter().position(|c| c == name));
        if let Some(column) = by_name(name.trim()) {
            return Ok(vec![column]);
        }
        let by_number = |text: &str| {
            let number: usize = text.trim().parse().ok()?;
            (1..=self.n_columns).contains(&number).then(|| number - 1)
        };
        let mut columns = Vec::new();
        for part in name.split(',').map(str::trim) {
            let range = part.split_once('-').and_then(|(a, b)| Some((by_number(a)?, by_number(b)?)));
            match (by_name(part).or_else(|| by_number(part)), range) {
                (Some(column), _) => columns.push(column),
                (None, Some((first, last))) if first <= last => columns.extend(first..=last),
                (None, _) => {
                    let names: Vec<String> = (0..self.n_columns.min(12)).map(|c| self.name_of(c)).collect();
                    let all = if self.n_columns > 12 { ", ..." } else { "" };
                    let holds = match &self.header {
                        Some(_) => format!("{} columns, {}{all}", self.n_columns, names.join(", ")),
                        None if rows.is_empty() => "nothing".to_owned(),
                        None => format!("columns 1-{} without names", self.n_columns),
                    };
                    let (path, name) = (self.input.path(), part.to_owned());
                    return Err(FeatureError::NoSuch { path, kind: "column", name, holds });
                }
            }
            // The same columns many times over are no table any more.
            if columns.len() > self.n_columns.saturating_mul(4) {
                let (path, holds) = (self.input.path(), format!("{} columns", self.n_columns));
                return Err(FeatureError::NoSuch { path, kind: "selection of columns", name: name.to_owned(), holds });
            }
        }
        Ok(columns)
    }

    fn records(&self) -> Records {
        let mut reader = BufReader::new(self.input.reader(0));
        let mut start = [0u8; 3];
        if self.input.read_exact_at(0, &mut start).is_ok() && start == *b"\xef\xbb\xbf" {
            reader = BufReader::new(self.input.reader(3));
        }
        Records {
            // Before the first lines were looked at, nothing is known of the form.
            blanks_count: self.looked_at && self.separator == Separator::None,
            input: self.input.clone(),
            reader,
            separator: self.separator,
            comments: self.comments,
            line: 0,
            blanks: Vec::new(),
            held: None,
        }
    }

    /// The rows after the header.
    pub(super) fn rows(&self) -> Rows {
        Rows { records: self.records(), separator: self.separator, skip: self.header.is_some() }
    }

    /// The chosen cells of the next `n_max` rows as numbers, row-major; every bad cell of them is counted.
    pub(super) fn numbers(&self, rows: &mut Rows, n_max: usize) -> Result<Vec<f32>, FeatureError> {
        let mut out = Vec::new();
        let (mut bad, mut n_bad) = (Vec::new(), 0);
        for _ in 0..n_max {
            let Some((line, cells)) = rows.next()? else { break };
            let mut fine = true;
            for column in &self.columns {
                let cell = cells.get(*column).map_or("", |c| c.trim());
                match number(cell) {
                    Some(value) => out.push(value),
                    None => {
                        if fine && bad.len() < 3 {
                            bad.push(self.bad_cell(line, *column, cell));
                        }
                        fine = false;
                    }
                }
            }
            n_bad += usize::from(!fine);
        }
        if n_bad == 0 {
            return Ok(out);
        }
        let mut first = bad.join("; ");
        if self.chosen.is_none() {
            first.push_str(&format!("; choose the columns of numbers, as in `{}:2-4`", self.input.file_name()));
        }
        Err(FeatureError::Lines { path: self.input.path(), first, n_bad })
    }

    fn bad_cell(&self, line: u64, column: usize, cell: &str) -> String {
        let name = self.header.as_ref().map_or(String::new(), |h| format!(" ({})", excerpt(&h[column])));
        let stands = if cell.is_empty() { "is empty".to_owned() } else { format!("is `{}`", excerpt(cell)) };
        format!("line {line}, column {}{name} {stands}, expected a number", column + 1)
    }

    /// The cells of the only chosen column.
    pub(super) fn texts(&self) -> Result<Vec<String>, FeatureError> {
        let column = match self.columns[..] {
            [column] => column,
            _ => return Err(kinds::which_column(&self.input, &self.entries()?)),
        };
        let mut rows = self.rows();
        let mut texts = Vec::new();
        while let Some((_, cells)) = rows.next()? {
            texts.push(cells.get(column).map_or("", |c| c.trim()).to_owned());
        }
        Ok(texts)
    }
}

fn number(cell: &str) -> Option<f32> {
    cell.trim().parse().ok()
}

/// The rows of a table from front to back.
pub(super) struct Rows {
    records: Records,
    separator: Separator,
    skip: bool,
}

impl Rows {
    fn next(&mut self) -> Result<Option<(u64, Vec<String>)>, FeatureError> {
        if self.skip {
            self.records.next()?;
            self.skip = false;
        }
        let Some(record) = self.records.next()? else { return Ok(None) };
        let cells = split(&record.text, self.separator).into_iter().map(Cow::into_owned).collect();
        Ok(Some((record.line, cells)))
    }
}

struct Records {
    input: Input,
    reader: BufReader<InputReader>,
    separator: Separator,
    comments: bool,
    line: u64,
    /// Whether blank lines between others are rows with an empty cell.
    blanks_count: bool,
    /// Blank lines that are rows, if another follows that is not blank; the last one first.
    blanks: Vec<u64>,
    held: Option<Record>,
}

impl Records {
    fn next(&mut self) -> Result<Option<Record>, FeatureError> {
        if let Some(line) = self.held.as_ref().and_then(|_| self.blanks.pop()) {
            return Ok(Some(Record { line, text: String::new() }));
        }
        if let Some(record) = self.held.take() {
            return Ok(Some(record));
        }
        let begun = self.line > 0;
        let record = self.filled()?;
        if self.blanks_count && begun && !self.blanks.is_empty() && record.is_some() {
            self.blanks.reverse();
            self.held = record;
            return self.next();
        }
        self.blanks.clear();
        Ok(record)
    }

    /// The next record that is not blank.
    fn filled(&mut self) -> Result<Option<Record>, FeatureError> {
        loop {
            let Some(mut text) = self.line()? else { return Ok(None) };
            if self.comments && text.starts_with('#') {
                continue;
            }
            if text.trim().is_empty() {
                if self.blanks_count {
                    self.blanks.push(self.line);
                }
                continue;
            }
            let line = self.line;
            if let Separator::Char(separator) = self.separator
                && text.contains('"')
            {
                let mut place = Place::Start.after_all(&text, separator);
                while place == Place::Quoted {
                    let more = self.line()?.filter(|more| text.len() + more.len() < MOST_IN_QUOTES);
                    let Some(more) = more else {
                        let reason = format!("line {line}: a quote is opened and never closed");
                        return Err(self.input.at(FORMAT).damaged(reason));
                    };
                    place = place.after_all("\n", separator).after_all(&more, separator);
                    text.push('\n');
                    text.push_str(&more);
                }
            }
            return Ok(Some(Record { line, text }));
        }
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<String>, FeatureError> {
        let at = self.input.at(FORMAT);
        let mut bytes = Vec::new();
        if self.reader.by_ref().read_until(b'\n', &mut bytes).map_err(|e| at.io(e))? == 0 {
            return Ok(None);
        }
        self.line += 1;
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                let at_byte = e.utf8_error().valid_up_to();
                let reason = format!("line {}: byte {} is not UTF-8: save the table as UTF-8", self.line, at_byte + 1);
                Err(at.damaged(reason))
            }
        }
    }
}

/// Where in a cell a letter stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Bare,
    Quoted,
    /// After a quote that closes the cell, unless another follows: that is a quote of the text.
    Closed,
}

impl Place {
    fn after(self, c: char, separator: char) -> Place {
        match self {
            Place::Quoted => {
                if c == '"' {
                    Place::Closed
                } else {
                    Place::Quoted
                }
            }
            Place::Closed if c == '"' => Place::Quoted,
            Place::Start if c == '"' => Place::Quoted,
            Place::Start | Place::Bare | Place::Closed if c == separator => Place::Start,
            Place::Start if c.is_whitespace() => Place::Start,
            Place::Start | Place::Bare | Place::Closed => Place::Bare,
        }
    }

    fn after_all(self, text: &str, separator: char) -> Place {
        text.chars().fold(self, |place, c| place.after(c, separator))
    }
}

fn split(text: &str, separator: Separator) -> Vec<Cow<'_, str>> {
    match separator {
        Separator::None => {
            let inner = text.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            vec![inner.map_or(Cow::Borrowed(text), |inner| Cow::Owned(inner.replace("\"\"", "\"")))]
        }
        Separator::Spaces => text.split_whitespace().map(Cow::Borrowed).collect(),
        Separator::Char(c) if !text.contains('"') => text.split(c).map(Cow::Borrowed).collect(),
        Separator::Char(separator) => {
            let mut cells = Vec::new();
            let (mut place, mut cell) = (Place::Start, String::new());
            for c in text.chars() {
                let next = place.after(c, separator);
                let escaped = place == Place::Closed && c == '"';
                if next == Place::Start && c == separator {
                    cells.push(Cow::Owned(std::mem::take(&mut cell)));
                } else if escaped || !(c == '"' && place != Place::Bare) {
                    cell.push(c);
                }
                place = next;
            }
            cells.push(Cow::Owned(cell));
            cells
        }
    }
}

/// The separator that cuts all lines into equally many cells, or else the first one into most.
fn separator(lines: &[Record]) -> Separator {
    let count = |line: &Record, separator| split(&line.text, separator).len();
    let Some((first, rest)) = lines.split_first() else { return Separator::None };
    let chars = ['\t', ',', ';'].map(Separator::Char);
    let even = |s: &Separator| count(first, *s) > 1 && rest.iter().all(|line| count(line, *s) == count(first, *s));
    if let Some(separator) = chars.into_iter().filter(even).max_by_key(|s| (*s == chars[0], count(first, *s))) {
        return separator;
    }
    // Words of a text are no columns: among cells cut by spaces there must be numbers.
    let cells: Vec<&str> = lines.last().map_or(Vec::new(), |line| line.text.split_whitespace().collect());
    if even(&Separator::Spaces) && cells.iter().any(|c| number(c).is_some()) {
        return Separator::Spaces;
    }
    let most = chars.into_iter().rev().max_by_key(|s| count(first, *s)).filter(|s| count(first, *s) > 1);
    most.unwrap_or(Separator::None)
}

/// Whether the first of the first rows names the columns.
fn has_header(rows: &[Vec<String>]) -> bool {
    let Some((first, rest)) = rows.split_first() else { return false };
    let is_number = |cell: &str| number(cell).is_some();
    if first.iter().any(|cell| is_number(cell)) {
        // pandas numbers the columns from 0 where they have no names.
        let numbers: Vec<&str> = first.iter().map(String::as_str).skip_while(|cell| !is_number(cell)).collect();
        let counts = numbers.len() >= 2 && numbers.iter().enumerate().all(|(i, cell)| **cell == i.to_string());
        return counts && !rest.is_empty();
    }
    if first.iter().all(|cell| cell.is_empty()) {
        return false;
    }
    let below = |column: usize| rest.iter().filter_map(move |row| row.get(column)).filter(|cell| !cell.is_empty());
    if (0..first.len()).any(|c| !first[c].is_empty() && below(c).next().is_some() && below(c).all(|cell| is_number(cell))) {
        return true;
    }
    if let [only] = &first[..] {
        return HEADS.contains(&only.to_lowercase().as_str());
    }
    // All words: a name does not come again below it.
    !rest.is_empty() && (0..first.len()).all(|c| below(c).all(|cell| *cell != first[c]))
}
