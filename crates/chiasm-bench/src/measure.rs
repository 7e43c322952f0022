//! What a piece of work costs: wall time, CPU time, memory.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

/// What a piece of work cost.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Seconds on the clock.
    pub wall_s: f64,
    /// Seconds of all threads together; absent where the system does not say.
    pub cpu_s: Option<f64>,
    /// Greatest resident memory above that before the work, in MiB; absent where the system does not say.
    pub extra_mib: Option<f64>,
}

/// Does the work and measures it. CPU time and memory are read from `/proc`, and so are there on Linux only; memory is that of the
/// whole process, so other work going on at the same time counts too.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    // Sets the peak back to what is resident now.
    let reset = fs::write("/proc/self/clear_refs", "5").is_ok();
    let (before, cpu, began) = (status_mib("VmRSS"), cpu_s(), Instant::now());
    let out = work();
    let wall_s = began.elapsed().as_secs_f64();
    let cpu_s = cpu.zip(cpu_s()).map(|(before, after)| after - before);
    let peak = if reset { status_mib("VmHWM") } else { None };
    let extra_mib = before.zip(peak).map(|(before, peak)| (peak - before).max(0.0));
    (out, Cost { wall_s, cpu_s, extra_mib })
}

/// The processor's name and how many cores this process may use.
pub fn processor() -> (String, usize) {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (name.map_or("unknown", |(_, name)| name.trim()).to_owned(), cores)
}

/// A memory figure of this process in MiB, by its name in `/proc/self/status`: `VmHWM` is the peak.
pub fn status_mib(field: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// User and system time of this process so far. The kernel counts in hundredths of a second.
pub fn cpu_s() -> Option<f64> {
    times_s(11)
}

/// Time of the threads that this process has now, exact to a few milliseconds; what ended threads took is not in it. [`cpu_s`] where the
/// system does not tell it of each thread.
pub fn threads_cpu_s() -> Option<f64> {
    // A thread that ends while we look is an ended one.
    let tasks: f64 = fs::read_dir("/proc/self/task").ok()?.filter_map(|task| thread_s(&task.ok()?.path())).sum();
    Some(tasks).filter(|s| *s > 0.0).or_else(cpu_s)
}

/// Seconds that a thread has run so far, by its folder below `/proc`.
fn thread_s(task: &Path) -> Option<f64> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// User and system time of the processes that this one started and that have ended, with those that they waited for.
pub fn children_cpu_s() -> Option<f64> {
    times_s(13)
}

/// The sum of two neighbouring times of this process, by the place of the first.
fn times_s(first: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold anything; the fields follow it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
    Some((ticks(first)? + ticks(first + 1)?) / 100.0)
}

/// The mean over seeds, and the standard deviation of a sample (divided by one less than there are); of numbers that are all alike this number, and no deviation.
pub(crate) fn mean_and_deviation(all: &[f64]) -> (f64, Option<f64>) {
    if all.iter().all(|x| *x == all[0]) {
        return (all[0], None);
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let squares: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, Some((squares / (all.len() - 1) as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_time_and_memory() {
        let costs = || {
            let (sum, cost) = measured(|| {
                let numbers: Vec<u64> = (0..8_000_000u64).map(|i| i ^ (i << 7)).collect();
                numbers.iter().fold(0u64, |a, b| a.wrapping_add(*b))
            });
            assert!(sum > 0 && cost.wall_s > 0.0);
            cost.extra_mib.is_none_or(|mib| mib > 30.0)
        };
        // Another test of this process may give memory back meanwhile, and hide ours.
        assert!((0..5).any(|_| costs()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_of_threads_grows_with_work() {
        // Of this thread alone: the other tests' threads end while this one works, and their time with them.
        let own = || thread_s(Path::new("/proc/thread-self")).unwrap();
        let before = own();
        let start = Instant::now();
        while start.elapsed().as_millis() < 100 {
            std::hint::black_box((0..10_000u64).fold(0, u64::wrapping_add));
        }
        let after = own();
        assert!(after - before > 0.005, "{before} s, {after} s");
        assert!(threads_cpu_s().unwrap() >= after);
    }
}
