//! Which time a sample gets: the rule of re-stamping.

use serde::{Deserialize, Serialize};

/// What becomes of the source's timestamps. The source's own time is kept beside in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// A sample's time is when it is processed.
    #[default]
    Now,
    /// A sample's time is the source's.
    Original,
    /// The source's spacing is kept and moved so that the first sample of each pass is now.
    Shift,
}

/// Applies the rule, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Stamper {
    rule: Timestamps,
    /// With `Shift`: what to add to the source's time, known from the first sample on.
    shift_ms: Option<i64>,
}

impl Stamper {
    pub(crate) fn new(rule: Timestamps) -> Self {
        Stamper { rule, shift_ms: None }
    }

    pub(crate) fn needs_source_time(&self) -> bool {
        match self.rule {
            Timestamps::Now => false,
            Timestamps::Original | Timestamps::Shift => true,
        }
    }

    /// A new pass over the same input begins.
    pub(crate) fn rewind(&mut self) {
        self.shift_ms = None;
    }

    pub(crate) fn stamp(&mut self, source_ts_ms: i64, now_ms: i64) -> i64 {
        match self.rule {
            Timestamps::Now => now_ms,
            Timestamps::Original => source_ts_ms,
            Timestamps::Shift => {
                let shift_ms =
                    *self.shift_ms.get_or_insert_with(|| now_ms.saturating_sub(source_ts_ms));
                source_ts_ms.saturating_add(shift_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_stamps_as_it_says() {
        let stamps = |rule| {
            let mut stamper = Stamper::new(rule);
            let first = [stamper.stamp(100, 5000), stamper.stamp(90, 5001)];
            stamper.rewind();
            [first[0], first[1], stamper.stamp(100, 7000)]
        };
        assert_eq!(stamps(Timestamps::Now), [5000, 5001, 7000]);
        assert_eq!(stamps(Timestamps::Original), [100, 90, 100]);
        assert_eq!(stamps(Timestamps::Shift), [5000, 4990, 7000]);
    }
}
