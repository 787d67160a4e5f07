use super::*;
use crate::report::tests::{report, result};
use crate::{Case, Role};

const RATES: [f64; 5] = [1000.0, 1010.0, 990.0, 1020.0, 980.0];

/// A report of one case, in which Lanecast reaches these rates beside a steady ceiling.
fn of_rates(rates: &[f64]) -> Report {
    let systems = vec![
        result("relay", Role::Ceiling, &vec![2000.0; rates.len()]),
        result("lanecast", Role::Lanecast, rates),
    ];
    report(vec![CaseResult { case: Case::new("publish", &[("durability", "memory")]), systems }])
}

fn verdict(all: &Comparison, system: &str, metric: &str) -> Verdict {
    let is_it =
        |change: &&Change| change.system.as_deref() == Some(system) && change.metric == metric;
    all.changes.iter().find(is_it).expect("it is compared").verdict
}

#[test]
fn rounds_of_the_same_distribution_are_within_noise() {
    let again = [1015.0, 985.0, 1005.0, 995.0, 1012.0];
    let all = Comparison::new(&of_rates(&RATES), &of_rates(&again), 0.0);
    assert!(all.count(Verdict::WithinNoise) > 5, "{all:?}");
    assert_eq!(all.count(Verdict::WithinNoise), all.changes.len(), "{all:?}");
    assert!(!all.has_regressed());
}

#[test]
fn a_shift_is_found_in_the_direction_that_the_metric_has() {
    // The made-up rounds take a p99 of as many nanoseconds as records per second, and CPU of 1 over that.
    let faster = RATES.map(|rate| rate * 1.2);
    let all = Comparison::new(&of_rates(&RATES), &of_rates(&faster), 0.05);
    assert_eq!(verdict(&all, "lanecast", "records/s"), Verdict::Better);
    assert_eq!(verdict(&all, "lanecast", "of the ceiling"), Verdict::Better);
    assert_eq!(verdict(&all, "lanecast", "p99 ns"), Verdict::Worse);
    assert_eq!(verdict(&all, "lanecast", "CPU ns/record"), Verdict::Better);
    assert_eq!(verdict(&all, "relay", "records/s"), Verdict::WithinNoise);
    assert!(all.has_regressed(), "by its p99");
    let change = &all
        .changes
        .iter()
        .find(|change| change.metric == "p99 ns" && change.role == Some(Role::Lanecast));
    let change = change.expect("it is compared");
    assert!((change.ratio - 1.2).abs() < 1e-9 && change.rounds == (5, 5), "{change:?}");
}

#[test]
fn small_changes_are_noise_however_sure() {
    let slower = RATES.map(|rate| rate * 0.95);
    let sure = Comparison::new(&of_rates(&RATES), &of_rates(&slower), 0.0);
    assert_eq!(verdict(&sure, "lanecast", "records/s"), Verdict::Worse);
    let all = Comparison::new(&of_rates(&RATES), &of_rates(&slower), 0.06);
    assert_eq!(verdict(&all, "lanecast", "records/s"), Verdict::WithinNoise);
}

#[test]
fn few_rounds_tell_nothing() {
    let faster = RATES.map(|rate| rate * 3.0);
    let all = Comparison::new(&of_rates(&RATES), &of_rates(&faster[..3]), 0.05);
    assert_eq!(all.count(Verdict::TooFewRounds), all.changes.len());
    assert!(!all.has_regressed());
    let text = all.text(true);
    assert!(text.contains("too few rounds to tell") && text.contains("five rounds"), "{text}");
}

#[test]
fn a_slower_peer_is_no_regression() {
    let with_peer = |rates: &[f64]| {
        let mut one = of_rates(&RATES);
        one.cases[0].systems.push(result("redis", Role::Peer, rates));
        one
    };
    let slower = RATES.map(|rate| rate / 2.0);
    let all = Comparison::new(&with_peer(&RATES), &with_peer(&slower), 0.05);
    assert_eq!(verdict(&all, "redis", "records/s"), Verdict::Worse);
    assert!(!all.has_regressed());
}

#[test]
fn goals_are_better_on_their_side_of_the_bound() {
    use crate::report::{Bound, Goal};
    let with_goal = |values: [f64; 5]| {
        let mut one = of_rates(&RATES);
        let goal =
            |what: &str, bound| Goal { what: what.to_owned(), bound, values: values.to_vec() };
        one.goals = vec![goal("rate", Bound::AtLeast(0.9)), goal("lateness", Bound::AtMost(2.0))];
        one
    };
    let (before, after) = ([1.0, 1.01, 1.02, 1.03, 1.04], [1.5, 1.51, 1.52, 1.53, 1.54]);
    let all = Comparison::new(&with_goal(before), &with_goal(after), 0.05);
    let of = |what: &str| all.changes.iter().find(|change| change.what == what).unwrap().verdict;
    assert_eq!((of("rate"), of("lateness")), (Verdict::Better, Verdict::Worse));
    assert!(all.has_regressed());
}

#[test]
fn what_only_one_side_has_is_listed() {
    let mut before = of_rates(&RATES);
    let mut after = of_rates(&RATES);
    let case = |name| CaseResult { case: Case::new(name, &[]), systems: Vec::new() };
    before.cases.push(case("queue"));
    after.cases.push(case("fan-out"));
    after.cases[0].systems.push(result("redis", Role::Peer, &RATES));
    before.cases[0].systems.push(result("nats", Role::Peer, &RATES));
    let failed =
        SystemResult { failure: Some("it died".to_owned()), ..result("nats", Role::Peer, &[]) };
    after.cases[0].systems.push(failed);
    let all = Comparison::new(&before, &after, 0.05);
    assert_eq!(all.only_before, ["publish: memory: nats (the other side: it died)", "queue"]);
    assert_eq!(all.only_after, ["publish: memory: redis", "fan-out"]);
    let text = all.text(false);
    assert!(text.contains("only before:\n  publish: memory: nats"), "{text}");
}

#[test]
fn different_machines_are_warned_of() {
    let before = of_rates(&RATES);
    let mut after = before.clone();
    assert!(Comparison::new(&before, &after, 0.05).warnings.is_empty());
    after.machine.cores = 16;
    after.machine.memory_bytes = 64 << 30;
    after.format = 2;
    let all = Comparison::new(&before, &after, 0.05);
    assert_eq!(all.warnings.len(), 3, "{:?}", all.warnings);
    assert!(all.text(false).contains("warning: numbers of cores differ: 0 before, 16 after"));
}

#[test]
fn the_table_shows_changes_and_with_all_everything() {
    let slower = RATES.map(|rate| rate / 2.0);
    let all = Comparison::new(&of_rates(&RATES), &of_rates(&slower), 0.05);
    let short = all.text(false);
    assert!(short.contains("WORSE") && short.contains("lanecast"), "{short}");
    assert!(!short.contains("relay"), "{short}");
    assert!(all.text(true).contains("relay"));
}
