//! Rounds of chaos: real processes, faults drawn from a seed, and the proof that what was
//! acknowledged to a producer is in ClickHouse, each row once.
//!
//! ```text
//!                     proxy              proxy                 proxy
//!  producers 1-3 ──────┼────▶ broker ◀─────┼──── consumers 1-4 ───┼────▶ ClickHouse
//!   └ ledger: what was acknowledged        └──▶ dead letters              │
//!                       └──────────── the same, each once? ◀──────────────┘
//! ```
//!
//! A seed draws sizes, settings and a schedule ([`plan`]): kills of any roles at any time, also
//! while they recover, freezes past a lease, consumers that change places, and connections that are
//! cut, reset, muted or swallowed at a place of their traffic ([`proxy`]). Then all is calm,
//! everything drains, and the [`verdict`] compares ClickHouse and the dead letters with the ledgers,
//! and ClickHouse with itself. In most rounds some rows are unfit for ClickHouse: exactly those have
//! to be dead letters.
//!
//! ```text
//! cargo test -p lanecast --test it chaos::rounds -- --nocapture
//!     LANECAST_CHAOS_ROUNDS=200   so many rounds
//!     LANECAST_CHAOS_SEED=1       the first round's seed; the next has the next
//!     LANECAST_CHAOS_JOBS=2       rounds at a time
//!     LANECAST_CHAOS_KEEP=1       rounds that went well leave their folders, too
//!     LANECAST_CHAOS_PROGRAM=FILE another build of lanecast, such as target/release/lanecast
//! ```
//!
//! A round that fails leaves its folder, which has the logs of all processes and their data.

mod ledger;
mod letters;
pub(crate) mod plan;
pub(crate) mod proxy;
mod round;
mod service;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use plan::Plan;
use round::Outcome;

/// Set: rounds that went well leave their folders too, and say what was done.
const KEEP: &str = "LANECAST_CHAOS_KEEP";

/// Names the build of `lanecast` under test, if it is not the one that was built with the test.
const PROGRAM: &str = "LANECAST_CHAOS_PROGRAM";

const ROUNDS_DEFAULT: u64 = 3;
const JOBS_DEFAULT: u64 = 2;

#[test]
fn rounds() {
    let first = number("LANECAST_CHAOS_SEED", 1);
    let rounds = number("LANECAST_CHAOS_ROUNDS", ROUNDS_DEFAULT);
    let jobs = number("LANECAST_CHAOS_JOBS", JOBS_DEFAULT);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", std::process::id()));
    let next = AtomicU64::new(first);
    let (ended, outcomes) = mpsc::channel();
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (ended, next, folder, handle) = (ended.clone(), &next, &folder, runtime.handle());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + rounds {
                        return;
                    }
                    let folder = folder.join(format!("seed-{seed}"));
                    std::fs::create_dir_all(&folder).unwrap();
                    ended.send(round::run(Plan::draw(seed), &folder, handle)).unwrap();
                }
            });
        }
        drop(ended);
        for outcome in outcomes {
            summary.add(&outcome);
        }
    });
    summary.print();
    assert_eq!(summary.failed, [0; 0], "these seeds failed");
    if std::env::var_os(KEEP).is_none() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[derive(Default)]
struct Summary {
    /// By fault: how often, and in how many rounds.
    faults: BTreeMap<&'static str, (u64, u64)>,
    rounds: u64,
    acknowledged: u64,
    in_doubt: u64,
    lost: u64,
    doubled: u64,
    dead: u64,
    failed: Vec<u64>,
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        let Outcome { plan, verdict, faults, seconds, drain_seconds, folder, diary } = outcome;
        self.rounds += 1;
        self.acknowledged += verdict.acknowledged;
        self.in_doubt += verdict.in_doubt;
        self.lost += verdict.lost;
        self.doubled += verdict.doubled;
        self.dead += verdict.dead;
        for (name, count) in faults {
            let (times, rounds) = self.faults.entry(name).or_default();
            *times += count;
            *rounds += 1;
        }
        let names: Vec<&str> = faults.keys().copied().collect();
        eprintln!(
            "seed {}: {} rows acknowledged, {} more stored, {} lost, {} doubled, {} dead letters, \
             {seconds:.1} s, {drain_seconds:.1} of them to drain: {}",
            plan.seed,
            verdict.acknowledged,
            verdict.in_doubt,
            verdict.lost,
            verdict.doubled,
            verdict.dead,
            names.join(", "),
        );
        if verdict.wrong.is_empty() && std::env::var_os(KEEP).is_none() {
            std::fs::remove_dir_all(folder).unwrap();
            return;
        }
        if verdict.wrong.is_empty() {
            eprintln!("done:\n{diary}logs and data: {}", folder.display());
            return;
        }
        self.failed.push(plan.seed);
        let Plan { steps, .. } = plan;
        let settings = Plan { steps: Vec::new(), ..plan.clone() };
        eprintln!("seed {} FAILED\n{settings:#?}\nplanned:", plan.seed);
        for step in steps {
            eprintln!("{step}");
        }
        eprintln!("done:\n{diary}wrong:");
        for wrong in &verdict.wrong {
            eprintln!("  {wrong}");
        }
        eprintln!("logs and data: {}", folder.display());
    }

    fn print(&self) {
        eprintln!("\n{:<40} {:>6} {:>7}", "fault", "times", "rounds");
        for (name, (times, rounds)) in &self.faults {
            eprintln!("{name:<40} {times:>6} {rounds:>7}");
        }
        eprintln!(
            "{} rounds, {} rows acknowledged, {} more stored that were in doubt, {} lost, {} doubled, \
             {} rows dead-lettered as they had to be, {} rounds failed",
            self.rounds,
            self.acknowledged,
            self.in_doubt,
            self.lost,
            self.doubled,
            self.dead,
            self.failed.len(),
        );
    }
}
