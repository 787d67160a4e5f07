//! How a window is cut into buckets.

use lanecast_store::read::Grid;

use super::{Arguments, ParameterError, table};
use crate::limits;

/// The width of buckets, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Milliseconds.
    Fixed(i64),
    /// The finest of the usual widths that gives so many buckets at most.
    Points(u32),
}

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Widths that a person would choose. None is finer than what exporters are asked for, and from a
/// minute on each is made of roll-up rows.
const USUAL_MS: [i64; 19] = [
    SECOND_MS,
    2 * SECOND_MS,
    5 * SECOND_MS,
    10 * SECOND_MS,
    15 * SECOND_MS,
    30 * SECOND_MS,
    MINUTE_MS,
    2 * MINUTE_MS,
    5 * MINUTE_MS,
    10 * MINUTE_MS,
    15 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    4 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
];

impl Step {
    /// # Errors
    /// Both are given.
    pub(crate) fn read(arguments: &Arguments) -> Result<Self, ParameterError> {
        match (arguments.span(&table::STEP), arguments.whole(&table::MAX_POINTS)) {
            (Some(_), Some(_)) => {
                let reason = "says too much beside step; leave one of the two out";
                Err(ParameterError::new("max_points", reason))
            }
            (Some(step_ns), None) => {
                let ms = i64::try_from(step_ns / 1_000_000).expect("a span is a hundred years");
                Ok(Self::Fixed(ms))
            }
            (None, points) => {
                let points = points.unwrap_or(limits::POINTS_DEFAULT);
                Ok(Self::Points(u32::try_from(points).expect("bounded by its declaration")))
            }
        }
    }

    /// The buckets that the window from `start_ms` to before `end_ms` touches, whole.
    ///
    /// # Errors
    /// They would be too many.
    pub(crate) fn cut(self, start_ms: i64, end_ms: i64) -> Result<Grid, ParameterError> {
        match self {
            Self::Fixed(step_ms) => {
                let points = points(start_ms, end_ms, step_ms);
                let allowed = u32::try_from(points)
                    .ok()
                    .filter(|points| u64::from(*points) <= limits::POINTS_MAX);
                let points = allowed.ok_or_else(|| {
                    let reason = format!(
                        "cuts the window into {points} points; at most {} are answered",
                        limits::POINTS_MAX
                    );
                    ParameterError::new("step", reason)
                })?;
                Ok(grid(start_ms, step_ms, points))
            }
            Self::Points(points_max) => {
                let days = std::iter::successors(Some(2 * DAY_MS), |step_ms| Some(2 * step_ms));
                for step_ms in USUAL_MS.into_iter().chain(days.take(limits::DOUBLINGS_MAX)) {
                    let points = points(start_ms, end_ms, step_ms);
                    if let Ok(points) = u32::try_from(points)
                        && points <= points_max
                    {
                        return Ok(grid(start_ms, step_ms, points));
                    }
                }
                unreachable!("the longest step cuts all of time into two");
            }
        }
    }
}

fn grid(start_ms: i64, step_ms: i64, points: u32) -> Grid {
    Grid { first_ms: start_ms.div_euclid(step_ms) * step_ms, step_ms, points }
}

/// None where the window is empty.
fn points(start_ms: i64, end_ms: i64, step_ms: i64) -> i64 {
    if end_ms <= start_ms {
        return 0;
    }
    (end_ms - 1).div_euclid(step_ms) - start_ms.div_euclid(step_ms) + 1
}

/// A duration as a parameter takes it: `1h30m`.
pub(crate) fn written(ms: i64) -> String {
    let units = [(DAY_MS, "d"), (HOUR_MS, "h"), (MINUTE_MS, "m"), (SECOND_MS, "s"), (1, "ms")];
    let mut text = String::new();
    let mut rest = ms;
    for (unit_ms, name) in units {
        if rest >= unit_ms {
            text.push_str(&format!("{}{name}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::time::{STORED_MS, parse_span};
    use proptest::prelude::*;

    fn cut(step: Step, start_ms: i64, end_ms: i64) -> (i64, i64, u32) {
        let grid = step.cut(start_ms, end_ms).unwrap();
        (grid.first_ms, grid.step_ms, grid.points)
    }

    #[test]
    fn buckets_are_aligned_and_those_that_the_window_touches() {
        let ten = Step::Fixed(10);
        assert_eq!(cut(ten, 20, 40), (20, 10, 2));
        assert_eq!(cut(ten, 29, 41), (20, 10, 3));
        assert_eq!(cut(ten, 39, 40), (30, 10, 1));
        assert_eq!(cut(ten, 40, 40), (40, 10, 0));
        assert_eq!(cut(ten, 50, 40), (50, 10, 0));
        assert_eq!(cut(ten, -1, 1), (-10, 10, 2));
    }

    #[test]
    fn the_finest_usual_step_within_the_points_is_taken() {
        let hour = |points| cut(Step::Points(points), 0, HOUR_MS).1;
        assert_eq!(hour(10_000), SECOND_MS);
        assert_eq!(hour(300), 15 * SECOND_MS);
        assert_eq!(hour(60), MINUTE_MS);
        assert_eq!(hour(59), 2 * MINUTE_MS);
        assert_eq!(hour(2), 30 * MINUTE_MS);
        // An hour that is not the clock's touches one minute more.
        assert_eq!(cut(Step::Points(60), 1, HOUR_MS + 1).1, 2 * MINUTE_MS);
        assert_eq!(cut(Step::Points(300), 0, 365 * DAY_MS).1, 2 * DAY_MS);
    }

    #[test]
    fn too_many_points_are_refused_by_the_name_of_the_step() {
        let points_max = i64::try_from(limits::POINTS_MAX).unwrap();
        assert!(Step::Fixed(1).cut(0, points_max).is_ok());
        assert_eq!(Step::Fixed(1).cut(0, points_max + 1).unwrap_err().param, "step");
        assert_eq!(Step::Fixed(1).cut(*STORED_MS.start(), i64::MAX / 2).unwrap_err().param, "step");
    }

    proptest! {
        #[test]
        fn any_window_is_cut_into_at_most_the_points_asked_for(
            start_ms in STORED_MS, length_ms in 0_i64..20_000_000_000_000, points_max in 2_u32..10_000,
        ) {
            let end_ms = (start_ms + length_ms).min(*STORED_MS.end() + 1);
            let grid = Step::Points(points_max).cut(start_ms, end_ms).unwrap();
            prop_assert!(grid.points <= points_max);
            prop_assert_eq!(grid.first_ms.rem_euclid(grid.step_ms), 0);
            prop_assert!(grid.first_ms <= start_ms && end_ms <= grid.end_ms().max(start_ms));
            prop_assert!(grid.points == 0 || end_ms > grid.end_ms() - grid.step_ms);
        }

        #[test]
        fn a_step_reads_back_as_it_was_written(ms in 1_i64..3_000_000_000_000) {
            prop_assert_eq!(parse_span(&written(ms)).unwrap(), i128::from(ms) * 1_000_000);
        }
    }
}
