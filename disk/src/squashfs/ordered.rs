//! A few threads that do jobs, and the results in the order the jobs were given.
//!
//! ```text
//! push ─▶ jobs ─▶ worker, worker, ..  ─▶ results ─▶ (put back in order) ─▶ next
//! ```
//!
//! The window (jobs given and not yet taken back) is bounded by the caller, who takes a result before giving a job
//! when [`Ordered::is_full`]. That also bounds memory, and the caller's thread is the only one that writes anything.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A worker is gone: it panicked, or could not be started.
#[derive(Debug)]
pub(super) struct WorkerGone;

pub(super) struct Ordered<J, R> {
    jobs: Option<Sender<(u64, J)>>,
    results: Receiver<(u64, Option<R>)>,
    /// Results that came before their turn; the front is the oldest job's.
    window: VecDeque<Option<R>>,
    /// The number of the window's front.
    first: u64,
    limit: usize,
    workers: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static, R: Send + 'static> Ordered<J, R> {
    /// Starts a worker for each of `states`, which it has for its own.
    pub(super) fn new<S: Send + 'static>(
        states: Vec<S>,
        work: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Result<Self, WorkerGone> {
        let limit = 2 * states.len() + 2;
        let (jobs, queue) = channel::<(u64, J)>();
        let queue = Arc::new(Mutex::new(queue));
        let (done, results) = channel();
        let work = Arc::new(work);
        let mut workers = Vec::with_capacity(states.len());
        for mut state in states {
            let (queue, done, work) = (queue.clone(), done.clone(), work.clone());
            let body = move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, job)) = job else { return };
                    let mut report = Report { number, result: None, done: &done };
                    report.result = Some(work(&mut state, job));
                }
            };
            let worker =
                std::thread::Builder::new().name("squashfs".into()).spawn(body).map_err(|_| WorkerGone)?;
            workers.push(worker);
        }
        Ok(Self { jobs: Some(jobs), results, window: VecDeque::new(), first: 0, limit, workers })
    }

    /// True when a result should be taken before another job is given.
    pub(super) fn is_full(&self) -> bool {
        self.window.len() >= self.limit
    }

    pub(super) fn push(&mut self, job: J) -> Result<(), WorkerGone> {
        let number = self.first + self.window.len() as u64;
        self.jobs.as_ref().ok_or(WorkerGone)?.send((number, job)).map_err(|_| WorkerGone)?;
        self.window.push_back(None);
        Ok(())
    }

    /// The result of the oldest job, waited for; none if no job is under way.
    pub(super) fn next(&mut self) -> Result<Option<R>, WorkerGone> {
        if self.window.is_empty() {
            return Ok(None);
        }
        while self.window[0].is_none() {
            let (number, result) = self.results.recv().map_err(|_| WorkerGone)?;
            let slot = self.window.get_mut((number - self.first) as usize).ok_or(WorkerGone)?;
            *slot = Some(result.ok_or(WorkerGone)?);
        }
        self.first += 1;
        Ok(self.window.pop_front().flatten())
    }
}

impl<J, R> Drop for Ordered<J, R> {
    /// Lets the workers end and waits for them.
    fn drop(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // A panic was reported as `WorkerGone` to whoever waited for the result.
            let _ = worker.join();
        }
    }
}

/// Reports a job's result when dropped: also that there is none, when the worker panics.
struct Report<'a, R> {
    number: u64,
    result: Option<R>,
    done: &'a Sender<(u64, Option<R>)>,
}

impl<R> Drop for Report<'_, R> {
    fn drop(&mut self) {
        // Nobody waits any more if the receiver is gone.
        let _ = self.done.send((self.number, self.result.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut pool = Ordered::new(vec![(); 4], |(), n: u64| (0..(n % 7) * 1000).sum::<u64>() + n).unwrap();
        let mut got = Vec::new();
        for n in 0..500 {
            if pool.is_full() {
                got.push(pool.next().unwrap().unwrap());
            }
            pool.push(n).unwrap();
        }
        while let Some(result) = pool.next().unwrap() {
            got.push(result);
        }
        let want: Vec<u64> = (0..500).map(|n| (0..(n % 7) * 1000).sum::<u64>() + n).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn a_worker_that_panics_is_an_error_and_no_hang() {
        let mut pool = Ordered::new(vec![(); 2], |(), n: u32| assert!(n != 1, "on purpose")).unwrap();
        pool.push(0).unwrap();
        pool.push(1).unwrap();
        assert!(pool.next().is_ok());
        assert!(pool.next().is_err());
    }
}
