//! Goals: ratios that have to hold, and whether they do.

use serde::{Deserialize, Serialize};

use super::median;

/// On which side of its bound a ratio has to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(out, "at least {bound}"),
            Self::AtMost(bound) => write!(out, "at most {bound}"),
        }
    }
}

/// One goal with its measured values, one per round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// What is compared with what, in words.
    pub what: String,
    pub bound: Bound,
    pub values: Vec<f64>,
}

impl Goal {
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    /// Smallest and largest value.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let smallest = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (smallest, largest)
    }

    /// Does the median keep the bound? Never without values.
    #[must_use]
    pub fn is_met(&self) -> bool {
        !self.values.is_empty() && self.bound.holds(self.median())
    }

    /// `met`, `missed` or `not measured`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.values.is_empty(), self.is_met()) {
            (true, _) => "not measured",
            (false, true) => "met",
            (false, false) => "missed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_by_its_median_and_never_by_nothing() {
        let goal = |bound, values: &[f64]| Goal {
            what: "one over other".to_owned(),
            bound,
            values: values.to_vec(),
        };
        assert!(goal(Bound::AtLeast(0.95), &[0.5, 0.96, 0.97]).is_met());
        assert!(!goal(Bound::AtLeast(0.95), &[0.99, 0.94, 0.93]).is_met());
        assert!(goal(Bound::AtMost(2.0), &[1.9, 9.0, 1.0]).is_met());
        assert!(!goal(Bound::AtMost(2.0), &[]).is_met());
        assert_eq!(goal(Bound::AtMost(2.0), &[1.9, 9.0, 1.0]).spread(), (1.0, 9.0));
    }
}
