//! Work that goes on beside its giver, on threads of its own, whose results come back in the order in which it was given.
//!
//! Two pieces are in work at once while there are two: where the end of one leaves a core idle, the beginning of the next takes it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Pieces in work at once.
const AT_ONCE: usize = 2;

/// A result, `None` for work that was not begun before the stop; or what the work panicked with.
type Done<R> = std::thread::Result<Option<R>>;

/// Where work is given and its results are taken.
pub(crate) struct InOrder<'a, J, R> {
    jobs: Sender<(usize, J)>,
    done: Receiver<(usize, Done<R>)>,
    /// Results that came before their turn.
    early: BTreeMap<usize, Done<R>>,
    n_given: usize,
    n_taken: usize,
    stopped: &'a AtomicBool,
}

impl<J, R> InOrder<'_, J, R> {
    /// Pieces given whose results were not taken.
    pub(crate) fn n_out(&self) -> usize {
        self.n_given - self.n_taken
    }

    /// Whether more may be given now: one more than are in work, so that none waits for its giver.
    pub(crate) fn has_room(&self) -> bool {
        self.n_out() <= AT_ONCE
    }

    /// Gives a piece of work.
    pub(crate) fn give(&mut self, job: J) {
        self.jobs.send((self.n_given, job)).expect("the threads live as long as this");
        self.n_given += 1;
    }

    /// The result of the oldest piece, waited for; `None` when nothing is out, or it was not begun before the stop.
    pub(crate) fn take(&mut self) -> Option<R> {
        while self.n_out() > 0 && !self.early.contains_key(&self.n_taken) {
            let (number, done) = self.done.recv().expect("the threads answer every piece");
            self.early.insert(number, done);
        }
        self.taken()
    }

    /// Likewise, `None` too when it is not there yet.
    pub(crate) fn try_take(&mut self) -> Option<R> {
        self.early.extend(self.done.try_iter());
        self.taken()
    }

    fn taken(&mut self) -> Option<R> {
        let done = self.early.remove(&self.n_taken)?;
        self.n_taken += 1;
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What is not yet begun is not begun any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Runs `body` with threads beside it that do `work`. What is out when it returns is not begun any more.
pub(crate) fn run<J: Send, R: Send, T>(work: impl Fn(J) -> R + Sync, body: impl FnOnce(&mut InOrder<'_, J, R>) -> T) -> T {
    let stopped = AtomicBool::new(false);
    let ((give_job, take_job), (give_result, done)) = (channel::<(usize, J)>(), channel());
    let take_job = Mutex::new(take_job);
    let serve = |give_result: Sender<(usize, Done<R>)>| {
        loop {
            let job = take_job.lock().unwrap_or_else(|e| e.into_inner()).recv();
            let Ok((number, job)) = job else { return };
            let go_on = !stopped.load(Ordering::Relaxed);
            let result = catch_unwind(AssertUnwindSafe(|| go_on.then(|| work(job))));
            if give_result.send((number, result)).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let give_result = give_result.clone();
            scope.spawn(|| serve(give_result));
        }
        drop(give_result);
        // Dropped with its end of the line when the body panics too, so that the threads end in any case.
        let mut line = InOrder { jobs: give_job, done, early: BTreeMap::new(), n_given: 0, n_taken: 0, stopped: &stopped };
        let out = body(&mut line);
        line.stop();
        out
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    #[test]
    fn results_come_in_order_whoever_is_first() {
        let slow_first = |n: u64| {
            std::thread::sleep(Duration::from_millis(if n.is_multiple_of(2) { 8 } else { 0 }));
            n * n
        };
        let all = run(slow_first, |line| {
            let mut all = Vec::new();
            for n in 0..20 {
                while !line.has_room() {
                    all.extend(line.take());
                }
                line.give(n);
                all.extend(line.try_take());
            }
            while line.n_out() > 0 {
                all.extend(line.take());
            }
            assert!(line.take().is_none() && line.try_take().is_none());
            all
        });
        assert_eq!(all, (0..20).map(|n| n * n).collect::<Vec<_>>());
    }

    #[test]
    fn two_are_in_work_at_once_and_the_giver_beside_them() {
        // Passed only by three who are there at the same time.
        let meet = Barrier::new(3);
        run(
            |()| {
                meet.wait();
            },
            |line| {
                line.give(());
                line.give(());
                meet.wait();
                assert!(line.take().is_some() && line.take().is_some());
            },
        );
    }

    #[test]
    fn a_stop_leaves_out_what_was_not_begun_and_a_panic_is_passed_on() {
        let begun = Barrier::new(3);
        let go_on = Barrier::new(3);
        let taken: Vec<Option<i32>> = run(
            |n: i32| {
                begun.wait();
                go_on.wait();
                n
            },
            |line| {
                (1..=4).for_each(|n| line.give(n));
                begun.wait();
                line.stop();
                go_on.wait();
                (0..4).map(|_| line.take()).collect()
            },
        );
        assert_eq!(taken, [Some(1), Some(2), None, None]);
        let panicked = catch_unwind(|| {
            run(
                |n: i32| if n == 2 { panic!("two") } else { n },
                |line| {
                    (1..=3).for_each(|n| line.give(n));
                    (0..3).map(|_| line.take()).collect::<Vec<_>>()
                },
            )
        });
        assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "two");
    }
}
