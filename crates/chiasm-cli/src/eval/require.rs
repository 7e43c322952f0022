//! Floors under figures: `text->image R@10 >= 0.70`.

use std::str::FromStr;

use chiasm_eval::Report;
use serde::Serialize;

use crate::ui::usage;

/// A figure and the bound it must keep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Requirement {
    /// As it was written.
    source: String,
    /// Which report, spaces and letter case aside; all when empty.
    title: String,
    /// Name of the figure.
    figure: String,
    bound: Bound,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast,
    Above,
    AtMost,
    Below,
}

/// A requirement beside the figures it met, or did not.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    require: String,
    /// The worst of the figures it speaks of.
    value: f64,
    report: String,
    pub(super) met: bool,
}

impl Checked {
    pub(super) fn line(&self) -> String {
        format!("`{}`: it is {:.4} ({})", self.require, self.value, self.report)
    }
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(source: &str) -> Result<Self, String> {
        const FORM: &str = "expected `[QUERY->ITEM] FIGURE >= NUMBER`, such as `text->image R@10 >= 0.70`";
        // The arrow of a title holds a `>` too, so the comparison is looked for from the right.
        let found = [(">=", Bound::AtLeast), ("<=", Bound::AtMost), (" > ", Bound::Above), (" < ", Bound::Below)]
            .into_iter()
            .find_map(|(sign, bound)| source.rsplit_once(sign).map(|(left, right)| (left, bound, right)));
        let (left, bound, right) = found.ok_or(FORM)?;
        let limit: f64 = right.trim().parse().map_err(|_| format!("`{}` is no number: {FORM}", right.trim()))?;
        if !limit.is_finite() {
            return Err(format!("the bound {limit} is not finite: {FORM}"));
        }
        let left = left.trim();
        let (title, figure) = split_figure(left).ok_or_else(|| format!("`{left}` names no figure: {FORM}"))?;
        Ok(Requirement { source: source.trim().to_owned(), title: plain(title), figure, bound, limit })
    }
}

/// `text->image R@10` to the title and the figure's name. Figures of two words come first.
fn split_figure(left: &str) -> Option<(&str, String)> {
    for two in ["median rank", "MAP over ties"] {
        if left.to_lowercase().ends_with(&two.to_lowercase()) {
            return Some((left.get(..left.len() - two.len())?, two.to_owned()));
        }
    }
    let at = left.rfind(char::is_whitespace).map_or(0, |i| i + 1);
    let (title, word) = left.split_at(at);
    let (name, cut) = word.split_once('@').map_or((word, None), |(n, c)| (n, Some(c)));
    let name = match name.to_lowercase().as_str() {
        "r" | "hit" => "R",
        "recall" => "recall",
        "p" | "precision" => "P",
        "map" => "MAP",
        "ndcg" => "NDCG",
        "mrr" => "MRR",
        "r-precision" => "R-precision",
        _ => return None,
    };
    Some((title, cut.map_or(name.to_owned(), |cut| format!("{name}@{cut}"))))
}

fn plain(title: &str) -> String {
    title.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

impl Requirement {
    /// Holds the figures against the bound.
    ///
    /// # Errors
    /// A usage error when no report has such a figure: a floor that speaks of nothing must not pass.
    pub(super) fn check(&self, reports: &[Report]) -> anyhow::Result<Checked> {
        let named = reports.iter().filter(|r| self.title.is_empty() || plain(&r.title) == self.title);
        let of_floor = matches!(self.bound, Bound::AtLeast | Bound::Above);
        let worst = named
            .filter(|r| r.n_queries > 0)
            .filter_map(|r| Some((r.value(&self.figure)?, &r.title)))
            .reduce(|a, b| if (a.0 < b.0) == of_floor { a } else { b });
        let Some((value, title)) = worst else {
            let has: Vec<String> = reports
                .iter()
                .map(|r| format!("{}: {}", r.title, r.figures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ")))
                .collect();
            return Err(usage(format!(
                "--require `{}` speaks of a figure that is not there; there are {}",
                self.source,
                has.join("; ")
            )));
        };
        let met = match self.bound {
            Bound::AtLeast => value >= self.limit,
            Bound::Above => value > self.limit,
            Bound::AtMost => value <= self.limit,
            Bound::Below => value < self.limit,
        };
        Ok(Checked { require: self.source.clone(), value, report: title.clone(), met })
    }
}

#[cfg(test)]
mod tests {
    use chiasm_eval::{EvalConfig, Judged, evaluate};

    use super::*;

    fn reports() -> Vec<Report> {
        let of = |title: &str, ranks: &[usize]| {
            let queries: Vec<Judged> = ranks.iter().map(|r| Judged::from_ranks(&[*r], 1).unwrap().with_gallery(100)).collect();
            evaluate(title, &queries, 0, &EvalConfig { n_resamples: 0, ..EvalConfig::default() })
        };
        vec![of("text -> image", &[1, 2, 20]), of("image -> text", &[1, 1, 3])]
    }

    #[test]
    fn floors_and_ceilings() {
        for (written, met, value) in [
            ("text->image hit@10 >= 0.66", true, 2.0 / 3.0),
            ("Text -> Image R@10 >= 0.67", false, 2.0 / 3.0),
            ("R@1 > 0.34", false, 1.0 / 3.0),
            ("image->text median rank <= 1", true, 1.0),
            ("median rank < 2", false, 2.0),
        ] {
            let checked = written.parse::<Requirement>().unwrap().check(&reports()).unwrap();
            assert_eq!((checked.met, checked.value), (met, value), "{written}");
        }
    }

    #[test]
    fn what_speaks_of_nothing_is_refused() {
        for written in ["", "R@1", "R@1 >= x", "R@1 >= inf", "foo >= 1"] {
            assert!(written.parse::<Requirement>().is_err(), "{written}");
        }
        for written in ["audio->text R@1 >= 0", "R@7 >= 0"] {
            assert!(written.parse::<Requirement>().unwrap().check(&reports()).is_err(), "{written}");
        }
    }
}
