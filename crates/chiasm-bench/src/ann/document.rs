//! The page and the curves.

use std::fmt::Write as _;

use super::curve::{self, Point};
use super::data::KINDS;
use super::{K, Outcome, Row, Section};
use crate::measure::processor;
use crate::plot::{self, Axes, Line};

/// Kinds of queries in words.
const WORDS: [&str; 2] = ["queries of the other modality (OOD)", "queries of the base's own modality (ID)"];
/// Recalls that the curves are marked at, and between which they lie.
const MARKS: [f64; 9] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
const DRAWN: std::ops::RangeInclusive<f64> = 0.5..=0.9995;

/// What the figures of a page were measured on, as sentences.
pub(super) fn machine() -> String {
    let (cpu, cores) = processor();
    let profile = if cfg!(debug_assertions) {
        " The program was built with the development profile, whose kernels are optimised as in a release, the rest less."
    } else {
        ""
    };
    format!("Processor: {cpu}, {cores} cores.{profile}")
}

/// The sections as a document. `command` is what makes it again, `curves` are the plots beside it: what they show and their files.
pub fn document(sections: &[Section], recalls: &[f64], command: &str, curves: &[(String, String)]) -> String {
    let mut out = format!(
        "# How fast nearest neighbours are found\n\n*Written by `{command}`; not edited by hand. {}*\n\n\
         Queries per second of CPU time (all threads together) at which {K} neighbours by inner product are found with a stated recall, \
         interpolated (the logarithm of the speed over recall) between neighbouring settings that no other setting of the same index beats. \
         `-` stands where no setting reaches that recall, with the greatest that was reached. Contestants are processes of their own, all \
         queries go into one call, settings take turns, and of each the turn with the least CPU time counts. *MiB* is the private memory \
         that the process holds after the build above what it held before, the base given back; *B/vector* the same for each vector, in brackets \
         what the index says of itself. Behind our speeds, in brackets, their ratio to the fastest peer's.\n",
        machine(),
    );
    for section in sections {
        write_section(&mut out, section, recalls);
    }
    for (what, file) in curves {
        let _ = write!(out, "\n![{what}]({file})\n");
    }
    out
}

fn write_section(out: &mut String, section: &Section, recalls: &[f64]) {
    let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let sample = match section.n_sample {
        0 => "no sample of queries".to_owned(),
        n => format!("a sample of {n} queries of the other modality"),
    };
    let [ood, id] = section.n_queries;
    let _ = write!(
        out,
        "\n## {}, {}\n\n{} vectors of {} numbers, {sample}, {ood} queries of the other modality (OOD) and {id} of the base's own (ID). Built with {}.\n",
        section.name,
        plural(section.threads, "thread"),
        section.n,
        section.dim,
        plural(section.build_threads, "thread"),
    );
    if let Some(bandwidth) = &section.bandwidth {
        let scan = |(name, scan): &(&str, f64)| {
            format!("{name} {:.1} GB/s, {:.0} % of that", scan / 1e9, 100.0 * scan / bandwidth.memory)
        };
        let scans: Vec<String> = bandwidth.scans.iter().map(scan).collect();
        let _ = writeln!(
            out,
            "One thread reads {:.1} GB/s from memory (a sum over 512 MiB); for one query at a time read {}.",
            bandwidth.memory / 1e9,
            scans.join("; "),
        );
    }
    let heads = KINDS.iter().flat_map(|kind| recalls.iter().map(move |recall| format!(" {} {recall} |", kind.to_uppercase())));
    let heads: Vec<String> = heads.collect();
    let _ = write!(
        out,
        "\n| contestant | build, CPU s | build, s | MiB | B/vector |{}\n| --- | --- | --- | --- | --- |{}\n",
        heads.concat(),
        " --- |".repeat(heads.len()),
    );
    let fastest = |kind: usize, recall: f64| {
        let peers = section.rows.iter().filter(|row| !row.ours).filter_map(|row| row.outcome.as_ref().ok());
        peers.filter_map(|outcome| curve::speed_at(&outcome.curves[kind], recall)).reduce(f64::max)
    };
    for row in &section.rows {
        match &row.outcome {
            Err(reason) => {
                let reason = reason.replace('|', "/").replace(['\n', '\r'], " ");
                let _ = writeln!(out, "| {} | not measured: {reason} | | | |{}", row.contestant, " |".repeat(heads.len()));
            }
            Ok(outcome) => {
                let cell = |kind: usize, recall: f64| speed(row, outcome, kind, recall, fastest(kind, recall));
                let cells = (0..KINDS.len()).flat_map(|kind| recalls.iter().map(move |recall| (kind, *recall)));
                let cells: String = cells.map(|(kind, recall)| format!(" {} |", cell(kind, recall))).collect();
                let _ = writeln!(out, "| {} | {} |{cells}", row.contestant, sizes(outcome, section.n));
            }
        }
    }
    let _ = write!(out, "\n<details><summary>How each was built</summary>\n\n");
    for row in &section.rows {
        if let Ok(outcome) = &row.outcome {
            let _ = writeln!(out, "- {}: {}", row.contestant, outcome.build.about);
        }
    }
    out.push_str("\n</details>\n");
}

fn sizes(outcome: &Outcome, n: usize) -> String {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let build = &outcome.build;
    let per_vector = build.memory_mib.map(|mib| format!("{:.0}", mib * f64::from(1 << 20) / n as f64));
    let own = build.index_bytes.map(|bytes| format!(" ({:.0})", bytes as f64 / n as f64)).unwrap_or_default();
    format!(
        "{:.1} | {:.1} | {} | {}{own}",
        build.cpu,
        build.wall,
        or_dash(build.memory_mib.map(|mib| format!("{mib:.0}"))),
        or_dash(per_vector),
    )
}

fn speed(row: &Row, outcome: &Outcome, kind: usize, recall: f64, fastest: Option<f64>) -> String {
    let points = &outcome.curves[kind];
    match (curve::speed_at(points, recall), fastest) {
        (None, _) => format!("- ({:.3})", curve::best_recall(points)),
        (Some(speed), Some(fastest)) if row.ours => format!("{speed:.0} ({:.2})", speed / fastest),
        (Some(speed), _) => format!("{speed:.0}"),
    }
}

/// A plot for each section and kind of query: the end of its name, what it shows, and the picture.
pub fn plots(sections: &[Section]) -> Vec<(String, String, String)> {
    let mut plots = Vec::new();
    for section in sections {
        for (kind, words) in WORDS.iter().enumerate() {
            let threads = section.threads;
            let plural = if threads == 1 { "" } else { "s" };
            let title = format!("{}, {threads} thread{plural}: {words}", section.name);
            let lines: Vec<Line> = section.rows.iter().filter_map(|row| line(row, kind)).collect();
            let axes = Axes {
                title: title.clone(),
                x: format!("recall of {K} neighbours"),
                x_ticks: MARKS.iter().map(|recall| (rarity(*recall), recall.to_string())).collect(),
                y: "queries per CPU second".to_owned(),
                log_y: true,
            };
            let name = format!("ann-{}-{threads}-{}.svg", file_word(&section.name), KINDS[kind]);
            plots.push((name, title, plot::svg(&axes, &lines)));
        }
    }
    plots
}

/// Recalls near 1 lie apart as what is missed does.
fn rarity(recall: f64) -> f64 {
    1.0 / (1.0 - recall.min(*DRAWN.end()))
}

fn line(row: &Row, kind: usize) -> Option<Line> {
    let outcome = row.outcome.as_ref().ok()?;
    let drawn = |point: &&Point| point.recall >= *DRAWN.start();
    let points: Vec<(f64, f64)> =
        curve::envelope(&outcome.curves[kind]).into_iter().filter(drawn).map(|p| (rarity(p.recall), p.per_cpu_s)).collect();
    Some(Line { name: row.contestant.clone(), points, beside: false }).filter(|line| !line.points.is_empty())
}

/// A name as part of a file's.
fn file_word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Bandwidth, Build};
    use super::*;
    use crate::ann::curve::Setting;

    fn row(name: &str, ours: bool, speeds: &[(f64, f64)]) -> Row {
        let point = |(recall, per_cpu_s): &(f64, f64)| Point {
            setting: Setting::new(),
            recall: *recall,
            per_cpu_s: *per_cpu_s,
            per_s: *per_cpu_s,
        };
        let points: Vec<Point> = speeds.iter().map(point).collect();
        let build = Build {
            wall: 3.0,
            cpu: 2.5,
            memory_mib: Some(100.0),
            index_bytes: Some(50 << 20),
            about: format!("{name} 1.0"),
            ladders: Vec::new(),
        };
        Row { contestant: name.to_owned(), ours, outcome: Ok(Outcome { build, curves: [points.clone(), points] }) }
    }

    #[test]
    fn the_document_tells_speeds_ratios_and_failures() {
        let mut missing = row("svs", false, &[]);
        missing.outcome = Err("No module named 'svs'\n|".to_owned());
        let section = Section {
            name: "d 50/k".to_owned(),
            n: 1 << 20,
            dim: 8,
            n_sample: 0,
            n_queries: [4, 5],
            threads: 1,
            build_threads: 2,
            bandwidth: Some(Bandwidth { memory: 2e10, scans: vec![("chiasm-exact", 1.8e10)] }),
            rows: vec![
                row("ours", true, &[(0.9, 3000.0), (0.99, 300.0)]),
                row("a", false, &[(0.9, 1000.0)]),
                row("b", false, &[(0.95, 1500.0)]),
                missing,
            ],
        };
        let page =
            document(std::slice::from_ref(&section), &[0.9, 0.99], "COMMAND", &[("speeds".to_owned(), "a.svg".to_owned())]);
        assert!(page.contains("| ours | 2.5 | 3.0 | 100 | 100 (50) | 3000 (2.00) | 300 | 3000 (2.00) | 300 |"), "{page}");
        assert!(page.contains("| a | 2.5 | 3.0 | 100 | 100 (50) | 1000 | - (0.900) |"), "{page}");
        assert!(page.contains("| svs | not measured: No module named 'svs' / |"), "{page}");
        assert!(page.contains("20.0 GB/s") && page.contains("90 % of that") && page.contains("![speeds](a.svg)"), "{page}");
        let plots = plots(&[section]);
        assert_eq!(plots.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(), ["ann-d-50-k-1-ood.svg", "ann-d-50-k-1-id.svg"]);
        assert!(plots[0].2.contains(">0.95</text>") && plots[0].2.matches("<polyline").count() == 3);
    }
}
