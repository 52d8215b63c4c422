//! Work on several groups at once, whatever tensors they belong to.

use crate::Result;
use std::sync::Mutex;

/// Does all jobs, side by side where there are several workers, and returns what became of each, in
/// order; the first error in that order is that of the whole. A worker takes the next job when it has
/// done its last one, so that jobs need not be equally long.
pub(crate) fn in_parallel<J: Send, W: Send, R: Send>(
    workers: &mut [W],
    jobs: Vec<J>,
    work: impl Fn(&mut W, J) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let n = jobs.len();
    let helpers = workers.len().min(n);
    let Some((first, others)) = workers[..helpers].split_first_mut() else { return Ok(Vec::new()) };
    if others.is_empty() {
        return jobs.into_iter().map(|job| work(first, job)).collect();
    }
    let queue = Mutex::new(jobs.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let take_turns = |worker: &mut W| -> Vec<(usize, Result<R>)> {
        std::iter::from_fn(next).map(|(i, job)| (i, work(worker, job))).collect()
    };
    let mut done: Vec<(usize, Result<R>)> = std::thread::scope(|scope| {
        let helpers: Vec<_> = others
            .iter_mut()
            .map(|worker| std::thread::Builder::new().spawn_scoped(scope, || take_turns(worker)))
            .collect();
        let mut done = take_turns(first);
        for helper in helpers {
            // One that cannot be started leaves its share to the others. A panic, which would be a
            // bug here, goes on in the caller.
            let Ok(helper) = helper else { continue };
            match helper.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn results_come_in_order_and_so_does_the_first_error() {
        for workers in 1..5 {
            let mut workers = vec![0u64; workers];
            for n in [0, 1, 2, 50] {
                let jobs: Vec<usize> = (0..n).collect();
                let square = |count: &mut u64, i: usize| {
                    *count += 1;
                    Ok(i * i)
                };
                let squares = in_parallel(&mut workers, jobs, square).unwrap();
                assert!(squares.into_iter().eq((0..n).map(|i| i * i)));
            }
            assert_eq!(workers.iter().sum::<u64>(), 53);
            let fail = |_: &mut u64, i: usize| match i {
                7 | 9 => Err(Error::invalid(format!("job {i}"))),
                _ => Ok(()),
            };
            let error = in_parallel(&mut workers, (0..20).collect(), fail).unwrap_err();
            assert!(error.to_string().contains("job 7"), "{error}");
        }
    }
}
