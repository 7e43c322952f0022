//! `chiasm import`: embeddings that were made elsewhere, as a library.
//!
//! `--npy`, `--names` and `--kind` are given once per kind of media, in the same order:
//! `chiasm import --npy i.npy --names i.csv --kind image --npy t.npy --names t.csv --kind text --library fashion`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chiasm_core::{Metric, Modality, Vectors};
use chiasm_engine::{Library, Limits, ReadyVectors};
use clap::{Args, ValueEnum};

use crate::index;
use crate::ui::{Ui, count, shown, usage};

/// Arguments of `chiasm import`.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// Embeddings, one a row: a NumPy array of 32-bit floats
    #[arg(long, required = true, value_name = "FILE.npy")]
    npy: Vec<PathBuf>,
    /// Names of the rows: a table with a header (comma, semicolon or tab), or plain lines in a .txt
    #[arg(long, required = true, value_name = "FILE.csv")]
    names: Vec<PathBuf>,
    /// What the rows stand for: image, text, audio, series or video
    #[arg(long, required = true, value_name = "KIND")]
    kind: Vec<Modality>,
    /// Column of the names in the tables [default: path, file, filename, image, name or id, else the first]
    #[arg(long, value_name = "COLUMN")]
    name_column: Option<String>,
    /// Column of what is shown and searched by words [default: text, caption, title, description or the like, where there is one]
    #[arg(long, value_name = "COLUMN")]
    text_column: Option<String>,
    /// How closeness is measured
    #[arg(long, value_enum, default_value_t)]
    metric: MetricArg,
    /// Name of the space that the embeddings are in
    #[arg(long, value_name = "NAME", default_value = "imported")]
    space_name: String,
    /// Tune searches for this share of the exact ten nearest, as `chiasm index --tune` does
    #[arg(long, value_name = "recall=R")]
    tune: Option<String>,
    /// The library to make
    #[arg(long, required = true, value_name = "PATH")]
    library: PathBuf,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum MetricArg {
    /// Of the angle; rows are brought to unit length
    #[default]
    Cosine,
    /// Inner product of the rows as they are
    InnerProduct,
    /// Euclidean distance
    L2,
}

const NAME_COLUMNS: &[&str] = &["path", "file", "filename", "file_name", "image", "name", "id"];
const TEXT_COLUMNS: &[&str] = &["text", "caption", "title", "productdisplayname", "description"];

/// `chiasm import`
pub(crate) fn run(args: &ImportArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let n = args.npy.len();
    if args.names.len() != n || args.kind.len() != n {
        return Err(usage(format!(
            "{n} `--npy`, {} `--names` and {} `--kind`: give all three once for each kind of media, in the same order",
            args.names.len(),
            args.kind.len()
        )));
    }
    let metric = match args.metric {
        MetricArg::Cosine => Metric::Cosine,
        MetricArg::InnerProduct => Metric::InnerProduct,
        MetricArg::L2 => Metric::L2,
    };
    let mut ready = Vec::with_capacity(n);
    for ((npy, names), kind) in args.npy.iter().zip(&args.names).zip(&args.kind) {
        let vectors = read_vectors(npy)?;
        let table = Table::read(names)?;
        let n_rows = table.rows.len();
        if n_rows != vectors.n() {
            bail!("{} has {} rows, {} has {n_rows} names: one name per row is needed", shown(npy), vectors.n(), shown(names));
        }
        let name_column = table.column(args.name_column.as_deref(), NAME_COLUMNS)?.unwrap_or(0);
        let text_column = table.column(args.text_column.as_deref(), TEXT_COLUMNS)?.filter(|c| *c != name_column);
        let cells = |column: usize| table.rows.iter().map(|row| row[column].clone()).collect::<Vec<_>>();
        ready.push(ReadyVectors {
            modality: *kind,
            vectors,
            names: cells(name_column),
            texts: text_column.map(cells).unwrap_or_default(),
        });
    }
    let recall = args.tune.as_deref().map(index::recall).transpose()?;
    let library = Library::import_vectors(&args.library, &args.space_name, metric, &ready, ui)?;
    if let Some(recall) = recall {
        library.tune(recall, ui, &ui.cancel)?;
    }
    let info = library.info()?;
    if ui.json {
        ui.print_json(&info)?;
        return Ok(ExitCode::SUCCESS);
    }
    ui.print(format!("{} in {}: ", count(info.n_items, "item"), shown(library.dir())))?;
    let kinds: Vec<String> = info.kinds.iter().map(|k| format!("{} of kind {}", k.n_items, k.kind)).collect();
    ui.print(format!("{}\n", kinds.join(", ")))?;
    ui.hint(format!("ask by an item: `chiasm similar NAME --library {}`", shown(&args.library)));
    Ok(ExitCode::SUCCESS)
}

fn read_vectors(path: &Path) -> anyhow::Result<Vectors> {
    let limits = Limits::default();
    // Values are bounded like the file: 2 GiB of 32-bit floats.
    let max_values = limits.max_file_bytes / 4;
    let bytes = chiasm_media::read(path, &limits).with_context(|| shown(path))?;
    let (values, shape) = chiasm_media::read_npy_f32(&bytes, max_values).with_context(|| shown(path))?;
    let &[n, dim] = shape.as_slice() else {
        bail!("{} has shape {shape:?}, expected two dimensions: rows and numbers per row", shown(path));
    };
    if n == 0 {
        bail!("{} has no rows", shown(path));
    }
    Vectors::new(values, dim).with_context(|| shown(path))
}

/// A small table of strings, every row as long as the header.
struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn read(path: &Path) -> anyhow::Result<Table> {
        let bytes = chiasm_media::read(path, &Limits::default()).with_context(|| shown(path))?;
        let text = String::from_utf8(bytes).with_context(|| format!("{}: expected UTF-8", shown(path)))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let path = path.to_owned();
        if path.extension().is_some_and(|e| e == "txt") {
            let rows = text.lines().map(|line| vec![line.to_owned()]).collect();
            return Ok(Table { path, header: vec!["name".to_owned()], rows });
        }
        let first = text.lines().next().unwrap_or_default();
        let delimiter = [b';', b'\t', b','].into_iter().max_by_key(|d| first.bytes().filter(|b| b == d).count());
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter.unwrap_or(b',')).from_reader(text.as_bytes());
        let cells = |record: &csv::StringRecord| record.iter().map(|c| c.trim().to_owned()).collect::<Vec<_>>();
        let header = cells(reader.headers().with_context(|| shown(&path))?);
        let rows = reader.records().map(|r| r.map(|r| cells(&r))).collect::<Result<_, _>>().with_context(|| shown(&path))?;
        Ok(Table { path, header, rows })
    }

    /// The column asked for by name, or else the first of the usual names that is there.
    fn column(&self, asked: Option<&str>, usual: &[&str]) -> anyhow::Result<Option<usize>> {
        let find = |name: &str| self.header.iter().position(|h| h.eq_ignore_ascii_case(name));
        let Some(name) = asked else { return Ok(usual.iter().find_map(|name| find(name))) };
        match find(name) {
            Some(column) => Ok(Some(column)),
            // The tables of several kinds need not all have the column; the one that has none of its like keeps to the usual.
            None if usual.iter().any(|name| find(name).is_some()) => Ok(usual.iter().find_map(|name| find(name))),
            None => bail!("{} has no column `{name}`, only {}", shown(&self.path), self.header.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str, name: &str) -> Table {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Table::read(&path).unwrap()
    }

    #[test]
    fn semicolons_and_a_byte_order_mark() {
        let t = table("\u{feff}id;Price;productDisplayName \n7;$1,50;A \"b\"\n8;$2;C, d\n", "styles.csv");
        assert_eq!(t.header, ["id", "Price", "productDisplayName"]);
        assert_eq!(t.column(None, NAME_COLUMNS).unwrap(), Some(0));
        assert_eq!(t.column(None, TEXT_COLUMNS).unwrap(), Some(2));
        assert_eq!(t.rows[1], ["8", "$2", "C, d"]);
    }

    #[test]
    fn plain_lines_are_names() {
        let t = table("a, b\nc\n", "names.txt");
        assert_eq!(t.rows, [["a, b"], ["c"]]);
    }

    #[test]
    fn an_absent_column_is_named() {
        let error = table("x,y\n1,2\n", "t.csv").column(Some("z"), NAME_COLUMNS).unwrap_err();
        assert!(error.to_string().ends_with("has no column `z`, only x, y"), "{error}");
    }
}
