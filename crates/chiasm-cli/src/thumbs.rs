//! Small pictures in terminals that can show them.
//!
//! Two protocols cover nearly all such terminals: kitty's graphics protocol (kitty, Ghostty, Konsole) and iTerm2's inline images
//! (iTerm2, WezTerm, mintty, VS Code). Which one is spoken is guessed from the environment: asking the terminal itself would
//! mean reading its answer from the keyboard's stream. Within tmux or screen neither passes through, so text alone is shown.

use std::io::{self, Cursor, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chiasm_core::Media;
use chiasm_media::Limits;
use clap::ValueEnum;
use image::ImageEncoder as _;
use image::codecs::png::PngEncoder;

/// When to show pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thumbs {
    /// Where stdout is a terminal that can
    #[default]
    Auto,
    /// Everywhere
    Always,
    /// Nowhere
    Never,
}

/// How a terminal is told to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Kitty,
    Iterm2,
}

/// Text rows that one picture takes.
const ROWS: u32 = 6;
/// Longest side in pixels of what is sent: sharp enough for six rows, and some tens of kilobytes.
const SIDE: u32 = 192;
/// Bytes of base64 in one escape sequence of kitty's protocol.
const CHUNK: usize = 4096;

impl Thumbs {
    /// The protocol to use, or none.
    pub(crate) fn protocol(self) -> Option<Protocol> {
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        match self {
            Thumbs::Never => None,
            // Whoever insists gets the protocol that more terminals understand where nothing is known.
            Thumbs::Always => Some(detect(env).unwrap_or(Protocol::Iterm2)),
            Thumbs::Auto => {
                if io::stdout().is_terminal() {
                    detect(env)
                } else {
                    None
                }
            }
        }
    }
}

fn detect(env: impl Fn(&str) -> String) -> Option<Protocol> {
    let (term, program) = (env("TERM"), env("TERM_PROGRAM"));
    if !env("TMUX").is_empty() || term.starts_with("screen") || term.starts_with("tmux") {
        return None;
    }
    if term == "xterm-kitty" || term == "xterm-ghostty" || program == "ghostty" || !env("KITTY_WINDOW_ID").is_empty() {
        return Some(Protocol::Kitty);
    }
    if !env("KONSOLE_VERSION").is_empty() {
        return Some(Protocol::Kitty);
    }
    let iterm = ["iTerm.app", "WezTerm", "mintty", "vscode"].contains(&program.as_str()) || env("LC_TERMINAL") == "iTerm2";
    iterm.then_some(Protocol::Iterm2)
}

/// Seconds of a video of which the middle frame is shown: to decode more would keep people waiting.
const VIDEO_S: u64 = 2;

/// The escape sequences that draw the picture in `path`, a frame of the video or the shape, with a line feed after it; `None` where it cannot be read (it may be gone
/// since it was indexed, and a hit is worth showing without its picture).
pub(crate) fn thumbnail(path: &Path, protocol: Protocol) -> Option<String> {
    let limits = Limits { max_video_s: VIDEO_S, ..Limits::default() };
    let bytes = chiasm_media::read(path, &limits).ok()?;
    let image = match chiasm_media::decode(path, &bytes, &limits).ok()?.media {
        Media::Image(image) => image,
        Media::Video(mut video) => Arc::unwrap_or_clone(video.frames.swap_remove(video.spread(1)[0])),
        Media::Shape(mesh) => chiasm_media::shape_view(&mesh, 0, SIDE),
        Media::Text(_) | Media::Audio(_) | Media::Series(_) => return None,
    };
    let small = chiasm_media::shrink(image, SIDE);
    let mut png = Cursor::new(Vec::new());
    PngEncoder::new(&mut png).write_image(&small.rgb, small.width, small.height, image::ExtendedColorType::Rgb8).ok()?;
    Some(draw(png.get_ref(), protocol))
}

fn draw(png: &[u8], protocol: Protocol) -> String {
    let encoded = STANDARD.encode(png);
    match protocol {
        Protocol::Iterm2 => {
            format!("\x1b]1337;File=inline=1;size={};height={ROWS};preserveAspectRatio=1:{encoded}\x07\n", png.len())
        }
        Protocol::Kitty => {
            // a=T: transmit and show; f=100: PNG; q=2: no answers, they would end up in the shell's input.
            let chunks: Vec<&str> =
                (0..encoded.len()).step_by(CHUNK).map(|at| &encoded[at..encoded.len().min(at + CHUNK)]).collect();
            let mut out = String::new();
            for (i, chunk) in chunks.iter().enumerate() {
                let head = if i == 0 { format!("a=T,f=100,q=2,r={ROWS},") } else { String::new() };
                let more = u8::from(i + 1 < chunks.len());
                out.push_str(&format!("\x1b_G{head}m={more};{chunk}\x1b\\"));
            }
            out.push('\n');
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> String {
        move |name| pairs.iter().find(|(n, _)| *n == name).map_or(String::new(), |(_, v)| (*v).to_owned())
    }

    #[test]
    fn terminals_are_told_apart() {
        assert_eq!(detect(with(&[("TERM", "xterm-kitty")])), Some(Protocol::Kitty));
        assert_eq!(detect(with(&[("TERM_PROGRAM", "WezTerm")])), Some(Protocol::Iterm2));
        assert_eq!(detect(with(&[("TERM", "xterm-256color")])), None);
        assert_eq!(detect(with(&[("TERM", "xterm-kitty"), ("TMUX", "/tmp/tmux")])), None);
    }

    #[test]
    fn kitty_gets_its_picture_in_pieces() {
        let drawn = draw(&vec![7; 7000], Protocol::Kitty);
        let pieces: Vec<&str> = drawn.trim_end().split("\x1b\\").filter(|p| !p.is_empty()).collect();
        assert_eq!(pieces.len(), 3);
        assert!(pieces[0].starts_with("\x1b_Ga=T,f=100,q=2,r=6,m=1;"));
        assert!(pieces[2].starts_with("\x1b_Gm=0;"));
        let sent: String = pieces.iter().map(|p| p.split_once(';').unwrap().1).collect();
        assert_eq!(STANDARD.decode(sent).unwrap(), vec![7; 7000]);
    }
}
