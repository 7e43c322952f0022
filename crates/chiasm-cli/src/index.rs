//! `chiasm index`: folders into a library.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chiasm_engine::{CELLS_NEED, Cut, EngineError, IndexOptions, IndexReport, Library, Limits, Space};
use clap::Args;

use crate::info;
use crate::locate::{FOLDER, LibraryArg, given_spaces, nearest};
use crate::ui::{SOME_REFUSED, STOPPED, Ui, count, duration, escape, hinted, shown, usage};

/// Arguments of `chiasm index`.
#[derive(Args)]
pub(crate) struct IndexArgs {
    /// Folders or files
    #[arg(required = true, value_name = "DIR")]
    roots: Vec<PathBuf>,
    /// The space to build a new library in, made by `chiasm space fit`; a library that exists knows its own. Several spaces and models
    /// are several lanes, whose rankings are joined when searched
    #[arg(long = "space", value_name = "FILE")]
    spaces: Vec<PathBuf>,
    /// Build a new library in the space of this model (a dual encoder such as CLIP): a name or the path of its folder; may be
    /// repeated
    #[arg(long = "model", value_name = "NAME")]
    given_models: Vec<String>,
    /// Add the spaces and models given to a library that exists; what it holds is embedded in them, too
    #[arg(long)]
    add_lane: bool,
    /// Wait while another process writes to the library, instead of failing
    #[arg(long)]
    wait: bool,
    /// Take `photo.txt` beside `photo.jpg` for a text of its own, not for the photo's caption
    #[arg(long)]
    no_captions: bool,
    /// Read every file anew, even those whose size and time have not changed
    #[arg(long)]
    reread: bool,
    /// Change how much one file may ask for: max_file_bytes, max_pixels, max_audio_samples, max_text_bytes, max_series_values,
    /// max_animation_pixels, max_video_frames, max_video_bytes, max_video_s, max_ffmpeg_s,
    /// max_segments (parts of one long text or sound; each costs an embedding)
    #[arg(long = "limit", value_name = "NAME=N")]
    limits: Vec<String>,
    /// Tune searches for this share of the exact ten nearest: `--tune recall=0.97`. It is measured on queries of the library's own, told by
    /// `chiasm info`, and kept. Without it a library of up to 50,000 vectors is searched exactly, a larger one with 0.97
    #[arg(long = "tune", value_name = "recall=R")]
    tune: Option<String>,
    #[command(flatten)]
    library: LibraryArg,
}

/// `chiasm index`
pub(crate) fn run(args: &IndexArgs, ui: &Ui) -> anyhow::Result<ExitCode> {
    let (limits, cut) = limits(&args.limits)?;
    let options = IndexOptions {
        limits,
        cut,
        captions: !args.no_captions,
        wait: args.wait,
        reread: args.reread,
        recall: args.tune.as_deref().map(recall).transpose()?,
        ..IndexOptions::default()
    };
    // A root that is not there must not leave an empty library behind.
    for root in &args.roots {
        std::fs::metadata(root).map_err(|e| anyhow::Error::new(e).context(format!("cannot index {}", shown(root))))?;
    }
    let (library, is_new) = open(args, ui)?;
    let report = library.index(&args.roots, &options, ui, &ui.cancel)?;
    let tuned = args.tune.is_some() && !report.cancelled;
    let lanes = if tuned { library.info()?.lanes } else { Vec::new() };
    if ui.json {
        let mut document = serde_json::to_value(&report)?;
        if let Some(object) = document.as_object_mut() {
            object.insert("library".to_owned(), library.dir().to_string_lossy().into());
            object.insert("space".to_owned(), library.space().fingerprint().into());
            object.insert("lanes".to_owned(), library.lanes().iter().map(|lane| lane.name()).collect());
            if tuned {
                let cells: Vec<_> = lanes.iter().map(|lane| &lane.cells).collect();
                object.insert("cells".to_owned(), serde_json::to_value(cells)?);
            }
        }
        ui.print_json(&document)?;
    } else {
        ui.print(summary(&report))?;
        for lane in &lanes {
            ui.print(info::searches(lane))?;
            if lane.cells.is_none() && lane.n_vectors < CELLS_NEED {
                ui.hint(format!("tuning begins at {CELLS_NEED} vectors: below, a search of all of them is as quick"));
            }
        }
    }
    complain(&report, ui);
    if is_new && args.library.library.is_none() {
        let dir = library.dir();
        ui.hint(format!("the library is {0}; ask it from that folder, or with `--library {0}` from anywhere", shown(dir)));
    }
    Ok(if report.cancelled {
        ui.hint("what is stored stays; the same command does the rest");
        ExitCode::from(STOPPED)
    } else if report.refused.is_empty() && report.lacking.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_REFUSED)
    })
}

/// The library to fill, and whether it was made just now.
fn open(args: &IndexArgs, ui: &Ui) -> anyhow::Result<(Library, bool)> {
    let models = args.library.dirs();
    let dir = match (&args.library.library, args.roots.as_slice()) {
        (Some(dir), _) => dir.clone(),
        (None, [first, rest @ ..]) => match nearest(folder(first)) {
            Some(dir) => dir,
            None if rest.is_empty() => folder(first).join(FOLDER),
            None => return Err(usage("several folders and no library yet: say where it shall be with `--library PATH`")),
        },
        (None, []) => return Err(usage("nothing to index: name a folder")),
    };
    let exists = dir.is_dir() && dir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let spaces = given_spaces(&args.spaces, &args.given_models, &models)?;
    match spaces.as_slice() {
        [_, ..] => Ok((open_or_create(&dir, &spaces, args, ui)?, !exists)),
        [] if args.add_lane => Err(usage("--add-lane: say what to add with `--model NAME` or `--space FILE`")),
        [] if exists => Ok((Library::open(&dir, &models)?, false)),
        [] => Err(hinted(
            format!("there is no library at {} yet, and a new one needs a space to be built in", shown(&dir)),
            "give one with `--space FILE` (`chiasm space fit` learns one), or a dual encoder that brings its own with `--model NAME`",
        )),
    }
}

/// Opens or makes the library; with `--wait`, also when another process is making it at this moment.
fn open_or_create(dir: &Path, spaces: &[Space], args: &IndexArgs, ui: &Ui) -> anyhow::Result<Library> {
    loop {
        match open_once(dir, spaces, args) {
            Err(EngineError::Locked { .. } | EngineError::LibraryExists { .. } | EngineError::LanesChanged { .. })
                if args.wait =>
            {
                ui.cancel.check()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return Ok(other?),
        }
    }
}

fn open_once(dir: &Path, spaces: &[Space], args: &IndexArgs) -> Result<Library, EngineError> {
    let models = args.library.dirs();
    let all: Vec<&Space> = spaces.iter().collect();
    if !args.add_lane {
        return Library::open_or_create_with_lanes(dir, &all, &models);
    }
    let mut library = match Library::open(dir, &models) {
        Err(EngineError::NoLibrary { .. }) => return Library::create_with_lanes(dir, &all),
        opened => opened?,
    };
    for space in spaces {
        match library.add_lane(space) {
            // The command may be run again when it was stopped.
            Ok(()) | Err(EngineError::LaneExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(library)
}

/// The folder that a root is or lies in.
fn folder(root: &Path) -> &Path {
    if root.is_dir() {
        return root;
    }
    root.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The recall of `--tune`.
pub(crate) fn recall(given: &str) -> anyhow::Result<f64> {
    let wrong = || usage(format!("--tune {given}: expected recall=R with R above 0 and up to 1, such as recall=0.97"));
    let value: f64 = given.strip_prefix("recall=").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    if value > 0.0 && value <= 1.0 { Ok(value) } else { Err(wrong()) }
}

fn limits(given: &[String]) -> anyhow::Result<(Limits, Cut)> {
    let mut limits = Limits::default();
    let mut max_segments = Cut::default().max_segments as u64;
    for one in given {
        let (name, value) = one.split_once('=').ok_or_else(|| usage(format!("--limit {one}: expected NAME=N")))?;
        let field = match name {
            "max_file_bytes" => &mut limits.max_file_bytes,
            "max_pixels" => &mut limits.max_pixels,
            "max_audio_samples" => &mut limits.max_audio_samples,
            "max_text_bytes" => &mut limits.max_text_bytes,
            "max_series_values" => &mut limits.max_series_values,
            "max_animation_pixels" => &mut limits.max_animation_pixels,
            "max_video_frames" => &mut limits.max_video_frames,
            "max_video_bytes" => &mut limits.max_video_bytes,
            "max_video_s" => &mut limits.max_video_s,
            "max_ffmpeg_s" => &mut limits.max_ffmpeg_s,
            "max_segments" => &mut max_segments,
            _ => return Err(usage(format!("--limit {one}: `{name}` is no limit; see `chiasm index --help`"))),
        };
        *field = value.parse().map_err(|e| usage(format!("--limit {one}: `{value}` is no number: {e}")))?;
    }
    let max_segments = usize::try_from(max_segments).unwrap_or(usize::MAX);
    Ok((limits, Cut { max_segments, ..Cut::default() }))
}

/// One line of what happened, leaving out what did not.
fn summary(report: &IndexReport) -> String {
    let mut parts = vec![format!("{} seen", count(report.n_seen, "file"))];
    let rest = [
        (report.n_new, "new"),
        (report.n_updated, "updated"),
        (report.n_unchanged, "unchanged"),
        (report.n_moved, "moved"),
        (report.n_copies, "copies"),
        (report.n_captions, "captions"),
        (report.n_removed, "removed"),
        (report.refused.len(), "refused"),
    ];
    parts.extend(rest.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
    let state = if report.cancelled { "stopped" } else { "done" };
    format!("{}; {} made; {state} in {}\n", parts.join(", "), count(report.n_segments, "vector"), duration(report.wall_s))
}

/// Everything that was not taken in, or not quite, on stderr.
fn complain(report: &IndexReport, ui: &Ui) {
    for note in &report.notes {
        ui.remark(format!("note: {}: {}", shown(&note.path), note.reason));
    }
    for skipped in &report.skipped {
        ui.remark(format!("left out: {} ({})", count(skipped.n, "file"), skipped.reason));
    }
    for lacking in &report.lacking {
        let what = count(lacking.n_segments, "vector");
        ui.complaint(format!(
            "lane {}: {what} could not be made; index again when their files are there",
            escape(&lacking.lane)
        ));
    }
    for refusal in &report.refused {
        ui.complaint(format!("refused {}: {}", shown(&refusal.path), refusal.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named() {
        let given = ["max_pixels=5", "max_text_bytes=7", "max_segments=9"].map(str::to_owned);
        let (changed, cut) = limits(&given).unwrap();
        assert_eq!((changed.max_pixels, changed.max_text_bytes, cut.max_segments), (5, 7, 9));
        for bad in ["max_pixels", "max_pixels=a", "max_pixels=-1", "pixels=3"] {
            assert!(limits(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_recall_is_a_share() {
        assert_eq!(recall("recall=0.97").unwrap(), 0.97);
        for bad in ["0.97", "recall=", "recall=0", "recall=1.01", "recall=NaN", "speed=1"] {
            assert!(recall(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_summary_leaves_out_what_did_not_happen() {
        let report = IndexReport { n_seen: 3, n_new: 2, n_moved: 1, n_segments: 4, wall_s: 1.0, ..IndexReport::default() };
        assert_eq!(summary(&report), "3 files seen, 2 new, 1 moved; 4 vectors made; done in 1.00 s\n");
    }
}
