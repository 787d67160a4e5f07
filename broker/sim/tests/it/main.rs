//! Many seeds, and the ones that once found something.
//!
//! `LANECAST_SIM_SEEDS=n` runs the first n seeds instead of the usual number, `LANECAST_SIM_SEED=s`
//! runs that seed alone, and `LANECAST_SIM_TRACE=1` makes it tell everything that happens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lanecast_sim::Report;

const SEEDS: u64 = 2_000;
/// Failing seeds after which the rest is not tried.
const FAILURES_MAX: usize = 20;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn seeds_keep_every_promise() {
    if let Some(seed) = number("LANECAST_SIM_SEED") {
        println!("seed {seed}: {:?}", lanecast_sim::run(seed));
        return;
    }
    let seeds = number("LANECAST_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let total = Mutex::new(Report::default());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().unwrap().len() >= FAILURES_MAX {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| lanecast_sim::run(seed))) {
                        Ok(report) => *total.lock().unwrap() += &report,
                        Err(_) => {
                            eprintln!(
                                "replay: LANECAST_SIM_SEED={seed} cargo test -p lanecast-sim"
                            );
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    println!("{seeds} seeds: {:?}", total.into_inner().unwrap());
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    assert!(failed.is_empty(), "seeds {failed:?} failed; the words are above");
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        assert_eq!(lanecast_sim::run(seed), lanecast_sim::run(seed), "seed {seed}");
    }
}

/// Seeds that once found something, with what it was.
const FOUND: [(u64, &str); 5] = [
    (0, "a topic was announced that was only half read from the catalog"),
    (1132, "a log went on in a new segment, and nobody flushed the end of the old one"),
    (1286, "the same, of a group log"),
    (1378, "the same, after a failed flush"),
    (1986, "the same, with two crashes"),
];

#[test]
fn what_was_found_stays_mended() {
    for (seed, what) in FOUND {
        println!("seed {seed}: {what}");
        let _report = lanecast_sim::run(seed);
    }
}
