//! Several load generators at once, each a thread with connections of its own: for systems that take more
//! than one thread can give.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::{Fleet, Load, Plan, run};
use crate::{Error, Sample, cpu};

/// Runs `plan` over all fleets, each on a thread; an open loop's rate is that of all together. The threads
/// share `cores`, one after the other.
///
/// # Errors
/// As [`run`], for the first fleet that fails.
pub fn run_together(
    plan: &Plan,
    fleets: Vec<Fleet>,
    cores: &[usize],
    cpu: &(dyn Fn() -> Vec<(String, Duration)> + Sync),
) -> Result<Sample, Error> {
    let members = fleets.len();
    let load = match plan.load {
        Load::Closed { .. } => plan.load,
        Load::Open { batches_per_second } => {
            Load::Open { batches_per_second: batches_per_second / members.max(1) as f64 }
        }
    };
    let plan = Plan { load, ..*plan };
    let start_line = Barrier::new(members);
    let samples: Vec<Result<Sample, Error>> = thread::scope(|scope| {
        let member = |(number, fleet): (usize, Fleet)| {
            let (plan, start_line) = (&plan, &start_line);
            scope.spawn(move || {
                cpu::stay_on(&[cores[number % cores.len()]]);
                start_line.wait();
                // What the system uses is asked by one of them.
                let nothing = || Vec::new();
                run(plan, fleet, if number == 0 { cpu } else { &nothing })
            })
        };
        let threads: Vec<_> = fleets.into_iter().enumerate().map(member).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(sample) => sample,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(ended).collect()
    });
    let mut all = Sample::default();
    for sample in samples {
        add(&mut all, sample?);
    }
    Ok(all)
}

fn add(all: &mut Sample, one: Sample) {
    all.records += one.records;
    all.bytes += one.bytes;
    all.elapsed = all.elapsed.max(one.elapsed);
    all.latencies.add(&one.latencies);
    for (stage, time) in one.cpu {
        match all.cpu.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, sum)) => *sum += time,
            None => all.cpu.push((stage, time)),
        }
    }
}
