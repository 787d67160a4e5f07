//! One case: every contender in turn, round by round.

use crate::bench::words;
use crate::estimate::about;
use crate::format::{duration_ns, rate};
use crate::report::{CaseResult, Round, SystemResult};
use crate::{Bench, Case, Contender, Error, Latencies, Role};

impl Bench<'_> {
    /// Runs every contender once per round, one after the other, and keeps what they did. A ceiling
    /// or Lanecast itself must not fail; a peer that does is reported as failed. A case that is not
    /// wanted has a result without systems.
    ///
    /// # Errors
    /// What failed first.
    pub fn compete(
        &mut self,
        case: Case,
        mut contenders: Vec<Contender<'_>>,
    ) -> Result<&CaseResult, Error> {
        if self.is_counting && self.is_wanted(&case) {
            self.estimate.count(&case, Some(contenders.len()), &self.settings);
        }
        if self.is_counting || !self.is_wanted(&case) {
            return Ok(&self.skipped);
        }
        let name = case.name();
        self.announce(&case);
        let mut all = vec![Latencies::default(); contenders.len()];
        let mut systems: Vec<SystemResult> = contenders.iter().map(nothing_yet).collect();
        let mut over = Ok(());
        'rounds: for round in 1..=self.settings.rounds {
            let each = contenders.iter_mut().zip(&mut systems).zip(&mut all);
            for ((contender, result), latencies) in each {
                if result.failure.is_some() {
                    continue;
                }
                // What the one before has left to be written is not for this one to wait for.
                rustix::fs::sync();
                let ran = (contender.run)();
                if let Some(signal) = self.settings.cut.signal() {
                    // Systems get the signals of a terminal, too: what this run says is not its fault.
                    over = Err(Error::Cut { signal });
                    break 'rounds;
                }
                let line = match ran {
                    Ok(sample) => {
                        let of_round = Round::new(&sample);
                        latencies.add(&sample.latencies);
                        let line = describe(&of_round);
                        result.rounds.push(of_round);
                        line
                    }
                    Err(error) if contender.role == Role::Peer => {
                        let words = words(&error);
                        result.failure = Some(words.clone());
                        words
                    }
                    Err(error) => return Err(error),
                };
                let (system, rounds) = (&contender.system, self.settings.rounds);
                self.say(&format!("{name} [{round}/{rounds}] {system}: {line}"));
            }
        }
        for (result, latencies) in systems.iter_mut().zip(&all) {
            result.set_curve(latencies);
        }
        let is_measured = systems.iter().any(|result| !result.rounds.is_empty());
        if over.is_ok() || is_measured {
            self.keep(CaseResult { case, systems });
        }
        over?;
        Ok(self.report.cases.last().unwrap_or(&self.skipped))
    }

    /// Which case comes, and how much is left.
    fn announce(&mut self, case: &Case) {
        let (number, cases) = (self.estimate.number(case), self.estimate.count_cases());
        if number > 0 {
            let left = about(self.estimate.left_s());
            self.say(&format!("case {number} of {cases}, {left} left: {}", case.name()));
        }
    }
}

fn nothing_yet(contender: &Contender<'_>) -> SystemResult {
    SystemResult {
        system: contender.system.clone(),
        role: contender.role,
        acknowledges: contender.acknowledges.clone(),
        rounds: Vec::new(),
        curve: Vec::new(),
        memory: Vec::new(),
        failure: None,
    }
}

fn describe(round: &Round) -> String {
    let megabytes = round.bytes_per_second / 1e6;
    let records = rate(round.records_per_second);
    if round.p50_ns == 0 {
        return format!("{records} records/s, {megabytes:.1} MB/s");
    }
    let (p50, p99) = (duration_ns(round.p50_ns as f64), duration_ns(round.p99_ns as f64));
    format!("{records} records/s, {megabytes:.1} MB/s, p50 {p50}, p99 {p99}")
}
