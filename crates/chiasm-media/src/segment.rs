//! Cutting long media into the parts that are embedded one by one.

use chiasm_core::{Media, Span, Video, Waveform};

use crate::text::RECORD_SEPARATOR;

/// How long media are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// A sound no longer than this stays whole, in seconds. Default 30: a word, a call, a clip.
    pub audio_whole_s: f64,
    /// Length of a window over a longer sound, in seconds. Default 10: the length of the clips that sound taggers learn from.
    pub audio_window_s: f64,
    /// From one window's start to the next, in seconds. Default 10: no overlap.
    pub audio_hop_s: f64,
    /// A video no longer than this stays whole, in seconds. Default 20.
    pub video_whole_s: f64,
    /// Length of a window over a longer video, in seconds. Default 10: the length of the clips that video encoders learn from.
    pub video_window_s: f64,
    /// From one window's start to the next, in seconds. Default 10: no overlap.
    pub video_hop_s: f64,
    /// Characters of a text passage at most. Default 900: about 200 tokens of English, within the 256 of small sentence
    /// encoders.
    pub text_max_chars: usize,
    /// Parts of one item at most; the parts beyond are counted in [`Spans::n_dropped`]. Default 2,000:
    /// about 1.8 MB of text (a long book has 1), or five hours of sound or video. Each part costs an embedding, so this also bounds the time
    /// that one file may take.
    pub max_segments: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Cut {
            audio_whole_s: 30.0,
            audio_window_s: 10.0,
            audio_hop_s: 10.0,
            video_whole_s: 20.0,
            video_window_s: 10.0,
            video_hop_s: 10.0,
            text_max_chars: 900,
            max_segments: 2_000,
        }
    }
}

/// Where the parts of one item lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Spans {
    /// In the order of the item; at least one.
    pub spans: Vec<Span>,
    /// Parts beyond [`Cut::max_segments`], which the caller should report.
    pub n_dropped: usize,
}

/// Cuts media into parts: sounds and videos into windows, texts into passages at paragraph and sentence ends (JSON lines: one part per
/// line, longer lines into passages); pictures, series and shapes stay whole. Short media give one [`Span::Whole`].
///
/// Copies every part. To save memory on long sounds, or to learn how many parts `cut.max_segments` left out, take [`spans`]
/// and [`part`] instead: this is the two together.
pub fn segments(media: &Media, cut: &Cut) -> Vec<(Span, Media)> {
    spans(media, cut).spans.into_iter().map(|span| (span, part(media, span))).collect()
}

/// Where [`segments`] cuts, without copying.
pub fn spans(media: &Media, cut: &Cut) -> Spans {
    let max_spans = cut.max_segments.max(1);
    match media {
        Media::Audio(wave) => windows(wave, cut, max_spans),
        Media::Text(text) => passages(text, cut.text_max_chars.max(1), max_spans),
        Media::Video(video) => clips(video, cut, max_spans),
        Media::Image(_) | Media::Series(_) | Media::Shape(_) => Spans::whole(),
    }
}

/// The part of `media` that `span` names: of a span that reaches beyond the media or inside a character, what lies within;
/// of a span of another kind (seconds of a text), all of it.
pub fn part(media: &Media, span: Span) -> Media {
    match (media, span) {
        (Media::Audio(wave), Span::Time { start_s, end_s }) => {
            let index = |s: f64| ((s * f64::from(wave.sample_rate_hz)).round() as usize).min(wave.samples.len());
            let (start, end) = (index(start_s), index(end_s));
            let samples = wave.samples[start..end.max(start)].to_vec();
            Media::Audio(Waveform { sample_rate_hz: wave.sample_rate_hz, samples })
        }
        (Media::Text(text), Span::Bytes { start, end }) => {
            let start = text.ceil_char_boundary(start.min(text.len()));
            let end = text.floor_char_boundary(end.min(text.len()));
            Media::Text(text[start..end.max(start)].to_owned())
        }
        (Media::Video(video), Span::Time { start_s, end_s }) => Media::Video(clip(video, start_s, end_s)),
        (_, Span::Whole | Span::Time { .. } | Span::Bytes { .. }) => media.clone(),
    }
}

impl Spans {
    fn whole() -> Self {
        Spans { spans: vec![Span::Whole], n_dropped: 0 }
    }
}

/// Windows of one length over a long sound. The last one is moved back to end with the sound, so that none is short and
/// nothing is left over.
fn windows(wave: &Waveform, cut: &Cut, max_spans: usize) -> Spans {
    let rate = f64::from(wave.sample_rate_hz);
    let n_samples = wave.samples.len();
    let window = ((cut.audio_window_s * rate).round() as usize).max(1);
    let hop = ((cut.audio_hop_s * rate).round() as usize).max(1);
    if wave.duration_s() <= cut.audio_whole_s || n_samples <= window {
        return Spans::whole();
    }
    let last_start = n_samples - window;
    let n_windows = last_start.div_ceil(hop) + 1;
    let spans = (0..n_windows.min(max_spans))
        .map(|i| (i * hop).min(last_start))
        .map(|start| Span::Time { start_s: start as f64 / rate, end_s: (start + window) as f64 / rate })
        .collect();
    Spans { spans, n_dropped: n_windows.saturating_sub(max_spans) }
}

/// Windows of one length over a long video, as over a sound.
fn clips(video: &Video, cut: &Cut, max_spans: usize) -> Spans {
    let (length, window) = (video.duration_s, cut.video_window_s.max(0.1));
    if length <= cut.video_whole_s || length <= window {
        return Spans::whole();
    }
    let (hop, last_start) = (cut.video_hop_s.max(0.1), length - window);
    // No number of windows is beyond `usize` after the rounding, only beyond use.
    let n_windows = (last_start / hop - 1e-9).ceil().max(0.0) as usize + 1;
    let spans = (0..n_windows.min(max_spans))
        .map(|i| (i as f64 * hop).min(last_start))
        .map(|start_s| Span::Time { start_s, end_s: start_s + window })
        .collect();
    Spans { spans, n_dropped: n_windows.saturating_sub(max_spans) }
}

/// A stretch of a video, whose time begins anew: the frame that is shown at its start, and those that begin before its end.
fn clip(video: &Video, start_s: f64, end_s: f64) -> Video {
    // Spans may come from anywhere: what is no number is 0.
    let start_s = if start_s > 0.0 { start_s.min(video.duration_s) } else { 0.0 };
    let end_s = if end_s > start_s { end_s.min(video.duration_s) } else { start_s };
    let first = video.frame_at(start_s);
    let after = video.times_s.partition_point(|t| *t < end_s).max(first + 1);
    Video {
        frames: video.frames[first..after].to_vec(),
        times_s: video.times_s[first..after].iter().map(|t| (t - start_s).max(0.0)).collect(),
        duration_s: end_s - start_s,
    }
}

/// Passages of at most `max_chars`; each record of a JSON lines file begins a new one.
fn passages(text: &str, max_chars: usize, max_spans: usize) -> Spans {
    if !text.contains(RECORD_SEPARATOR) && text.chars().nth(max_chars).is_none() {
        return Spans::whole();
    }
    let mut spans = Spans { spans: Vec::new(), n_dropped: 0 };
    let mut record_start = 0;
    for record in text.split(RECORD_SEPARATOR) {
        let mut start = 0;
        while start < record.len() {
            let end = start + passage_len(&record[start..], max_chars);
            let passage = &record[start..end];
            let trimmed = passage.trim();
            if !trimmed.is_empty() {
                if spans.spans.len() < max_spans {
                    let first = record_start + start + (passage.len() - passage.trim_start().len());
                    spans.spans.push(Span::Bytes { start: first, end: first + trimmed.len() });
                } else {
                    spans.n_dropped += 1;
                }
            }
            start = end;
        }
        record_start += record.len() + RECORD_SEPARATOR.len_utf8();
    }
    if spans.spans.is_empty() { Spans::whole() } else { spans }
}

/// Bytes of the next passage. It ends at the last paragraph break within `max_chars`, failing that at the last sentence end,
/// line break, space; a break in the first third is not taken, lest passages become crumbs. Without any it ends between two
/// characters.
fn passage_len(rest: &str, max_chars: usize) -> usize {
    let (mut paragraph, mut sentence, mut line, mut space) = (None, None, None, None);
    let mut chars = rest.char_indices().peekable();
    let mut n_chars = 0;
    let mut lines_since_text = 0;
    let mut sentence_ended = false;
    while let Some((at, c)) = chars.next() {
        if n_chars == max_chars {
            return paragraph.or(sentence).or(line).or(space).unwrap_or(at);
        }
        n_chars += 1;
        let end = at + c.len_utf8();
        let far_enough = n_chars * 3 >= max_chars;
        if c.is_whitespace() {
            lines_since_text += usize::from(c == '\n');
            if far_enough {
                space = Some(end);
                if c == '\n' {
                    line = Some(end);
                }
                if lines_since_text >= 2 {
                    paragraph = Some(end);
                }
                if sentence_ended {
                    sentence = Some(end);
                }
            }
            continue;
        }
        lines_since_text = 0;
        // A closing quotation mark or bracket belongs to the sentence before it.
        let closes = matches!(c, '"' | '\'' | ')' | ']' | '»' | '”' | '’' | '」' | '』' | '）' | '》');
        let cjk_end = matches!(c, '。' | '！' | '？' | '；' | '｡');
        sentence_ended = cjk_end || matches!(c, '.' | '!' | '?' | '…') || (closes && sentence_ended);
        // Chinese puts no space after a full stop.
        let next_closes =
            chars.peek().is_some_and(|&(_, n)| matches!(n, '”' | '’' | '」' | '』' | '）' | '》' | '。' | '！' | '？'));
        if far_enough && (cjk_end || (closes && sentence_ended && !c.is_ascii())) && !next_closes {
            sentence = Some(end);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts_of(text: &str, max_chars: usize) -> Vec<String> {
        let cut = Cut { text_max_chars: max_chars, ..Cut::default() };
        segments(&Media::Text(text.to_owned()), &cut)
            .into_iter()
            .map(|(_, media)| {
                let Media::Text(text) = media else { panic!("a text gave {media:?}") };
                text
            })
            .collect()
    }

    fn wave(n_samples: usize, sample_rate_hz: u32) -> Media {
        Media::Audio(Waveform { sample_rate_hz, samples: (0..n_samples).map(|i| i as f32).collect() })
    }

    #[test]
    fn short_media_stay_whole() {
        let cut = Cut::default();
        for media in [
            wave(30 * 100, 100),
            Media::Text("a dog".into()),
            Media::Image(chiasm_core::Image { width: 1, height: 1, rgb: vec![0; 3] }),
            Media::Series(chiasm_core::Series { n_channels: 1, names: vec![], values: vec![0.0; 10] }),
        ] {
            assert_eq!(segments(&media, &cut), [(Span::Whole, media)]);
        }
    }

    #[test]
    fn a_long_sound_is_covered_by_windows_of_one_length() {
        let media = wave(3_450, 100); // 34.5 s
        let cut = Cut::default();
        let spans = spans(&media, &cut);
        let starts: Vec<f64> = spans
            .spans
            .iter()
            .map(|s| {
                let Span::Time { start_s, end_s } = s else { panic!("{s:?}") };
                assert!((end_s - start_s - 10.0).abs() < 1e-9);
                *start_s
            })
            .collect();
        assert_eq!(starts, [0.0, 10.0, 20.0, 24.5]);
        let Media::Audio(last) = part(&media, spans.spans[3]) else { panic!("a part of a sound is a sound") };
        assert_eq!((last.samples[0], last.samples.len()), (2_450.0, 1_000));
        let few = super::spans(&media, &Cut { max_segments: 3, ..cut });
        assert_eq!((few.spans.len(), few.n_dropped), (3, 1));
    }

    #[test]
    fn a_long_video_is_covered_by_windows_that_each_show_something() {
        let frame = |i: u8| std::sync::Arc::new(chiasm_core::Image { width: 1, height: 1, rgb: vec![i; 3] });
        // 34.5 s, of which the stretch from 3 s to 31 s is one frame.
        let times_s = vec![0.0, 1.5, 3.0, 31.0];
        let video = Media::Video(Video { frames: (0..4).map(frame).collect(), times_s, duration_s: 34.5 });
        let parts = segments(&video, &Cut::default());
        let mut shown = Vec::new();
        for (span, part) in &parts {
            let (Span::Time { start_s, end_s }, Media::Video(part)) = (span, part) else { panic!("{span:?}") };
            assert!((end_s - start_s - 10.0).abs() < 1e-9 && (part.duration_s - 10.0).abs() < 1e-9);
            assert_eq!(part.times_s[0], 0.0);
            shown.push((*start_s, part.frames.iter().map(|f| f.rgb[0]).collect::<Vec<u8>>()));
        }
        assert_eq!(shown, [(0.0, vec![0, 1, 2]), (10.0, vec![2]), (20.0, vec![2]), (24.5, vec![2, 3])]);
        let Media::Video(last) = &parts[3].1 else { panic!("a part of a video is a video") };
        assert_eq!(last.times_s, [0.0, 6.5]);
        assert_eq!(spans(&video, &Cut { max_segments: 3, ..Cut::default() }).n_dropped, 1);
        assert_eq!(spans(&video, &Cut { video_whole_s: 40.0, ..Cut::default() }).spans, [Span::Whole]);
        for (start_s, end_s) in [(f64::NAN, f64::NAN), (99.0, -3.0), (-5.0, f64::INFINITY), (f64::NEG_INFINITY, 0.0)] {
            let Media::Video(part) = part(&video, Span::Time { start_s, end_s }) else {
                panic!("a part of a video is a video")
            };
            assert!(!part.frames.is_empty() && part.duration_s >= 0.0 && part.times_s.iter().all(|t| *t >= 0.0));
        }
    }

    #[test]
    fn odd_rates_give_back_the_samples_they_cut() {
        let media = wave(11_127 * 47, 11_127);
        for (span, part) in segments(&media, &Cut { audio_hop_s: 3.3, audio_window_s: 7.7, ..Cut::default() }) {
            let (Span::Time { start_s, .. }, Media::Audio(part)) = (span, part) else { panic!("windows of a sound") };
            assert_eq!(part.samples[0], (start_s * 11_127.0).round() as f32);
            assert_eq!(part.samples.len(), (7.7f64 * 11_127.0).round() as usize);
        }
    }

    #[test]
    fn texts_are_cut_at_paragraphs_then_sentences_then_words() {
        assert_eq!(texts_of("One two three.\n\nFour five six seven.", 20), ["One two three.", "Four five six seven."]);
        assert_eq!(texts_of("A dog ran. A cat sat. A bird flew off.", 24), ["A dog ran. A cat sat.", "A bird flew off."]);
        assert_eq!(texts_of("alpha beta gamma delta", 12), ["alpha beta", "gamma delta"]);
        assert_eq!(texts_of("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(texts_of("He said \"no.\" Then he left the house.", 24), ["He said \"no.\"", "Then he left the house."]);
    }

    #[test]
    fn chinese_is_cut_after_its_full_stops() {
        assert_eq!(
            texts_of("一只狗在草地上跑。两只猫在树下睡觉。鸟飞走了！", 12),
            ["一只狗在草地上跑。", "两只猫在树下睡觉。", "鸟飞走了！"]
        );
        assert_eq!(texts_of("他说：“好的。”然后他走了出去。天黑了。", 9), ["他说：“好的。”", "然后他走了出去。", "天黑了。"]);
    }

    #[test]
    fn each_record_is_a_part_of_its_own() {
        let text = format!("a dog\n{RECORD_SEPARATOR}a cat\n{RECORD_SEPARATOR}two birds on a wire");
        assert_eq!(texts_of(&text, 900), ["a dog", "a cat", "two birds on a wire"]);
        let cut = Cut { max_segments: 2, ..Cut::default() };
        assert_eq!(spans(&Media::Text(text), &cut).n_dropped, 1);
    }

    #[test]
    fn spans_that_do_not_fit_give_what_lies_within() {
        let text = Media::Text("狗cat".into());
        assert_eq!(part(&text, Span::Bytes { start: 1, end: 99 }), Media::Text("cat".into()));
        assert_eq!(part(&text, Span::Bytes { start: 99, end: 3 }), Media::Text(String::new()));
        assert_eq!(part(&text, Span::Time { start_s: 0.0, end_s: 1.0 }), text);
        let Media::Audio(none) = part(&wave(10, 10), Span::Time { start_s: f64::NAN, end_s: -4.0 }) else { panic!("sound") };
        assert!(none.samples.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_text_is_lost_or_too_long(text in "[a-c。，. \n\u{1e}狗é]{0,200}", max_chars in 1usize..40) {
            let parts = texts_of(&text, max_chars);
            let visible = |s: &str| s.chars().filter(|c| !c.is_whitespace() && *c != RECORD_SEPARATOR).collect::<String>();
            prop_assert_eq!(parts.iter().map(|p| visible(p)).collect::<String>(), visible(&text));
            if parts.len() > 1 {
                prop_assert!(parts.iter().all(|p| p.chars().count() <= max_chars));
            }
        }

        // Below 2,000 samples, so that no hop makes more parts than one file gives.
        #[test]
        fn windows_cover_every_sample(n in 1usize..2_000, window in 0.01f64..9.0, hop in 0.0f64..9.0) {
            let media = wave(n, 100);
            let cut = Cut { audio_whole_s: 1.0, audio_window_s: window, audio_hop_s: hop.min(window), ..Cut::default() };
            let mut covered = 0.0;
            for span in spans(&media, &cut).spans {
                if let Span::Time { start_s, end_s } = span {
                    prop_assert!(start_s <= covered + 0.006); // hop and window are rounded to samples of 0.01 s
                    covered = end_s;
                } else {
                    covered = n as f64 / 100.0;
                }
            }
            prop_assert!((covered - n as f64 / 100.0).abs() < 1e-9);
        }
    }
}
