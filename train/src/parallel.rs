//! Many clients side by side, or one thing on many threads.

use fedpress::ErrorKind;
use fedpress_fl::{Error, Result};
use std::sync::Mutex;
use std::sync::mpsc;

/// Runs jobs on `threads` threads, each with a rayon pool of one thread for what its job computes,
/// and gives their results in the order of the jobs, whichever finishes first.
///
/// That is faster than one client after the other on all threads: the matrix products of one client
/// are too small to share.
///
/// # Errors
/// `InvalidArgument` for no threads, `Io` if a thread or a pool cannot be made.
///
/// # Panics
/// If a job does.
pub fn in_parallel<T: Send>(
    threads: usize,
    jobs: Vec<impl FnOnce() -> T + Send>,
) -> Result<Vec<T>> {
    if threads == 0 {
        return Err(Error::invalid("expected at least one thread"));
    }
    let n = jobs.len();
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(no_thread);
    let pools = (0..threads.min(n)).map(|_| pool()).collect::<Result<Vec<_>>>()?;
    let queue = Mutex::new(jobs.into_iter().enumerate());
    // A job that panics poisons nothing here: the queue is not locked while it runs.
    let next = || queue.lock().unwrap_or_else(|e| e.into_inner()).next();
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for pool in &pools {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((i, job)) = next() {
                    // Cannot fail: the receiver outlives the scope.
                    let _ = sender.send((i, pool.install(job)));
                }
            });
        }
    });
    drop(sender);
    let mut results: Vec<(usize, T)> = results.into_iter().collect();
    results.sort_by_key(|(i, _)| *i);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Runs `work` in a pool of so many threads, which its matrix products and its batches share.
pub(crate) fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    Ok(pool.map_err(no_thread)?.install(work))
}

fn no_thread(error: rayon::ThreadPoolBuildError) -> Error {
    Error::new(ErrorKind::Io(std::io::ErrorKind::Other), format!("no thread: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_jobs() {
        for threads in [1, 2, 3, 50] {
            let job = |i: u64| {
                move || {
                    std::thread::sleep(std::time::Duration::from_millis((7 * i) % 5));
                    (i, rayon::current_num_threads())
                }
            };
            let results = in_parallel(threads, (0..20).map(job).collect()).unwrap();
            assert_eq!(results, (0..20).map(|i| (i, 1)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_jobs_are_no_results_and_no_threads_are_refused() {
        assert!(in_parallel(2, Vec::<fn()>::new()).unwrap().is_empty());
        assert!(in_parallel(0, vec![|| ()]).is_err());
    }
}
