//! Pairs files: which picture, caption, sound, series belong together.
//!
//! # Forms
//! A table with a header: comma, semicolon or tab separated, the separator told by the header, cells quoted as in RFC 4180, LF or
//! CRLF, with or without byte-order mark; or JSON lines, one object per line, whose keys are the columns. UTF-8.
//!
//! | column | what its cells are |
//! | --- | --- |
//! | `image`, `photo`, `picture`, `img`, also `image_path`, `image_file` | path of a picture |
//! | `audio`, `sound`, `recording`, likewise | path of a sound |
//! | `series`, `signal`, `motion`, `touch`, likewise | path of a series |
//! | `text`, `caption`, `sentence`, `description`, also `text_zh`, `caption_2` | the text itself |
//! | `file`, `filename`, `path` | path of whatever its ending says |
//! | anything else | kept, not used |
//!
//! So `image,caption` of Flickr8k's `captions.txt` and `image,text,text_zh,audio,series` of the small world read alike.
//!
//! # Groups
//! Rows with the same first cell form a group: five captions of one picture are five rows of one group, wherever in the file they
//! stand. A row whose first cell is empty is a group of its own.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chiasm_core::Modality;

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The text itself.
    Text,
    /// Paths of files of this kind.
    Media(Modality),
    /// Paths of files whose endings tell their kind.
    File,
    /// Not for pairing.
    Other,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As the header has it, trimmed.
    pub name: String,
    /// By its name.
    pub role: Role,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairRow {
    /// Line of the file it begins on, from 1.
    pub line: u64,
    /// Rows of one group belong to one thing.
    pub group: u32,
    /// One for each column; `None` where nothing stands.
    pub cells: Vec<Option<String>>,
}

/// A pairs file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// In the order of the file.
    pub columns: Vec<Column>,
    /// In the order of the file.
    pub rows: Vec<PairRow>,
    /// How many groups there are; they are numbered from 0 in order of appearance.
    pub n_groups: usize,
    /// Lines that are as wide as no row should be, and so were left out: whoever reads the file tells of them.
    pub wrong: Vec<WrongLine>,
}

/// A line of another width than the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLine {
    /// From 1.
    pub line: u64,
    /// Cells there are.
    pub found: usize,
    /// Columns there are.
    pub expected: usize,
}

impl std::fmt::Display for WrongLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {} cells, the header has {}", self.line, self.found, self.expected)
    }
}

impl Pairs {
    /// The first column that holds this kind of thing: texts, or paths of this kind or of any kind.
    pub fn column(&self, modality: Modality) -> Option<usize> {
        let wanted = if modality == Modality::Text { Role::Text } else { Role::Media(modality) };
        let of = |role| self.columns.iter().position(|c| c.role == role);
        of(wanted).or_else(|| if modality == Modality::Text { None } else { of(Role::File) })
    }

    /// The column of this name, letter case aside.
    pub fn column_named(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// Group of each row.
    pub fn groups(&self) -> Vec<u32> {
        self.rows.iter().map(|r| r.group).collect()
    }
}

/// Why a file is no pairs file.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// The file cannot be read.
    #[error("cannot read the pairs file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not UTF-8.
    #[error("line {line}: not UTF-8{hint}")]
    Encoding {
        /// From 1.
        line: usize,
        /// What it seems to be.
        hint: &'static str,
    },
    /// Nothing in it.
    #[error("the file is empty: expected a header such as `image,caption` and a row for each pair")]
    Empty,
    /// A header that says nothing.
    #[error("line 1: {0}")]
    Header(String),
    /// Half of the rows or more are of another width; this is the first.
    #[error("line {line}: {found} cells, the header has {expected}: quote cells that hold the separator")]
    Width {
        /// From 1.
        line: u64,
        /// Cells there are.
        found: usize,
        /// Columns there are.
        expected: usize,
    },
    /// A line that is not what its form demands.
    #[error("line {line}: {reason}")]
    Row {
        /// From 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a pairs file: JSON lines when it begins with `{`, else a table.
///
/// # Errors
/// [`PairsError`].
pub fn read_pairs(path: &Path) -> Result<Pairs, PairsError> {
    let bytes = fs::read(path).map_err(|source| PairsError::Io { path: path.to_owned(), source })?;
    parse_pairs(&bytes)
}

/// Reads the bytes of a pairs file.
///
/// # Errors
/// [`PairsError`].
pub fn parse_pairs(bytes: &[u8]) -> Result<Pairs, PairsError> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(PairsError::Encoding { line: 1, hint: " but UTF-16: save the file as UTF-8" });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        PairsError::Encoding { line, hint: ": save the file as UTF-8" }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (columns, rows, wrong) = if text.trim_start().starts_with('{') {
        let (columns, rows) = parse_json(text)?;
        (columns, rows, Vec::new())
    } else {
        parse_table(text)?
    };
    let mut groups: HashMap<String, u32> = HashMap::new();
    let mut n_groups = 0u32;
    let rows: Vec<PairRow> = rows
        .into_iter()
        .map(|(line, cells)| {
            let mut fresh = || {
                n_groups += 1;
                n_groups - 1
            };
            let group = match cells.first().and_then(Option::as_ref) {
                Some(key) => *groups.entry(key.clone()).or_insert_with(fresh),
                None => fresh(),
            };
            PairRow { line, group, cells }
        })
        .collect();
    Ok(Pairs { columns, rows, n_groups: n_groups as usize, wrong })
}

type Rows = Vec<(u64, Vec<Option<String>>)>;

fn parse_table(text: &str) -> Result<(Vec<Column>, Rows, Vec<WrongLine>), PairsError> {
    let header = text.lines().next().filter(|line| !line.trim().is_empty());
    let Some(header) = header else {
        return Err(if text.trim().is_empty() {
            PairsError::Empty
        } else {
            PairsError::Header("it is blank: expected a header such as `image,caption`".to_owned())
        });
    };
    let delimiter = delimiter_of(header)?;
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text.as_bytes());
    let mut columns: Vec<Column> = Vec::new();
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    let mut lines = Lines { bytes: text.as_bytes(), at: 0, line: 1 };
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(0, |p| lines.of(p.byte()));
            PairsError::Row { line, reason: e.to_string() }
        })?;
        let line = record.position().map_or(0, |p| lines.of(p.byte()));
        if i == 0 {
            columns = columns_of(record.iter())?;
            continue;
        }
        if record.len() != columns.len() {
            wrong.push(WrongLine { line, found: record.len(), expected: columns.len() });
            continue;
        }
        rows.push((line, record.iter().map(cell).collect()));
    }
    match wrong.first() {
        // Then it is the header or the separator that is wrong.
        Some(WrongLine { line, found, expected }) if wrong.len() >= rows.len() => {
            Err(PairsError::Width { line: *line, found: *found, expected: *expected })
        }
        _ => Ok((columns, rows, wrong)),
    }
}

/// Lines of ascending offsets. The reader's own count is one short after CRLF, where it sees a row begin at the LF.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// Line of the first byte from `offset` on that ends no line.
    fn of(&mut self, offset: u64) -> u64 {
        let mut end = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        end += self.bytes[end..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        self.line += self.bytes[self.at.min(end)..end].iter().filter(|b| **b == b'\n').count() as u64;
        self.at = end;
        self.line
    }
}

fn cell(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

/// The separator that cuts the header into most cells.
fn delimiter_of(header: &str) -> Result<u8, PairsError> {
    let mut quoted = false;
    let mut counts = [0usize; 3];
    for c in header.chars() {
        quoted ^= c == '"';
        if let Some(i) = [',', '\t', ';'].iter().position(|d| *d == c && !quoted) {
            counts[i] += 1;
        }
    }
    let most = (0..3).max_by_key(|i| (counts[*i], 3 - i)).unwrap_or(0);
    if counts[most] == 0 {
        return Err(PairsError::Header(format!(
            "`{header}` has one column: expected a header such as `image,caption`, separated by comma, semicolon or tab"
        )));
    }
    Ok(b",\t;"[most])
}

fn columns_of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Column>, PairsError> {
    let columns: Vec<Column> = names.map(|n| Column { name: n.trim().to_owned(), role: role_of(n.trim()) }).collect();
    for (i, column) in columns.iter().enumerate() {
        if column.name.is_empty() {
            return Err(PairsError::Header(format!("column {} has no name", i + 1)));
        }
        if columns[..i].iter().any(|c| c.name.eq_ignore_ascii_case(&column.name)) {
            return Err(PairsError::Header(format!("two columns are called `{}`", column.name)));
        }
    }
    if columns.iter().filter(|c| c.role != Role::Other).count() < 2 {
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        return Err(PairsError::Header(format!(
            "the columns are `{}`: expected at least two of image, text (or caption), audio, series, video, shape, file",
            names.join("`, `")
        )));
    }
    Ok(columns)
}

fn role_of(name: &str) -> Role {
    let name = name.to_lowercase();
    // `image_path`, `caption 2`, `text-zh`: the first word decides.
    let word = name.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
    match word {
        "image" | "images" | "photo" | "picture" | "img" => Role::Media(Modality::Image),
        "audio" | "sound" | "recording" => Role::Media(Modality::Audio),
        "series" | "signal" | "motion" | "touch" => Role::Media(Modality::Series),
        "video" | "clip" | "film" => Role::Media(Modality::Video),
        "shape" | "mesh" | "model" => Role::Media(Modality::Shape),
        "text" | "caption" | "captions" | "sentence" | "description" => Role::Text,
        "file" | "filename" | "path" => Role::File,
        _ => Role::Other,
    }
}

fn parse_json(text: &str) -> Result<(Vec<Column>, Rows), PairsError> {
    let mut names: Vec<String> = Vec::new();
    let mut rows: Rows = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let number = i as u64 + 1;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |reason: String| PairsError::Row { line: number, reason };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).map_err(|e| wrong(format!("no JSON object: {e}")))?;
        if names.is_empty() {
            names = object.keys().cloned().collect();
        }
        if let Some(extra) = object.keys().find(|k| !names.contains(k)) {
            return Err(wrong(format!("key `{extra}` is not in the first line, whose keys are the columns")));
        }
        let mut cells = Vec::with_capacity(names.len());
        for name in &names {
            cells.push(match object.get(name) {
                None | Some(serde_json::Value::Null) => None,
                Some(serde_json::Value::String(text)) => cell(text),
                Some(serde_json::Value::Number(number)) => Some(number.to_string()),
                Some(other) => return Err(wrong(format!("`{name}` is {other}, expected a string"))),
            });
        }
        rows.push((number, cells));
    }
    Ok((columns_of(names.iter().map(String::as_str))?, rows))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(pairs: &Pairs) -> Vec<Vec<&str>> {
        pairs.rows.iter().map(|r| r.cells.iter().map(|c| c.as_deref().unwrap_or("-")).collect()).collect()
    }

    #[test]
    fn captions_as_flickr8k_has_them() {
        let text = "\u{feff}image,caption\r\na.jpg,A dog .\r\nb.jpg,\"A \"\"big\"\" cat , asleep\"\r\na.jpg,\"Two\nlines\"\r\nc.jpg,\r\n";
        let pairs = parse_pairs(text.as_bytes()).unwrap();
        assert_eq!(
            cells(&pairs),
            [["a.jpg", "A dog ."], ["b.jpg", "A \"big\" cat , asleep"], ["a.jpg", "Two\nlines"], ["c.jpg", "-"]]
        );
        assert_eq!((pairs.groups(), pairs.n_groups), (vec![0, 1, 0, 2], 3));
        assert_eq!(pairs.rows.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 3, 4, 6]);
        assert_eq!((pairs.column(Modality::Image), pairs.column(Modality::Text)), (Some(0), Some(1)));
        assert_eq!(pairs.column(Modality::Audio), None);
    }

    #[test]
    fn many_columns_any_separator_and_json_read_alike() {
        let header = "image,text,text_zh,audio,series,weather";
        let row = "p/1.png,a red ball,红球,s/1.wav,,fine";
        let table = parse_pairs(format!("{header}\n{row}\n").as_bytes()).unwrap();
        for separator in ["\t", ";"] {
            let text = format!("{header}\n{row}").replace(',', separator);
            assert_eq!(parse_pairs(text.as_bytes()).unwrap(), table);
        }
        let json =
            r#"{"image":"p/1.png","text":"a red ball","text_zh":"红球","audio":"s/1.wav","series":null,"weather":"fine"}"#;
        let json = parse_pairs(json.as_bytes()).unwrap();
        assert_eq!((&json.columns, cells(&json)), (&table.columns, cells(&table)));
        assert_eq!(table.columns[2].role, Role::Text);
        assert_eq!(table.columns[5].role, Role::Other);
        assert_eq!(table.column(Modality::Series), Some(4));
        assert_eq!(parse_pairs(b"file,caption\nx.wav,bark").unwrap().column(Modality::Audio), Some(0));
        assert_eq!(parse_pairs(b"image_path,caption 2\n,x\n,y").unwrap().groups(), [0, 1]);
    }

    #[test]
    fn errors_say_where_and_what() {
        let message = |bytes: &[u8]| parse_pairs(bytes).unwrap_err().to_string();
        assert!(message(b" \n").contains("empty"));
        assert!(message(b"image\nx").contains("has one column"));
        assert!(message(b"a,b\nx,y").contains("expected at least two of image"));
        assert!(message(b"image,image\n").contains("two columns are called `image`"));
        assert!(message(b"image,\n").contains("column 2 has no name"));
        assert!(message(b"image,text\na,b\na,b,c\n").starts_with("line 3: 3 cells, the header has 2"));
        assert!(message(b"image,text\na,\xff\n").starts_with("line 2: not UTF-8"));
        assert!(message(b"\xff\xfei\0").contains("UTF-16"));
        assert!(message(b"{\"image\":\"a\",\"text\":\"b\"}\n{\"image\":[]}").starts_with("line 2: `image` is []"));
        assert!(message(b"{\"image\":\"a\",\"text\":\"b\"}\n{\"img\":1}").starts_with("line 2: key `img`"));
        assert!(message(b"{\"image\":").starts_with("line 1: no JSON object"));
        assert!(read_pairs(Path::new("/no/such/file")).unwrap_err().to_string().contains("/no/such/file"));
    }

    #[test]
    fn a_few_wrong_lines_are_left_out_and_told() {
        let pairs = parse_pairs("image,text\na,b\na\nb,c\nc,d,e\nd,e\n".as_bytes()).unwrap();
        assert_eq!(pairs.rows.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 4, 6]);
        assert_eq!(
            pairs.wrong.iter().map(WrongLine::to_string).collect::<Vec<_>>(),
            ["line 3: 1 cells, the header has 2", "line 5: 3 cells, the header has 2"]
        );
    }

    #[test]
    fn the_real_captions_are_read() {
        let root = std::env::var_os("CHIASM_TEST_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
        let path = root.join("flickr8k/captions.txt");
        if !path.exists() {
            assert!(std::env::var_os("CI").is_none(), "no test data at {}", root.display());
            eprintln!("skipped: no test data at {}", root.display());
            return;
        }
        let pairs = read_pairs(&path).unwrap();
        assert_eq!((pairs.n_groups, pairs.rows.len()), (800, 4000));
        assert!(pairs.rows.iter().all(|r| r.cells.iter().all(Option::is_some)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[image,text;\"\n\t{}:]{0,60}") {
            let _ = parse_pairs(&bytes);
            let _ = parse_pairs(text.as_bytes());
        }
    }
}
