//! Planted bugs, each of which some seeds have to catch.
//!
//! ```sh
//! RUSTFLAGS="--cfg lanecast_mutants" cargo test --profile sim --target-dir target/mutants \
//!     -p lanecast-sim --test mutants
//! ```
//!
//! Without that flag no bug can be planted, and this file is empty. `LANECAST_SIM_MUTANT=name` tries
//! that one alone, `LANECAST_SIM_SEEDS=n` limits the seeds of each.
#![cfg(lanecast_mutants)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lanecast_core::mutants::{Mutant, plant};

/// A bug is given up as not caught after this many seeds ...
const SEEDS_MAX: u64 = 3_000;
/// ... and enough is known of it once this many were tried, and this many caught it.
const SEEDS_MIN: u64 = 60;
const CAUGHT_MIN: u64 = 3;

thread_local! {
    /// What the last panic of this thread said, and where.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

#[derive(Debug, Default)]
struct Tried {
    seeds: u64,
    caught: u64,
    /// By seed: what complained first.
    words: BTreeMap<u64, String>,
}

#[test]
fn every_planted_bug_is_caught() {
    let only = std::env::var("LANECAST_SIM_MUTANT").ok();
    let most = std::env::var("LANECAST_SIM_SEEDS").ok();
    let most = most.map_or(SEEDS_MAX, |text| text.parse().unwrap());
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| {
            let file = at.file().rsplit('/').next().unwrap_or_default();
            format!("{file}:{}", at.line())
        });
        let text = panic.payload_as_str().unwrap_or("a panic without words");
        LAST.set(format!("{place} {}", text.replace('\n', " ")));
    }));
    let line = |text: &str| writeln!(std::io::stderr(), "{text}").unwrap();
    line(&format!(
        "\n{:<24}{:>6}{:>8}{:>8}  {:<6}complaint",
        "mutant", "seeds", "caught", "share", "first"
    ));
    let (mut missed, mut seeds) = (Vec::new(), 0);
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let tried = hunt(mutant, most);
        let share = 100.0 * tried.caught as f64 / tried.seeds as f64;
        let (first, words) = tried.words.first_key_value().map_or_else(
            || ("-".to_owned(), "NOT CAUGHT".to_owned()),
            |(seed, words)| (seed.to_string(), words.chars().take(110).collect()),
        );
        line(&format!(
            "{name:<24}{:>6}{:>8}{share:>7.1}%  {first:<6}{words}",
            tried.seeds, tried.caught
        ));
        seeds += tried.seeds;
        if tried.caught == 0 {
            missed.push(mutant);
        }
    }
    line(&format!("{seeds} seeds with a planted bug"));
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

/// Seeds from 0 on, over all cores, until enough is known.
fn hunt(mutant: Mutant, most: u64) -> Tried {
    let next = AtomicU64::new(0);
    let tried = Mutex::new(Tried::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    {
                        let tried = tried.lock().unwrap();
                        let known = tried.seeds >= SEEDS_MIN && tried.caught >= CAUGHT_MIN;
                        if seed >= most || known {
                            return;
                        }
                    }
                    plant(Some(mutant));
                    let ran = catch_unwind(AssertUnwindSafe(|| lanecast_sim::run(seed)));
                    plant(None);
                    let mut tried = tried.lock().unwrap();
                    tried.seeds += 1;
                    if ran.is_err() {
                        tried.caught += 1;
                        tried.words.insert(seed, LAST.take());
                    }
                }
            });
        }
    });
    tried.into_inner().unwrap()
}
