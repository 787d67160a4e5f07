//! Series in buckets of time as JSON, NDJSON and CSV.

use lanecast_store::read::{Grid, PointRow, Resolution};

use super::csv;
use super::json::write_text;
use super::number::write_number;
use super::write_time;
use crate::limits;

/// What stands for a bucket without samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Null,
    Zero,
    /// The value before it; nothing before the first.
    Previous,
    /// Buckets in which no series has a value are left out.
    None,
}

/// The series of one answer.
pub(crate) struct Frame {
    pub grid: Grid,
    pub resolution: Resolution,
    pub aggregate: &'static str,
    series: Vec<Series>,
}

struct Series {
    metric: String,
    /// Of every bucket; not a number where there is none.
    values: Vec<f64>,
}

/// More than [`limits::SERIES_MAX`] series.
#[derive(Debug)]
pub(crate) struct TooManySeries;

/// The answer would have more than [`limits::ANSWER_BYTES_MAX`].
#[derive(Debug)]
pub(crate) struct TooLong;

impl Frame {
    pub(crate) fn new(grid: Grid, resolution: Resolution, aggregate: &'static str) -> Self {
        Self { grid, resolution, aggregate, series: Vec::new() }
    }

    /// Takes a point; those of a series follow each other.
    pub(crate) fn push(&mut self, point: &PointRow<'_>) -> Result<(), TooManySeries> {
        if self.series.last().is_none_or(|series| series.metric != point.metric) {
            if self.series.len() == limits::SERIES_MAX {
                return Err(TooManySeries);
            }
            let values = vec![f64::NAN; self.grid.points as usize];
            self.series.push(Series { metric: point.metric.to_owned(), values });
        }
        if let Some(series) = self.series.last_mut()
            && let Some(value) = series.values.get_mut(point.bucket as usize)
        {
            *value = point.value;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The buckets to show, once what is missing is filled in.
    pub(crate) fn fill(&mut self, fill: Fill) -> Vec<u32> {
        for series in &mut self.series {
            let mut before = match fill {
                Fill::Null | Fill::None => continue,
                Fill::Zero => 0.0,
                Fill::Previous => f64::NAN,
            };
            for value in &mut series.values {
                match (value.is_finite(), fill) {
                    (true, Fill::Previous) => before = *value,
                    (true, Fill::Null | Fill::Zero | Fill::None) => {}
                    (false, _) => *value = before,
                }
            }
        }
        let shown = |bucket: &u32| {
            let has = |series: &Series| series.values[*bucket as usize].is_finite();
            fill != Fill::None || self.series.iter().any(has)
        };
        let buckets = if self.series.is_empty() { 0 } else { self.grid.points };
        (0..buckets).filter(shown).collect()
    }

    /// One object with a list of times and, for each series, a list of values.
    pub(crate) fn json(&self, step: &str, shown: &[u32]) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::with_capacity(256 + shown.len() * 28);
        out.extend_from_slice(b"{\"step\":");
        write_text(&mut out, step);
        out.extend_from_slice(b",\"resolution\":");
        write_text(&mut out, self.resolution.name());
        out.extend_from_slice(b",\"timestamps\":[");
        for (place, bucket) in shown.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.push(b'"');
            write_time(&mut out, self.grid.start_ms(*bucket));
            out.push(b'"');
        }
        out.extend_from_slice(b"],\"series\":[");
        for (number, series) in self.series.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"metric\":");
            write_text(&mut out, &series.metric);
            out.extend_from_slice(b",\"agg\":");
            write_text(&mut out, self.aggregate);
            out.extend_from_slice(b",\"values\":[");
            for (place, bucket) in shown.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_value(&mut out, series.values[*bucket as usize]);
            }
            out.extend_from_slice(b"]}");
            check(&out)?;
        }
        out.extend_from_slice(b"]}");
        Ok(out)
    }

    /// A line for each point.
    pub(crate) fn ndjson(&self, shown: &[u32]) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        for series in &self.series {
            for bucket in shown {
                out.extend_from_slice(b"{\"timestamp\":\"");
                write_time(&mut out, self.grid.start_ms(*bucket));
                out.extend_from_slice(b"\",\"metric\":");
                write_text(&mut out, &series.metric);
                out.extend_from_slice(b",\"agg\":");
                write_text(&mut out, self.aggregate);
                out.extend_from_slice(b",\"value\":");
                write_value(&mut out, series.values[*bucket as usize]);
                out.extend_from_slice(b"}\n");
                check(&out)?;
            }
        }
        Ok(out)
    }

    /// A line of names, then a line for each point; an empty field where there is no value.
    pub(crate) fn csv(&self, shown: &[u32]) -> Result<Vec<u8>, TooLong> {
        let mut out = b"timestamp,metric,agg,value\r\n".to_vec();
        for series in &self.series {
            for bucket in shown {
                write_time(&mut out, self.grid.start_ms(*bucket));
                out.push(b',');
                csv::write_text(&mut out, &series.metric);
                out.push(b',');
                out.extend_from_slice(self.aggregate.as_bytes());
                out.push(b',');
                write_number(&mut out, series.values[*bucket as usize]);
                out.extend_from_slice(b"\r\n");
                check(&out)?;
            }
        }
        Ok(out)
    }
}

fn write_value(out: &mut Vec<u8>, value: f64) {
    if !write_number(out, value) {
        out.extend_from_slice(b"null");
    }
}

fn check(out: &[u8]) -> Result<(), TooLong> {
    if out.len() > limits::ANSWER_BYTES_MAX { Err(TooLong) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two series over four buckets: `a` lacks the first and the last, `b` all but the third.
    fn frame() -> Frame {
        let grid = Grid { first_ms: 0, step_ms: 1_000, points: 4 };
        let mut frame = Frame::new(grid, Resolution::Raw, "avg");
        for (metric, bucket, value) in [("a", 1, 1.5), ("a", 2, 2.0), ("b", 2, 7.0)] {
            frame.push(&PointRow { metric, bucket, value }).unwrap();
        }
        frame
    }

    fn filled(fill: Fill) -> String {
        let mut frame = frame();
        let shown = frame.fill(fill);
        String::from_utf8(frame.json("1s", &shown).unwrap()).unwrap()
    }

    #[test]
    fn buckets_without_samples_are_filled_as_asked() {
        assert_eq!(
            filled(Fill::Null),
            r#"{"step":"1s","resolution":"raw","timestamps":["1970-01-01T00:00:00.000Z","1970-01-01T00:00:01.000Z","1970-01-01T00:00:02.000Z","1970-01-01T00:00:03.000Z"],"series":[{"metric":"a","agg":"avg","values":[null,1.5,2,null]},{"metric":"b","agg":"avg","values":[null,null,7,null]}]}"#
        );
        assert!(filled(Fill::Zero).contains("[0,1.5,2,0]"));
        assert!(filled(Fill::Zero).contains("[0,0,7,0]"));
        assert!(filled(Fill::Previous).contains("[null,1.5,2,2]"));
        assert!(filled(Fill::Previous).contains("[null,null,7,7]"));
        let none = filled(Fill::None);
        assert!(none.contains(r#"["1970-01-01T00:00:01.000Z","1970-01-01T00:00:02.000Z"]"#));
        assert!(none.contains("[1.5,2]") && none.contains("[null,7]"), "{none}");
    }

    #[test]
    fn lines_say_the_same_as_lists() {
        let mut frame = frame();
        let shown = frame.fill(Fill::None);
        let csv = String::from_utf8(frame.csv(&shown).unwrap()).unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1], "1970-01-01T00:00:01.000Z,a,avg,1.5");
        assert_eq!(lines[3], "1970-01-01T00:00:01.000Z,b,avg,");
        let ndjson = String::from_utf8(frame.ndjson(&shown).unwrap()).unwrap();
        let line: serde_json::Value = serde_json::from_str(ndjson.lines().nth(2).unwrap()).unwrap();
        assert_eq!((&line["metric"], &line["value"]), (&"b".into(), &serde_json::Value::Null));
    }

    #[test]
    fn series_beyond_the_limit_are_refused() {
        let mut frame = Frame::new(Grid { points: 1, ..frame().grid }, Resolution::Raw, "avg");
        for number in 0..limits::SERIES_MAX {
            let metric = &number.to_string();
            frame.push(&PointRow { metric, bucket: 0, value: 1.0 }).unwrap();
        }
        assert!(frame.push(&PointRow { metric: "more", bucket: 0, value: 1.0 }).is_err());
    }

    #[test]
    fn a_point_outside_of_the_grid_is_dropped() {
        let mut frame = frame();
        frame.push(&PointRow { metric: "b", bucket: u32::MAX, value: 1.0 }).unwrap();
        assert_eq!(frame.fill(Fill::Null).len(), 4);
    }
}
