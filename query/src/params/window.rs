//! The window of time that a question is about.

use super::ParameterError;
use super::time::{Nanoseconds, TimeExpression};

/// A closed interval of milliseconds, both ends included; a missing end is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub start_ms: Option<i64>,
    pub end_ms: Option<i64>,
}

/// The ends of a window as they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub start: Option<Nanoseconds>,
    pub end: Option<Nanoseconds>,
}

impl Ends {
    /// From `start_time`, `end_time` and `window`, as far as they are given: two of them say all,
    /// `window` alone ends now.
    ///
    /// # Errors
    /// All three are given, or the window would end before it starts.
    pub(crate) fn resolve(
        start: Option<TimeExpression>,
        end: Option<TimeExpression>,
        span_ns: Option<i128>,
        now: Nanoseconds,
    ) -> Result<Self, ParameterError> {
        let start = start.map(|time| time.at(now));
        let end = end.map(|time| time.at(now));
        let (start, end) = match (start, end, span_ns) {
            (Some(_), Some(_), Some(_)) => {
                return Err(ParameterError::new(
                    "window",
                    "says too much beside both start_time and end_time; leave one of the three out",
                ));
            }
            (None, None, Some(span)) => (Some(Nanoseconds(now.0 - span)), Some(now)),
            (None, Some(end), Some(span)) => (Some(Nanoseconds(end.0 - span)), Some(end)),
            (Some(start), None, Some(span)) => (Some(start), Some(Nanoseconds(start.0 + span))),
            (start, end, None) => (start, end),
        };
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            return Err(ParameterError::new("start_time", "is after end_time"));
        }
        Ok(Self { start, end })
    }

    /// With both of them.
    pub(crate) fn closed(self) -> Window {
        Window {
            start_ms: self.start.map(Nanoseconds::ceil_ms),
            end_ms: self.end.map(Nanoseconds::floor_ms),
        }
    }
}

impl Window {
    /// Did the window end so long ago that nothing is expected to be added to it?
    pub(crate) fn is_closed(self, now: Nanoseconds, slack: std::time::Duration) -> bool {
        let slack_ms = i64::try_from(slack.as_millis()).unwrap_or(i64::MAX);
        self.end_ms.is_some_and(|end| end < now.floor_ms().saturating_sub(slack_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Nanoseconds = Nanoseconds(1_752_871_354_000 * 1_000_000);
    const NOW_MS: i64 = 1_752_871_354_000;
    const MINUTE_NS: i128 = 60_000_000_000;

    fn time(text: &str) -> Option<TimeExpression> {
        Some(TimeExpression::parse(text).unwrap())
    }

    fn resolve(
        start: Option<&str>,
        end: Option<&str>,
        span: Option<i128>,
    ) -> Result<(Option<i64>, Option<i64>), ParameterError> {
        Ends::resolve(start.and_then(time), end.and_then(time), span, NOW)
            .map(Ends::closed)
            .map(|window| (window.start_ms, window.end_ms))
    }

    #[test]
    fn any_two_of_start_end_and_window_say_all() {
        let minute = Some(MINUTE_NS);
        assert_eq!(resolve(None, None, None), Ok((None, None)));
        assert_eq!(resolve(None, None, minute), Ok((Some(NOW_MS - 60_000), Some(NOW_MS))));
        assert_eq!(resolve(None, Some("100"), minute), Ok((Some(40_000), Some(100_000))));
        assert_eq!(resolve(Some("100"), None, minute), Ok((Some(100_000), Some(160_000))));
        assert_eq!(resolve(Some("-1m"), None, None), Ok((Some(NOW_MS - 60_000), None)));
        assert_eq!(resolve(Some("1"), Some("2"), minute).unwrap_err().param, "window");
    }

    #[test]
    fn start_may_equal_end_but_not_follow_it() {
        assert_eq!(resolve(Some("5"), Some("5"), None), Ok((Some(5_000), Some(5_000))));
        assert_eq!(resolve(Some("6"), Some("5"), None).unwrap_err().param, "start_time");
    }

    #[test]
    fn only_a_window_that_ended_before_the_slack_is_closed() {
        let slack = Duration::from_secs(60);
        let window = |end_ms| Window { start_ms: None, end_ms };
        assert!(!window(None).is_closed(NOW, slack));
        assert!(!window(Some(NOW_MS)).is_closed(NOW, slack));
        assert!(!window(Some(NOW_MS - 60_000)).is_closed(NOW, slack));
        assert!(window(Some(NOW_MS - 60_001)).is_closed(NOW, slack));
    }
}
