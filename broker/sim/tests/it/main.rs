//! Many seeds, and the ones that once found something.
//!
//! `LANECAST_SIM_SEEDS=n` runs n seeds instead of the usual number, from `LANECAST_SIM_FIRST` on;
//! `LANECAST_SIM_SEED=s` runs that seed alone, and `LANECAST_SIM_TRACE=1` makes it tell everything
//! that happens. Ten thousand seeds, optimised and with every check on, in a few minutes:
//!
//! ```sh
//! LANECAST_SIM_SEEDS=10000 cargo test --profile sim -p lanecast-sim --test it
//! ```

use std::io::Write;
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
    let first = number("LANECAST_SIM_FIRST").unwrap_or(0);
    let next = AtomicU64::new(first);
    let total = Mutex::new(Report::default());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || failed.lock().unwrap().len() >= FAILURES_MAX {
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
    // Past the capture of the test's output: how much was tried belongs into every log.
    let total = total.into_inner().unwrap();
    writeln!(std::io::stderr(), "\nsimulated {seeds} seeds: {total:#?}").unwrap();
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

#[test]
fn one_seed_is_one_run_in_another_process() {
    for seed in [3, 77, 1_024] {
        let here = format!("seed {seed}: {:?}", lanecast_sim::run(seed));
        let there = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "seeds_keep_every_promise", "--nocapture"])
            .env("LANECAST_SIM_SEED", seed.to_string())
            .output()
            .unwrap();
        let there = String::from_utf8_lossy(&there.stdout);
        assert!(there.contains(&here), "here {here}, there {there}");
    }
}

/// Seeds that once found something, with what it was: add a line, and the seed is a test. What a
/// seed does changes with the scenarios, so the tests of the broker's core pin the same where a test
/// can say it.
const FOUND: [(u64, &str); 14] = [
    (1, "a topic was announced that was only half read from the catalog"),
    (1986, "a log went on in a new segment, and nobody flushed the end of the old one"),
    (1290, "a member was refused for good by a shard that had not opened the partition yet"),
    (2289, "the same, of a reader"),
    (522, "a batch that retention had taken was appended again after a restart"),
    (2574, "the same, of the batch behind it"),
    (2303, "a shard whose log was closed woke again and again for a filtered subscription"),
    (1066, "a group that was read again from its log forgot what it had counted"),
    (327, "a torn mark was reported as damage of a log that had lost nothing"),
    (9631, "dead letters held the memory that their topic's log needed to come back"),
    (4663, "a group was moved to where a request before the last one had asked for"),
    (4958, "a block that one attempt read wrong counted as lost with the damaged one before it"),
    (7952, "a connection went to a shard that had not heard of its topic, which then was none"),
    (5905, "a power cut kept the mark of a new life, and not what was taken for durable by it"),
];

#[test]
fn what_was_found_stays_mended() {
    for (seed, what) in FOUND {
        println!("seed {seed}: {what}");
        let _report = lanecast_sim::run(seed);
    }
}
