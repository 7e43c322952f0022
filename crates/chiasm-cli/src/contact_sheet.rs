//! A contact sheet: queries and their hits on one static HTML page, to look at instead of to read.
//!
//! The page stands beside the files it shows and links to them by relative paths; it holds no script and loads nothing from
//! elsewhere, so it opens offline and can be mailed together with its folder.

use std::fmt::Write as _;
use std::path::Path;

use chiasm_core::Modality;

/// One page.
pub(crate) struct Sheet {
    /// Heading of the page.
    pub title: String,
    /// A sentence below the heading.
    pub intro: String,
    /// One row of hits per query, in order.
    pub sections: Vec<Section>,
    /// Tables below the hits: a heading, and the table as aligned plain text.
    pub tables: Vec<(String, String)>,
}

/// A query and its hits.
pub(crate) struct Section {
    /// What is looked for with what, e.g. "text → picture".
    pub title: String,
    /// The query itself.
    pub query: Card,
    /// Hits, best first.
    pub hits: Vec<Card>,
}

/// Something to look at or listen to.
pub(crate) struct Card {
    /// Decides how it is shown.
    pub kind: Modality,
    /// The file, relative to the page and with `/` between folders; absent for a typed query.
    pub href: Option<String>,
    /// The words of a text, or what is known of anything else.
    pub text: String,
    /// Channels of a series, drawn as sparklines; empty for other kinds.
    pub channels: Vec<Vec<f32>>,
    /// Closeness, for hits.
    pub score: Option<f32>,
    /// Whether it is what was looked for, where that is known.
    pub right: Option<bool>,
}

/// A path below the page's folder as a relative link, or `None` when it lies elsewhere.
pub(crate) fn relative_href(page_dir: &Path, file: &Path) -> Option<String> {
    let inside = file.strip_prefix(page_dir).ok()?;
    let parts: Option<Vec<String>> = inside.components().map(|c| c.as_os_str().to_str().map(percent_encode)).collect();
    Some(parts?.join("/"))
}

impl Sheet {
    /// The whole page as HTML.
    pub(crate) fn to_html(&self) -> String {
        let mut page = String::with_capacity(16 * 1024);
        let title = escape(&self.title);
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n<p class=\"intro\">{}</p>\n",
            escape(&self.intro)
        );
        for section in &self.sections {
            let _ = write!(page, "<section>\n<h2>{}</h2>\n<div class=\"row\">\n", escape(&section.title));
            section.query.write(&mut page, "query");
            page.push_str("<ol class=\"hits\">\n");
            for hit in &section.hits {
                page.push_str("<li>");
                hit.write(&mut page, "hit");
                page.push_str("</li>\n");
            }
            page.push_str("</ol>\n</div>\n</section>\n");
        }
        for (heading, table) in &self.tables {
            let _ = write!(page, "<section>\n<h2>{}</h2>\n<pre>{}</pre>\n</section>\n", escape(heading), escape(table));
        }
        page.push_str("</body>\n</html>\n");
        page
    }
}

impl Card {
    fn write(&self, page: &mut String, class: &str) {
        let (mark, says) = match self.right {
            Some(true) => (" right", "<b class=\"yes\" title=\"what was looked for\">✓</b>"),
            Some(false) | None => ("", ""),
        };
        let _ = write!(page, "<figure class=\"{class} {}{mark}\">", self.kind);
        let text = escape(&self.text);
        match (self.kind, &self.href) {
            (Modality::Image, Some(href)) => {
                let _ = write!(page, "<a href=\"{href}\"><img src=\"{href}\" alt=\"{text}\" loading=\"lazy\"></a>");
            }
            (Modality::Audio, Some(href)) => {
                let _ = write!(page, "<audio controls preload=\"none\" src=\"{href}\" aria-label=\"{text}\"></audio>");
            }
            (Modality::Video, Some(href)) => {
                // An animated picture is no video to a browser.
                let is_picture = [".gif", ".webp", ".png"].iter().any(|end| href.to_ascii_lowercase().ends_with(end));
                let _ = match is_picture {
                    true => write!(page, "<a href=\"{href}\"><img src=\"{href}\" alt=\"{text}\" loading=\"lazy\"></a>"),
                    false => {
                        write!(page, "<video controls muted preload=\"metadata\" src=\"{href}\" aria-label=\"{text}\"></video>")
                    }
                };
            }
            (Modality::Series, _) => page.push_str(&sparklines(&self.channels)),
            (Modality::Text, _) => {
                let _ = write!(page, "<blockquote>{text}</blockquote>");
            }
            // A browser draws no shape by itself.
            (Modality::Shape, _) | (Modality::Image | Modality::Audio | Modality::Video, None) => {}
        }
        page.push_str("<figcaption>");
        if let Some(score) = self.score {
            let width = (score.clamp(0.0, 1.0) * 100.0).round();
            let _ = write!(
                page,
                "{says}<span class=\"bar\"><i style=\"width:{width}%\"></i></span><span class=\"score\">{score:.3}</span>"
            );
        }
        if self.kind != Modality::Text {
            let _ = write!(page, "<span class=\"what\">{text}</span>");
        }
        if let Some(href) = &self.href {
            let _ = write!(page, "<a class=\"path\" href=\"{href}\">{href}</a>");
        }
        page.push_str("</figcaption></figure>\n");
    }
}

/// Each channel as a polyline over a shared range, oldest reading at the left.
fn sparklines(channels: &[Vec<f32>]) -> String {
    const WIDTH: f32 = 220.0;
    const HEIGHT: f32 = 90.0;
    let all = || channels.iter().flatten().copied();
    let (low, high) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
    let range = if high > low { high - low } else { 1.0 };
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"series\">");
    for (i, channel) in channels.iter().enumerate() {
        let step = WIDTH / (channel.len().max(2) - 1) as f32;
        let _ = write!(svg, "<polyline class=\"c{}\" points=\"", i % 4);
        for (t, value) in channel.iter().enumerate() {
            let y = HEIGHT - 4.0 - (value - low) / range * (HEIGHT - 8.0);
            let _ = write!(svg, "{:.1},{y:.1} ", t as f32 * step);
        }
        svg.push_str("\"/>");
    }
    svg.push_str("</svg>");
    svg
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn percent_encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2129; --soft: #667; --paper: #fafaf8; --card: #fff; --line: #dfe1e6; --accent: #2563c9; --yes: #1a7f4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ea; --soft: #9aa; --paper: #16181c; --card: #202329; --line: #343941; --accent: #7fb0ff; --yes: #5fd39a; } }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
.intro { color: var(--soft); margin: 0; max-width: 60rem; }
.row { display: flex; gap: 1rem; align-items: flex-start; flex-wrap: wrap; }
.hits { list-style: none; display: flex; flex-wrap: wrap; gap: .8rem; margin: 0; padding: 0; flex: 1 1 30rem; }
figure { margin: 0; width: 10.5rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }
figure.query { border: 2px solid var(--accent); } figure.right { border-color: var(--yes); }
figure img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; image-rendering: auto; }
figure video { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; }
figure audio { display: block; width: 100%; margin: .6rem 0; } figure svg { display: block; width: 100%; margin: .4rem 0; }
blockquote { margin: 0; padding: .8rem; font-size: .95rem; min-height: 3rem; overflow-wrap: anywhere; }
figcaption { padding: .4rem .6rem .5rem; font-size: .78rem; color: var(--soft); border-top: 1px solid var(--line); }
.bar { display: inline-block; width: 4rem; height: .4rem; background: var(--line); border-radius: .2rem; margin: 0 .4rem; vertical-align: middle; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: .2rem; } .score { font-variant-numeric: tabular-nums; }
.yes { color: var(--yes); } .what, .path { display: block; overflow-wrap: anywhere; } .what { color: var(--ink); } a { color: var(--accent); text-decoration: none; }
polyline { fill: none; stroke-width: 1.5; stroke: var(--accent); } polyline.c1 { stroke: #d1642f; } polyline.c2 { stroke: var(--yes); } polyline.c3 { stroke: #9457c9; }
pre { overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_words_and_names_cannot_leave_their_place() {
        let card = Card {
            kind: Modality::Text,
            href: relative_href(Path::new("/w"), Path::new("/w/a \"b/<c>.txt")),
            text: "<script>alert(1)</script>".into(),
            channels: Vec::new(),
            score: Some(f32::INFINITY),
            right: None,
        };
        let section = Section { title: "\"".into(), query: card, hits: Vec::new() };
        let page = Sheet { title: "<t>".into(), intro: "&".into(), sections: vec![section], tables: Vec::new() }.to_html();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("href=\"a%20%22b/%3Cc%3E.txt\""), "{page}");
        assert!(page.contains("<title>&lt;t&gt;</title>"));
        assert_eq!(relative_href(Path::new("/w"), Path::new("/elsewhere/x")), None);
    }

    #[test]
    fn sparklines_stay_in_their_box_even_when_constant() {
        for channels in [vec![vec![1.0; 5]], vec![vec![2.0]], vec![vec![-1.0, 3.0, 0.5], vec![0.0, 1.0, 2.0]]] {
            let svg = sparklines(&channels);
            let numbers = svg.split(['"', ' ', ',']).filter_map(|w| w.parse::<f32>().ok());
            assert!(numbers.clone().count() > 4 && numbers.into_iter().all(|v| (0.0..=220.0).contains(&v)), "{svg}");
        }
    }
}
