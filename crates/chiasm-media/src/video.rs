//! Videos: which frames are kept, and the containers that the program `ffmpeg` decodes.
//!
//! # Frames
//! At most [`RATE_HZ`] frames a second are kept, none that is equal to the one before it, each at most [`SIDE`] pixels along its
//! shorter side: encoders see about 224. When there are more than the limits allow, every second one is dropped and from then on
//! half as many are taken; so memory is bounded whatever the length, which no header need state, and what is kept is spread evenly.
//! # The program
//! MP4, QuickTime, Matroska, WebM, AVI, MPEG, FLV, Ogg Theora and Windows Media are given to `ffmpeg` (or what the variable
//! `CHIASM_FFMPEG` names), a process of its own that is killed after [`Limits::max_ffmpeg_s`]. It may open files and pipes, no
//! network; the demuxer is the one that the first bytes name, so that no playlist can lead it elsewhere. Frames come through a
//! pipe as binary PPM: raw RGB, each with its size. It reads the file itself where `path` leads to one of the same length, since most
//! containers need seeking; else the bytes are laid down in a temporary file first.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chiasm_core::{Image, Media, Video};

use crate::error::{MediaError, excerpt};
use crate::format::extension;
use crate::resize::resize;
use crate::{Decoded, Limits, Metadata};

/// Frames a second that are looked at.
pub(crate) const RATE_HZ: u32 = 10;
/// Pixels along the shorter side of a kept frame.
const SIDE: u32 = 256;
/// Bytes that are kept of what the program says.
const REPORT_BYTES: u64 = 64 << 10;

/// Collects frames within the limits.
pub(crate) struct Keeper {
    frames: Vec<Arc<Image>>,
    times_s: Vec<f64>,
    /// Seconds between two that are kept, at least.
    step_s: f64,
    max_frames: u64,
    max_bytes: u64,
}

impl Keeper {
    pub(crate) fn new(limits: &Limits) -> Self {
        let step_s = 1.0 / f64::from(RATE_HZ);
        let (max_frames, max_bytes) = (limits.max_video_frames, limits.max_video_bytes);
        Self { frames: Vec::new(), times_s: Vec::new(), step_s, max_frames, max_bytes }
    }

    /// Whether a frame that begins then would be kept, if it is new.
    pub(crate) fn wants(&self, time_s: f64) -> bool {
        // A microsecond of patience: times are sums of rounded delays.
        self.times_s.last().is_none_or(|last| time_s >= last + self.step_s - 1e-6)
    }

    /// Takes a frame that [`Keeper::wants`], shrunk.
    pub(crate) fn take(&mut self, time_s: f64, frame: Image) {
        let frame = shrunk(frame);
        if self.frames.last().is_some_and(|last| **last == frame) {
            return;
        }
        let most = self.max_frames.min(self.max_bytes / (frame.rgb.len() as u64).max(1)).max(2);
        if self.frames.len() as u64 >= most {
            let mut place = 0..;
            self.frames.retain(|_| place.next().is_some_and(|i: usize| i.is_multiple_of(2)));
            let mut place = 0..;
            self.times_s.retain(|_| place.next().is_some_and(|i: usize| i.is_multiple_of(2)));
            self.step_s *= 2.0;
            if !self.wants(time_s) {
                return;
            }
        }
        self.frames.push(Arc::new(frame));
        self.times_s.push(time_s);
    }

    /// The video, `duration_s` long; `None` without a frame.
    pub(crate) fn finish(mut self, duration_s: f64) -> Option<Video> {
        let last = *self.times_s.last()?;
        // A video begins with its first frame, whatever the file counts from.
        self.times_s[0] = 0.0;
        Some(Video { frames: self.frames, times_s: self.times_s, duration_s: duration_s.max(last) })
    }
}

/// The frame at most [`SIDE`] pixels along its shorter side.
fn shrunk(frame: Image) -> Image {
    let short = frame.width.min(frame.height);
    if short <= SIDE {
        return frame;
    }
    let side = |n: u32| (u64::from(n) * u64::from(SIDE) / u64::from(short)).max(1) as u32;
    resize(&frame, side(frame.width), side(frame.height))
}

/// A container that `ffmpeg` opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// What people call it.
    name: &'static str,
    /// The program's name of its demuxer.
    demuxer: &'static str,
}

/// The container that the first bytes name; the extension helps where they are shared with sounds.
pub(crate) fn sniff(path: &Path, bytes: &[u8]) -> Option<Container> {
    let extension = extension(path);
    let named = |names: &[&str]| extension.as_deref().is_some_and(|e| names.contains(&e));
    let is = |name, demuxer| Some(Container { name, demuxer });
    match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => {
            let of_sound = brand.starts_with(b"M4A") || brand.starts_with(b"M4B") || named(&["m4a", "m4b"]);
            // Without a description of its tracks the file is broken; whose it is, its name says.
            let shows = has_video_track(bytes).unwrap_or_else(|| named(&["mp4", "m4v", "mov", "qt", "3gp"]));
            if of_sound || !shows {
                return None;
            }
            is(if brand.starts_with(b"qt  ") { "QuickTime" } else { "MP4" }, "mov")
        }
        // QuickTime before it had a `ftyp`.
        [_, _, _, _, b'm', b'o', b'o', b'v', ..]
        | [_, _, _, _, b'm', b'd', b'a', b't', ..]
        | [_, _, _, _, b'w', b'i', b'd', b'e', ..]
            if named(&["mov", "qt", "mp4"]) =>
        {
            is("QuickTime", "mov")
        }
        [0x1a, 0x45, 0xdf, 0xa3, head @ ..] => {
            let is_webm = head.iter().take(64).copied().collect::<Vec<u8>>().windows(4).any(|w| w == b"webm");
            is(if is_webm { "WebM" } else { "Matroska" }, "matroska")
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => is("AVI", "avi"),
        [b'F', b'L', b'V', 1, ..] => is("FLV", "flv"),
        [0, 0, 1, 0xba, ..] => is("MPEG", "mpeg"),
        [0, 0, 1, 0xb3, ..] => is("MPEG", "mpegvideo"),
        [b'O', b'g', b'g', b'S', ..] if bytes.get(28..35) == Some(b"\x80theora") => is("Ogg Theora", "ogg"),
        [0x30, 0x26, 0xb2, 0x75, ..] if named(&["wmv", "asf"]) => is("Windows Media", "asf"),
        // Packets of 188 bytes, each led by a letter G; in cameras' files with four bytes before each.
        [0x47, ..] if bytes.get(188) == Some(&0x47) && bytes.get(376) == Some(&0x47) => is("MPEG-TS", "mpegts"),
        [_, _, _, _, 0x47, ..] if bytes.get(196) == Some(&0x47) && named(&["mts", "m2ts"]) => is("MPEG-TS", "mpegts"),
        _ => None,
    }
}

/// Whether a track of an MP4 file shows something; `None` where the file has no description of its tracks.
fn has_video_track(bytes: &[u8]) -> Option<bool> {
    let child = |of: &[u8; 4], parent| boxes(parent).find(|(name, _)| *name == of).map(|(_, body)| body);
    let movie = child(b"moov", bytes)?;
    let handles = |track| child(b"hdlr", child(b"mdia", track)?)?.get(8..12);
    Some(boxes(movie).any(|(name, track)| name == b"trak" && handles(track) == Some(b"vide")))
}

/// The boxes of an MP4 file that follow one another in `bytes`: name and body. One that reaches beyond the end is the last.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<4>()?;
        let (name, mut body) = after.split_first_chunk::<4>()?;
        let mut n_bytes = u64::from(u32::from_be_bytes(*size)).checked_sub(8);
        match u32::from_be_bytes(*size) {
            0 => n_bytes = Some(body.len() as u64),
            1 => {
                let (long, after) = body.split_first_chunk::<8>()?;
                (n_bytes, body) = (u64::from_be_bytes(*long).checked_sub(16), after);
            }
            _ => {}
        }
        let n_bytes = usize::try_from(n_bytes?).unwrap_or(usize::MAX).min(body.len());
        let (body, after) = body.split_at(n_bytes);
        rest = after;
        Some((name, body))
    })
}

/// Decodes by the program.
pub(crate) fn decode(container: Container, path: &Path, bytes: &[u8], limits: &Limits) -> Result<Decoded, MediaError> {
    let program = std::env::var_os("CHIASM_FFMPEG").filter(|name| !name.is_empty()).unwrap_or_else(|| "ffmpeg".into());
    decode_by(&program, container, path, bytes, limits)
}

fn decode_by(
    program: &OsString,
    container: Container,
    path: &Path,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Decoded, MediaError> {
    let cannot = |reason: String| MediaError::NoProgram {
        format: container.name,
        program: excerpt(&program.to_string_lossy(), 200),
        reason: excerpt(&reason, 200),
    };
    if limits.max_ffmpeg_s == 0 {
        return Err(cannot("the limits allow it no time".to_owned()));
    }
    let source = Source::of(path, bytes)?;
    let mut child = command(program, container, &source.path, limits).spawn().map_err(|e| cannot(e.to_string()))?;
    let (frames, said) = (child.stdout.take(), child.stderr.take());
    let (Some(frames), Some(mut said)) = (frames, said) else {
        return Err(cannot("it has no output".to_owned()));
    };
    let (child, too_long) = (&Mutex::new(child), &AtomicBool::new(false));
    let (ended, on_end) = channel::<()>();
    let (read, report, status) = std::thread::scope(|scope| {
        // Reading blocks, so another thread looks at the clock.
        scope.spawn(move || {
            if on_end.recv_timeout(Duration::from_secs(limits.max_ffmpeg_s)) == Err(RecvTimeoutError::Timeout) {
                too_long.store(true, Ordering::Relaxed);
                kill(child);
            }
        });
        let report = scope.spawn(move || {
            let mut report = Vec::new();
            // Beyond what is kept the pipe is emptied all the same, or the program would wait for ever.
            let read = said.by_ref().take(REPORT_BYTES).read_to_end(&mut report);
            let _ = read.and_then(|_| std::io::copy(&mut said, &mut std::io::sink()));
            String::from_utf8_lossy(&report).into_owned()
        });
        let mut frames = BufReader::with_capacity(1 << 16, frames);
        let read = read_frames(&mut frames, limits);
        if read.is_err() {
            kill(child);
        }
        // A pipe whose end is closed stops a program that would go on writing.
        drop(frames);
        let status = wait(child, too_long);
        drop(ended);
        (read, report.join().unwrap_or_default(), status)
    });
    if too_long.load(Ordering::Relaxed) {
        return Err(MediaError::TooLarge {
            came: format!("is {} that takes `ffmpeg` longer", container.name),
            limit: limits.max_ffmpeg_s,
            unit: "seconds",
            cure: "cut it into pieces",
            option: "max_ffmpeg_s",
        });
    }
    let complaint = report.lines().find_map(|line| line.split_once("[error] ").or_else(|| line.split_once("[fatal] ")));
    let complaint = complaint.map(|(_, words)| excerpt(words.trim(), 200));
    let (keeper, n_seen) = read.map_err(|reason| MediaError::damaged(container.name, reason))?;
    let duration_s = n_seen as f64 / f64::from(RATE_HZ);
    let Some(video) = keeper.finish(duration_s) else {
        let failed = !status.is_some_and(|status| status.success());
        return Err(match complaint {
            Some(words) => MediaError::damaged(container.name, format!("ffmpeg: {words}")),
            None if failed => MediaError::damaged(container.name, "ffmpeg failed and does not say why"),
            None => MediaError::Empty { reason: "no frame could be decoded" },
        });
    };
    let mut notes = Vec::new();
    if let Some(words) = complaint {
        notes.push(format!("is damaged in part: ffmpeg: {words}"));
    }
    if duration_s + 0.5 / f64::from(RATE_HZ) >= limits.max_video_s as f64 {
        notes.push(format!("only its first {} seconds are read, or raise `max_video_s`", limits.max_video_s));
    }
    let [width, height] = size(&report, &video.frames[0]);
    let metadata = Metadata {
        format: container.name.to_owned(),
        width: Some(width),
        height: Some(height),
        duration_s: Some(video.duration_s),
        notes,
        ..Metadata::default()
    };
    Ok(Decoded { media: Media::Video(video), metadata })
}

/// The program with its arguments.
fn command(program: &OsString, container: Container, source: &Path, limits: &Limits) -> Command {
    // The prefix, so that no name is taken for an option or for another protocol.
    let mut input = OsString::from("file:");
    input.push(source);
    // Pixels that are not square are made so; then the shorter side is brought down, never up.
    let filters = format!(
        "fps={RATE_HZ},scale=w='max(1,round(iw*sar))':h=ih,setsar=1,\
         scale=w='min({SIDE},iw)':h='min({SIDE},ih)':force_original_aspect_ratio=increase:flags=bicubic+accurate_rnd"
    );
    let mut command = Command::new(program);
    command
        .args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-threads", "1"])
        .args(["-protocol_whitelist", "file,pipe", "-max_pixels", &limits.max_pixels.min(i32::MAX as u64).to_string()])
        .args(["-f", container.demuxer, "-i"])
        .arg(input)
        .args(["-map", "0:V:0", "-t", &limits.max_video_s.to_string(), "-vf", &filters])
        .args(["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"])
        // It would write a log file where this says so.
        .env_remove("FFREPORT")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn kill(child: &Mutex<Child>) {
    // It may have ended by itself, which is as good.
    let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
}

/// Waits for the program, which has closed its output: it ends at once, or the clock ends it.
fn wait(child: &Mutex<Child>, too_long: &AtomicBool) -> Option<std::process::ExitStatus> {
    loop {
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        match status {
            Ok(Some(status)) => return Some(status),
            Ok(None) if too_long.load(Ordering::Relaxed) => {
                return child.lock().unwrap_or_else(PoisonError::into_inner).wait().ok();
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
}

/// Frames to the end of the stream: what is kept, and how many there were.
fn read_frames(stream: &mut impl BufRead, limits: &Limits) -> Result<(Keeper, u64), String> {
    let mut keeper = Keeper::new(limits);
    let mut first: Option<[u32; 2]> = None;
    let mut n = 0;
    while !stream.fill_buf().map_err(|e| e.to_string())?.is_empty() {
        let Some([width, height]) = ppm_header(stream)? else {
            return Err("ffmpeg gave something else than binary PPM of 8 bits".to_owned());
        };
        let n_pixels = u64::from(width) * u64::from(height);
        if n_pixels == 0 || n_pixels > limits.max_pixels {
            return Err(format!("a frame of {width} x {height} pixels came, the limit is {} pixels", limits.max_pixels));
        }
        if *first.get_or_insert([width, height]) != [width, height] {
            return Err(format!("its frames change their size to {width} x {height} pixels"));
        }
        let mut rgb = Vec::new();
        let n_bytes = 3 * n_pixels;
        stream.take(n_bytes).read_to_end(&mut rgb).map_err(|e| e.to_string())?;
        if rgb.len() as u64 != n_bytes {
            // The program was stopped in the middle of a frame; those before it are whole.
            break;
        }
        let time_s = n as f64 / f64::from(RATE_HZ);
        n += 1;
        if keeper.wants(time_s) {
            keeper.take(time_s, Image { width, height, rgb });
        }
    }
    Ok((keeper, n))
}

/// `P6 width height 255` and one blank, after which the pixels begin; `None` for anything else.
fn ppm_header(stream: &mut impl BufRead) -> Result<Option<[u32; 2]>, String> {
    let mut words: Vec<String> = vec![String::new()];
    while words.len() <= 4 {
        let mut byte = [0];
        if stream.read(&mut byte).map_err(|e| e.to_string())? == 0 {
            return Ok(None);
        }
        let [byte] = byte;
        match words.last_mut() {
            Some(word) if byte.is_ascii_alphanumeric() && word.len() < 10 => word.push(char::from(byte)),
            Some(word) if byte.is_ascii_whitespace() && !word.is_empty() => words.push(String::new()),
            _ => return Ok(None),
        }
    }
    let side = |at: usize| words[at].parse::<u32>().ok();
    Ok(if words[0] == "P6" && words[3] == "255" { side(1).zip(side(2)).map(|(w, h)| [w, h]) } else { None })
}

/// Width and height as the program reports them of the file; those of the frames where it does not.
fn size(report: &str, frame: &Image) -> [u32; 2] {
    let sides = |word: &str| {
        let (width, height) = word.split_once('x')?;
        let sides = [width.parse().ok()?, height.parse().ok()?];
        sides.iter().all(|side| (1..=1 << 16).contains(side)).then_some(sides)
    };
    let line = report.lines().find_map(|line| line.split_once("Video: ")).map_or("", |(_, words)| words);
    let stored: Option<[u32; 2]> = line.split([' ', ',']).find_map(sides);
    match stored {
        // Stored lying, shown standing: a telephone's videos.
        Some([width, height]) if (width < height) != (frame.width < frame.height) => [height, width],
        Some(sides) => sides,
        None => [frame.width, frame.height],
    }
}

/// A file to read from.
struct Source {
    path: PathBuf,
    is_temporary: bool,
}

impl Source {
    fn of(path: &Path, bytes: &[u8]) -> Result<Self, MediaError> {
        if std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == bytes.len() as u64) {
            return Ok(Self { path: path.to_owned(), is_temporary: false });
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chiasm-{}-{number}.video", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        // Never over a file, or through a link, that stands there already.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let source = Self { path, is_temporary: true };
        file.write_all(bytes)?;
        Ok(source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.is_temporary {
            // Best effort: what is left in the folder of temporary files is cleared away by the system.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32, value: u8) -> Image {
        Image { width, height, rgb: vec![value; (width * height * 3) as usize] }
    }

    #[test]
    fn frames_are_thinned_evenly_whatever_the_length() {
        let limits = Limits { max_video_frames: 8, ..Limits::default() };
        let mut keeper = Keeper::new(&limits);
        for i in 0..1000u32 {
            let time_s = f64::from(i) / 10.0;
            if keeper.wants(time_s) {
                keeper.take(time_s, frame(2, 2, (i % 251) as u8));
            }
        }
        let video = keeper.finish(100.0).unwrap();
        assert!((4..=8).contains(&video.frames.len()), "{:?}", video.times_s);
        let gaps: Vec<f64> = video.times_s.windows(2).map(|t| t[1] - t[0]).collect();
        assert!(gaps.iter().all(|gap| (gap - gaps[0]).abs() < 1e-6), "{gaps:?}");
        assert_eq!((video.times_s[0], video.duration_s), (0.0, 100.0));
    }

    #[test]
    fn equal_frames_stand_once_and_large_ones_are_shrunk() {
        let mut keeper = Keeper::new(&Limits::default());
        for (i, value) in [3, 3, 3, 9, 9, 3].into_iter().enumerate() {
            keeper.take(i as f64, frame(600, 300, value));
        }
        let video = keeper.finish(6.0).unwrap();
        assert_eq!(video.times_s, [0.0, 3.0, 5.0]);
        assert_eq!((video.frames[0].width, video.frames[0].height), (512, 256));
        assert!(Keeper::new(&Limits::default()).finish(1.0).is_none());
    }

    /// An MP4 file of boxes alone, with a track of each kind.
    fn mp4(brand: &[u8; 4], tracks: &[&[u8; 4]]) -> Vec<u8> {
        let boxed = |name: &[u8; 4], body: &[u8]| [&(8 + body.len() as u32).to_be_bytes()[..], name, body].concat();
        let track = |kind: &&[u8; 4]| {
            let handler = boxed(b"hdlr", &[&[0; 8], &kind[..], &[0; 12]].concat());
            boxed(b"trak", &[boxed(b"tkhd", &[0; 84]), boxed(b"mdia", &handler)].concat())
        };
        let tracks: Vec<u8> = tracks.iter().flat_map(track).collect();
        [boxed(b"ftyp", &[&brand[..], &[0; 4]].concat()), boxed(b"mdat", &[7; 40]), boxed(b"moov", &tracks)].concat()
    }

    #[test]
    fn sounds_are_told_from_videos() {
        let name = |path: &str, bytes: &[u8]| sniff(Path::new(path), bytes).map(|c| c.name);
        assert_eq!(name("a.mp4", &mp4(b"isom", &[b"soun", b"vide"])), Some("MP4"));
        assert_eq!(name("a", &mp4(b"qt  ", &[b"vide"])), Some("QuickTime"));
        assert_eq!(name("a.mp4", &mp4(b"isom", &[b"soun"])), None);
        assert_eq!(name("a.m4a", &mp4(b"M4A ", &[b"soun", b"vide"])), None);
        // A lying size ends the walk, not the program.
        let mut broken = mp4(b"isom", &[b"vide"]);
        broken[16..20].copy_from_slice(&[0xff; 4]);
        assert_eq!((name("a.mp4", &broken), name("a.bin", &broken)), (Some("MP4"), None));
        broken[16..20].copy_from_slice(&[0, 0, 0, 3]);
        assert_eq!(has_video_track(&broken), None);
        assert_eq!(name("a", b"RIFF\0\0\0\0AVI LIST"), Some("AVI"));
        assert_eq!(name("a.mkv", b"\x1a\x45\xdf\xa3\x42\x82\x84webm"), Some("WebM"));
        assert_eq!(
            (name("a.wma", b"\x30\x26\xb2\x75\x8e"), name("a.wmv", b"\x30\x26\xb2\x75\x8e")),
            (None, Some("Windows Media"))
        );
    }

    #[test]
    fn only_whole_frames_of_one_size_are_taken() {
        let frame = |header: &str, n: usize| [header.as_bytes(), &vec![5; n]].concat();
        let read = |bytes: &[u8]| read_frames(&mut &bytes[..], &Limits::default()).map(|(_, n)| n);
        let two = [frame("P6\n2 1\n255\n", 6), frame("P6\n2 1\n255\n", 6)].concat();
        assert_eq!(read(&two), Ok(2));
        assert_eq!(read(&two[..two.len() - 1]), Ok(1));
        assert_eq!(read(b""), Ok(0));
        for (bytes, words) in [
            (frame("P5\n2 1\n255\n", 6), "PPM"),
            (frame("P6\n2 1\n65535\n", 12), "PPM"),
            (frame("P6\n2", 0), "PPM"),
            (frame("P6\n4000000000 4000000000\n255\n", 6), "limit"),
            (frame("P6\n0 1\n255\n", 0), "pixels"),
            ([frame("P6\n2 1\n255\n", 6), frame("P6\n1 2\n255\n", 6)].concat(), "change"),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_size_is_the_file_s_own() {
        let report =
            "[info]   Stream #0:0[0x1](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p(tv), 1920x1080 [SAR 1:1], 25 fps";
        assert_eq!(size(report, &frame(455, 256, 0)), [1920, 1080]);
        assert_eq!(size(report, &frame(256, 455, 0)), [1080, 1920]);
        assert_eq!(size("nothing", &frame(3, 2, 0)), [3, 2]);
    }

    #[cfg(unix)]
    mod by_a_script {
        use super::*;

        const MP4: Container = Container { name: "MP4", demuxer: "mov" };

        /// A program that stands for ffmpeg: it must be asked as the real one is.
        fn script(folder: &Path, body: &str) -> OsString {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.join("ffmpeg");
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.into_os_string()
        }

        fn run(body: &str, limits: &Limits) -> Result<Decoded, MediaError> {
            let folder = tempfile::tempdir().unwrap();
            decode_by(&script(folder.path(), body), MP4, Path::new("/nowhere/a.mp4"), b"abc", limits)
        }

        #[test]
        fn frames_come_through_the_pipe() {
            let body = r#"
                case "$*" in *"-protocol_whitelist file,pipe"*"-f mov -i file:"*) ;; *) echo "[fatal] asked: $*" >&2; exit 1;; esac
                for word in "$@"; do case "$word" in file:*) input="${word#file:}";; esac; done
                [ "$(cat "$input")" = abc ] || { echo "[fatal] another input" >&2; exit 1; }
                echo "[info] Stream #0:0: Video: h264, yuv420p, 64x32, 25 fps" >&2
                for c in a b b c; do printf 'P6\n2 1\n255\n%s%s%s%s%s%s' $c $c $c $c $c $c; done"#;
            let Decoded { media, metadata } = run(body, &Limits::default()).unwrap();
            let Media::Video(video) = media else { panic!("no video") };
            assert_eq!(video.times_s, [0.0, 0.1, 0.3]);
            assert_eq!((video.frames[1].rgb.as_slice(), video.duration_s), (&b"bbbbbb"[..], 0.4));
            assert_eq!((metadata.format.as_str(), metadata.width, metadata.height), ("MP4", Some(64), Some(32)));
            assert!(metadata.notes.is_empty(), "{:?}", metadata.notes);
            let short = run(body, &Limits { max_video_s: 0, ..Limits::default() }).unwrap();
            assert!(short.metadata.notes[0].contains("max_video_s"));
        }

        #[test]
        fn failures_say_why() {
            let message = |body: &str| run(body, &Limits::default()).unwrap_err().to_string();
            assert!(
                message("echo '[mov @ 0x1] [error] moov atom not found' >&2; exit 1").contains("(ffmpeg: moov atom not found)")
            );
            assert!(message("exit 7").contains("does not say why"));
            assert!(message("exit 0").contains("no frame"));
            assert!(message("echo hello").contains("PPM"));
            let part =
                run("printf 'P6\\n1 1\\n255\\nabcP6\\n1 1\\n255\\na'; echo '[error] broken' >&2; exit 1", &Limits::default());
            assert!(part.unwrap().metadata.notes[0].contains("broken"));
        }

        #[test]
        fn the_clock_ends_it() {
            let limits = Limits { max_ffmpeg_s: 1, ..Limits::default() };
            let started = std::time::Instant::now();
            let message = run("exec sleep 60", &limits).unwrap_err().to_string();
            assert!(message.contains("the limit is 1 seconds") && message.contains("max_ffmpeg_s"), "{message}");
            // Also when its output is closed but it goes on.
            assert!(run("exec 1>&- 2>&-; exec sleep 60", &limits).is_err());
            assert!(started.elapsed() < Duration::from_secs(30));
        }

        #[test]
        fn an_absent_program_is_named() {
            let run = |limits: &Limits| decode_by(&"/no/such/ffmpeg".into(), MP4, Path::new("a.mp4"), b"abc", limits);
            let error = run(&Limits::default()).unwrap_err();
            assert!(matches!(error, MediaError::NoProgram { .. }));
            let message = error.to_string();
            assert!(["MP4", "`/no/such/ffmpeg`", "CHIASM_FFMPEG"].iter().all(|word| message.contains(word)), "{message}");
            assert!(run(&Limits { max_ffmpeg_s: 0, ..Limits::default() }).unwrap_err().to_string().contains("no time"));
        }
    }
}
