//! How long a run of the suite takes: its cases are counted before it begins, and what is left is told
//! by how long those took that are over.

use std::cell::RefCell;
use std::time::Instant;

use crate::{Case, Settings};

/// Starting and stopping what is measured, and waiting for the disk in between.
const AROUND_A_RUN_S: f64 = 1.0;

/// Who takes part in a case that is set up before they are known: one, and what it is compared with.
const CONTENDERS_GUESSED: usize = 2;

/// By how much the plan may have been wrong: the first cases are few.
const FACTOR: (f64, f64) = (0.5, 4.0);

/// Cases in the order in which they come, and how long each takes.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    /// Behind a `RefCell` since cases are also counted where they are only asked for.
    planned: RefCell<Vec<Planned>>,
    begun: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Planned {
    case: Case,
    seconds: f64,
    is_over: bool,
}

impl Estimate {
    /// A case that is to be measured; each counts once.
    pub(crate) fn count(&self, case: &Case, contenders: Option<usize>, settings: &Settings) {
        let mut planned = self.planned.borrow_mut();
        if planned.iter().all(|one| one.case != *case) {
            let seconds = match contenders {
                Some(contenders) => runs_s(contenders, settings),
                None => guessed_s(&case.scenario, settings),
            };
            planned.push(Planned { case: case.clone(), seconds, is_over: false });
        }
    }

    /// Time runs from here.
    pub(crate) fn begin(&mut self) {
        self.begun = Some(Instant::now());
    }

    pub(crate) fn count_cases(&self) -> usize {
        self.planned.borrow().len()
    }

    /// Those that are to be measured.
    pub(crate) fn cases(&self) -> Vec<Case> {
        self.planned.borrow().iter().map(|one| one.case.clone()).collect()
    }

    /// The how manieth case this is, from 1; 0: it was not counted.
    pub(crate) fn number(&self, case: &Case) -> usize {
        self.planned.borrow().iter().position(|one| one.case == *case).map_or(0, |at| at + 1)
    }

    pub(crate) fn is_over(&self, is_it: impl Fn(&Case) -> bool) {
        for one in self.planned.borrow_mut().iter_mut() {
            one.is_over |= is_it(&one.case);
        }
    }

    /// What is left, in seconds.
    pub(crate) fn left_s(&self) -> f64 {
        let gone_s = self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        self.left_after_s(gone_s)
    }

    fn left_after_s(&self, gone_s: f64) -> f64 {
        let planned = self.planned.borrow();
        let sum = |is_over| {
            let those = planned.iter().filter(|one| one.is_over == is_over);
            those.map(|one| one.seconds).sum::<f64>()
        };
        let (over_s, left_s) = (sum(true), sum(false));
        let factor = if over_s > 0.0 { (gone_s / over_s).clamp(FACTOR.0, FACTOR.1) } else { 1.0 };
        left_s * factor
    }
}

fn runs_s(contenders: usize, settings: &Settings) -> f64 {
    let run_s = (settings.warmup + settings.duration).as_secs_f64() + AROUND_A_RUN_S;
    f64::from(settings.rounds) * contenders as f64 * run_s
}

/// Of a case that is set up before its contenders are known.
fn guessed_s(scenario: &str, settings: &Settings) -> f64 {
    let (rounds, rows) = (f64::from(settings.rounds), settings.rows as f64);
    match scenario {
        "soak" => (settings.warmup + settings.duration).as_secs_f64(),
        // Ten seconds are looked at, and the start.
        "idle" => rounds * (settings.warmup.as_secs_f64() + 11.0),
        // A part of the rows, three or four times, at about half a million a second.
        "pipeline" => rounds * (rows / 1e6 + 10.0),
        // They are loaded once for all questions.
        "query" => runs_s(CONTENDERS_GUESSED, settings) + rows / 2e6,
        _ => runs_s(CONTENDERS_GUESSED, settings),
    }
}

/// `about 40 s`, `about 12 min`, `about 1 h 20 min`
pub(crate) fn about(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("about {seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("about {:.0} min", seconds / 60.0),
        seconds => {
            let minutes = (seconds / 60.0).round() as u64;
            format!("about {} h {} min", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_follows_how_long_the_first_took() {
        let duration = Duration::from_secs(4);
        let settings = Settings { rounds: 3, duration, ..Settings::default() };
        let (one, other) = (Case::new("one", &[]), Case::new("other", &[]));
        let estimate = Estimate::default();
        estimate.count(&one, Some(2), &settings);
        estimate.count(&one, Some(2), &settings);
        estimate.count(&other, None, &settings);
        assert_eq!((estimate.count_cases(), estimate.number(&other)), (2, 2));
        assert_eq!(estimate.left_after_s(5.0), 60.0, "as planned, until one is over");
        estimate.is_over(|case| case == &one);
        assert_eq!(estimate.left_after_s(60.0), 60.0, "twice as long as planned");
        assert_eq!(estimate.left_after_s(0.1), 15.0, "and no miracles");
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let said = [40.4, 720.0, 4800.0, 5401.0].map(about);
        assert_eq!(said, ["about 40 s", "about 12 min", "about 80 min", "about 1 h 30 min"]);
    }
}
