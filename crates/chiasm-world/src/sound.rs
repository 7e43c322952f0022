//! A scene as a sound: a short melody in which each thing is played in turn, subject first.
//!
//! | attribute | what is heard |
//! | --- | --- |
//! | shape | the instrument: flute, clarinet, plucked string, bell, buzzer, hum |
//! | colour | the note the motif starts on: eight notes from 220 Hz, four semitones apart |
//! | size | small: short and soft; large: long and loud |
//! | relation | the motif's contour: rising (above), falling (below), up and back (left of), down and back (right of), trill (inside) |
//! | count | a scene of one kind of thing has as many single calls |
//!
//! What varies freely: tuning, tempo, when it begins, loudness, vibrato, a little hiss.

use chiasm_core::Waveform;
use libm::{exp, exp2, sin};
use std::f64::consts::TAU;

use crate::dice::Dice;
use crate::scene::{Colour, Relation, Scene, Shape, Size, Thing};

/// Samples per second.
pub(crate) const RATE_HZ: u32 = 16_000;
const RATE: f64 = RATE_HZ as f64;
/// Length of every sound.
pub(crate) const SECONDS: f64 = 1.8;

/// Plays a scene.
pub(crate) fn play(scene: &Scene, dice: &mut Dice) -> Waveform {
    let mut samples = vec![0.0; (RATE * SECONDS) as usize];
    let tempo = dice.around(1.0, 0.1);
    let tuning = dice.around(0.0, 0.35);
    let start = dice.around(0.09, 0.05);
    match scene.other {
        None => {
            for call in 0..scene.subject.count {
                let at = start + 0.52 * tempo * f64::from(call);
                note(&mut samples, scene.subject, at, 1.35 * note_seconds(scene.subject) * tempo, tuning, dice);
            }
        }
        Some((relation, other)) => {
            for (thing, at) in [(scene.subject, start), (other, start + 0.82 * tempo)] {
                let seconds = note_seconds(thing) * tempo;
                let steps = motif(relation);
                // A trill has more notes in the same time.
                let each = 3.0 * seconds / steps.len() as f64;
                for (i, step) in steps.iter().enumerate() {
                    note(&mut samples, thing, at + each * i as f64, 0.95 * each, tuning + step, dice);
                }
            }
        }
    }
    let (gain, hiss) = (dice.around(1.0, 0.12), 0.0015 + 0.006 * dice.unit() * dice.unit());
    let samples = samples.into_iter().map(|s: f64| ((gain * s + hiss * dice.noise()).clamp(-1.0, 1.0)) as f32).collect();
    Waveform { sample_rate_hz: RATE_HZ, samples }
}

/// Semitones of a motif's notes from its first.
fn motif(relation: Relation) -> &'static [f64] {
    match relation {
        Relation::Above => &[0.0, 1.0, 2.0],
        Relation::Below => &[0.0, -1.0, -2.0],
        Relation::LeftOf => &[0.0, 2.0, 0.0],
        Relation::RightOf => &[0.0, -2.0, 0.0],
        Relation::Inside => &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0],
    }
}

fn note_seconds(thing: Thing) -> f64 {
    match thing.size {
        Size::Small => 0.15,
        Size::Large => 0.25,
    }
}

/// Adds one note; what would sound past the end is cut.
fn note(samples: &mut [f64], thing: Thing, start_s: f64, seconds: f64, semitones: f64, dice: &mut Dice) {
    let degree = Colour::ALL.iter().position(|c| *c == thing.colour).unwrap_or(0) as f64;
    let pitch_hz = 220.0 * exp2((4.0 * degree + semitones) / 12.0);
    let loudness = match thing.size {
        Size::Small => dice.around(0.10, 0.015),
        Size::Large => dice.around(0.28, 0.03),
    };
    let voice = instrument(thing.shape);
    let (vibrato_hz, vibrato) = (dice.around(5.5, 0.7), voice.vibrato);
    let first = (start_s * RATE) as usize;
    let n = (seconds * RATE) as usize;
    let norm: f64 = voice.partials.iter().map(|(_, level)| level).sum();
    let mut turn = dice.unit();
    for i in 0..n {
        let t = i as f64 / RATE;
        // Attack, and a release over the last 20 ms, so that no note clicks.
        let edge = (t / voice.attack_s).min(1.0) * ((seconds - t) / 0.02).clamp(0.0, 1.0);
        let decay = exp(-t * voice.decay_per_s);
        let flutter = 1.0 - voice.flutter * (0.5 + 0.5 * sin(TAU * 32.0 * t));
        turn += pitch_hz * (1.0 + vibrato * sin(TAU * vibrato_hz * t)) / RATE;
        let mut value = 0.0;
        for (ratio, level) in voice.partials {
            if ratio * pitch_hz < 0.47 * RATE {
                // Upper partials of a struck or plucked thing die away first.
                let fade = if voice.decay_per_s > 0.0 { exp(-t * voice.decay_per_s * 0.25 * (ratio - 1.0)) } else { 1.0 };
                value += level * fade * sin(TAU * ratio * turn);
            }
        }
        let breath = if voice.breath > 0.0 { voice.breath * dice.noise() } else { 0.0 };
        if let Some(sample) = samples.get_mut(first + i) {
            *sample += loudness * edge * decay * flutter * (value / norm * 1.6 + breath);
        }
    }
}

/// What makes a timbre.
struct Voice {
    /// (frequency over the pitch, level).
    partials: &'static [(f64, f64)],
    attack_s: f64,
    decay_per_s: f64,
    /// Depth of a tremor of loudness at 32 Hz, 0 to 1.
    flutter: f64,
    /// Relative depth of vibrato.
    vibrato: f64,
    /// Level of noise blown along.
    breath: f64,
}

fn instrument(shape: Shape) -> Voice {
    let plain = Voice { partials: &[(1.0, 1.0)], attack_s: 0.02, decay_per_s: 0.0, flutter: 0.0, vibrato: 0.0, breath: 0.0 };
    match shape {
        // A flute: hardly more than its fundamental, with breath.
        Shape::Circle => Voice { partials: &[(1.0, 1.0), (2.0, 0.06)], attack_s: 0.04, vibrato: 0.004, breath: 0.05, ..plain },
        // A clarinet: odd partials, as of a square wave.
        Shape::Square => Voice { partials: &[(1.0, 1.0), (3.0, 0.5), (5.0, 0.33), (7.0, 0.22), (9.0, 0.15)], ..plain },
        // A plucked string: all partials, a sharp attack, a decay.
        Shape::Triangle => Voice {
            partials: &[(1.0, 1.0), (2.0, 0.7), (3.0, 0.5), (4.0, 0.4), (5.0, 0.3), (6.0, 0.2)],
            attack_s: 0.003,
            decay_per_s: 12.0,
            ..plain
        },
        // A bell: partials that are no multiples.
        Shape::Star => Voice {
            partials: &[(1.0, 1.0), (2.76, 0.7), (5.40, 0.45), (8.93, 0.2)],
            attack_s: 0.002,
            decay_per_s: 5.0,
            ..plain
        },
        // A buzzer: a saw that trembles.
        Shape::Cross => Voice {
            partials: &[(1.0, 1.0), (2.0, 0.9), (3.0, 0.8), (4.0, 0.7), (5.0, 0.6), (6.0, 0.5), (8.0, 0.4)],
            attack_s: 0.005,
            flutter: 0.9,
            breath: 0.15,
            ..plain
        },
        // A hum: even partials carry it, the voice wavers.
        Shape::Heart => {
            Voice { partials: &[(1.0, 0.6), (2.0, 1.0), (3.0, 0.15), (4.0, 0.3)], attack_s: 0.05, vibrato: 0.018, ..plain }
        }
    }
}
