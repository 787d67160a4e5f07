//! An open-loop schedule: when each sample is due, whether or not the earlier ones were taken.

use crate::limits;
use crate::source::SourceError;

/// Counts what was sent against what is due. Pure arithmetic: the clock is the caller's.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    /// Samples per second; none is flat out.
    rate: Option<f64>,
    sent: u64,
}

impl Pacer {
    pub(crate) fn new(rate: Option<f64>) -> Result<Self, SourceError> {
        if let Some(rate) = rate
            && !(rate.is_finite() && rate > 0.0)
        {
            let reason = format!("{rate} rows a second: it must be above 0");
            return Err(SourceError::Setting { setting: "rate", reason });
        }
        Ok(Pacer { rate, sent: 0 })
    }

    /// Samples that may be sent now, and at most one burst. Sample `n` is due `n / rate` seconds
    /// after the start, so one who was held up catches up.
    pub(crate) fn budget(&self, elapsed_us: u64) -> u64 {
        let Some(rate) = self.rate else { return limits::BURST_SAMPLES_MAX };
        let due = ((elapsed_us as f64 * rate / 1e6) as u64).saturating_add(1);
        due.saturating_sub(self.sent).min(limits::BURST_SAMPLES_MAX)
    }

    /// When the next sample is due, after the start.
    pub(crate) fn next_due_us(&self) -> u64 {
        self.rate.map_or(0, |rate| (self.sent as f64 * 1e6 / rate).ceil() as u64)
    }

    pub(crate) fn count(&mut self, sent: u64) {
        self.sent += sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_due_at_the_rate_and_late_ones_are_caught_up() {
        let mut pacer = Pacer::new(Some(100.0)).unwrap();
        assert_eq!(pacer.budget(0), 1);
        pacer.count(1);
        assert_eq!((pacer.budget(9_999), pacer.next_due_us()), (0, 10_000));
        assert_eq!(pacer.budget(10_000), 1);
        assert_eq!(pacer.budget(1_000_000), 100);
        assert_eq!(pacer.budget(3_600_000_000), limits::BURST_SAMPLES_MAX);
        pacer.count(100);
        assert_eq!(pacer.budget(1_000_000), 0);
    }

    #[test]
    fn no_rate_is_too_high() {
        for rate in [1e20, f64::MAX] {
            let pacer = Pacer::new(Some(rate)).unwrap();
            assert_eq!(pacer.budget(60_000_000), limits::BURST_SAMPLES_MAX);
        }
    }

    #[test]
    fn any_rate_sends_exactly_what_is_due_and_never_waits_in_vain() {
        for rate in [0.5, 3.0, 7777.0, 1_234_567.0] {
            let mut pacer = Pacer::new(Some(rate)).unwrap();
            let mut now_us = 0;
            while now_us < 2_000_000 {
                let budget = pacer.budget(now_us);
                if budget == 0 {
                    assert!(pacer.next_due_us() > now_us, "{rate}");
                    now_us = pacer.next_due_us();
                    continue;
                }
                pacer.count(budget);
            }
            let expected = (2.0 * rate) as u64;
            assert!(pacer.sent.abs_diff(expected) <= 1, "{rate}: {} of {expected}", pacer.sent);
        }
    }

    #[test]
    fn without_a_rate_there_is_always_a_burst_and_senseless_rates_are_refused() {
        let mut pacer = Pacer::new(None).unwrap();
        pacer.count(1 << 40);
        assert_eq!((pacer.budget(0), pacer.next_due_us()), (limits::BURST_SAMPLES_MAX, 0));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pacer::new(Some(rate)).is_err());
        }
    }
}
