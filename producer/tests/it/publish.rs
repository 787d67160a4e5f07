//! The loop between source and sink, without a broker.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{PublishConfig, PublishError, Pushed, Sink, SinkStats, publish};
use lanecast_telemetry::Sample;
use lanecast_wire::builder::RecordRefused;

use crate::drain::file;

/// Takes samples as a script says, in the test's memory.
#[derive(Default)]
struct Scripted {
    values: Vec<f64>,
    /// What to do at the samples to come; takes them once it is empty.
    script: VecDeque<Act>,
    /// Of what was taken, this much is dropped later, as a full topic does.
    dropped: u64,
    flush_hangs: bool,
    flushed: bool,
}

enum Act {
    Take,
    Refuse,
    Fail,
    Hang,
}

#[derive(Debug, thiserror::Error)]
#[error("scripted failure")]
struct Scheduled;

impl Sink for Scripted {
    type Error = Scheduled;

    async fn push(&mut self, sample: &Sample<'_>) -> Result<Pushed, Scheduled> {
        match self.script.pop_front() {
            Some(Act::Fail) => return Err(Scheduled),
            Some(Act::Hang) => core::future::pending().await,
            Some(Act::Refuse) => {
                let reason = "scripted".into();
                return Ok(Pushed::Refused(RecordRefused { field: "value", reason }));
            }
            Some(Act::Take) | None => {}
        }
        self.values.push(sample.value);
        Ok(Pushed::Taken)
    }

    async fn idle(&mut self) -> Result<(), Scheduled> {
        core::future::pending().await
    }

    async fn flush(&mut self) -> Result<(), Scheduled> {
        if self.flush_hangs {
            core::future::pending().await
        }
        self.flushed = true;
        Ok(())
    }

    fn stats(&self) -> SinkStats {
        let acknowledged = self.values.len() as u64 - self.dropped;
        SinkStats { acknowledged, dropped: self.dropped, doubtful: 7, ..SinkStats::default() }
    }
}

const FIVE_ROWS: &[u8] = b"uuid,metric,value\nG,M,1\nG,M,x\nG,M,\nG,M,2\nG,M,3\n";

fn csv(text: &[u8]) -> (tempfile::TempDir, CsvSource) {
    let (dir, path) = file(text);
    (dir, CsvSource::open(CsvConfig::new(Input::File(path))).unwrap())
}

fn never() -> core::future::Pending<()> {
    core::future::pending()
}

fn scripted(script: impl IntoIterator<Item = Act>) -> Scripted {
    Scripted { script: script.into_iter().collect(), ..Scripted::default() }
}

#[tokio::test]
async fn everything_is_published_flushed_and_reported() {
    let (_dir, mut source) = csv(FIVE_ROWS);
    let mut sink = scripted([Act::Take, Act::Refuse]);
    let config = PublishConfig::default();
    let last = Cell::new(0);
    let told = |report: &lanecast_producer::Report| last.set(report.rows_acknowledged);
    let report = publish(&mut source, &mut sink, &config, never(), told).await.unwrap();
    assert_eq!((sink.values, sink.flushed), (vec![1.0, 3.0], true));
    assert_eq!((report.rows_read, report.rows_published, report.rows_acknowledged), (5, 2, 2));
    assert_eq!((report.rows_rejected, report.dropped_blank, report.stopped), (2, 1, false));
    let rejected: Vec<_> = report.rejected.into_iter().collect();
    assert_eq!(rejected, [("bad_value", 1), ("limit_exceeded", 1)]);
    assert_eq!(last.get(), 2, "the last progress is the result");
}

#[tokio::test]
async fn what_the_broker_dropped_is_reported() {
    let (_dir, mut source) = csv(FIVE_ROWS);
    let mut sink = Scripted { dropped: 2, ..Scripted::default() };
    let config = PublishConfig::default();
    let report = publish(&mut source, &mut sink, &config, never(), |_| {}).await.unwrap();
    assert_eq!((report.rows_published, report.rows_acknowledged, report.rows_dropped), (3, 1, 2));
    assert_eq!(report.batches_doubtful, 7);
    let complaint = report.complaint().unwrap();
    assert!(complaint.contains("2 of 3 rows were dropped"), "{complaint}");
    assert!(complaint.contains("7 batches"), "{complaint}");
    let whole = lanecast_producer::Report { rows_dropped: 0, batches_doubtful: 0, ..report };
    assert_eq!(whole.complaint(), None);
}

#[tokio::test]
async fn stopped_run_flushes_and_says_so() {
    let config = GenerateConfig { real_time: false, ..GenerateConfig::default() };
    let mut source = GenerateSource::new(config).unwrap();
    let mut sink = Scripted::default();
    let (config, stop) = (PublishConfig::default(), core::future::ready(()));
    let report = publish(&mut source, &mut sink, &config, stop, |_| {}).await.unwrap();
    assert!(report.stopped && sink.flushed);
    assert_eq!(report.rows_published, sink.values.len() as u64);
}

#[tokio::test]
async fn stop_is_heard_while_the_sink_has_no_room() {
    let (_dir, mut source) = csv(FIVE_ROWS);
    let mut sink = scripted([Act::Take, Act::Hang]);
    let (config, stop) = (PublishConfig::default(), core::future::ready(()));
    let report = publish(&mut source, &mut sink, &config, stop, |_| {}).await.unwrap();
    assert_eq!((report.stopped, report.rows_published), (true, 1));
}

#[tokio::test]
async fn failing_sink_ends_the_run_with_the_report_so_far() {
    let (_dir, mut source) = csv(FIVE_ROWS);
    let mut sink = scripted([Act::Take, Act::Fail]);
    let config = PublishConfig::default();
    let error = publish(&mut source, &mut sink, &config, never(), |_| {}).await.unwrap_err();
    let PublishError::Sink { report, .. } = &error else { panic!("{error:?}") };
    assert_eq!((report.rows_acknowledged, sink.flushed), (1, false));
    assert_eq!(error.to_string(), "publishing failed after 1 of 1 rows were acknowledged");
}

#[tokio::test]
async fn failing_source_still_has_its_rows_flushed() {
    let (_dir, path) = file(FIVE_ROWS);
    let config = CsvConfig { strict: true, ..CsvConfig::new(Input::File(path)) };
    let mut source = CsvSource::open(config).unwrap();
    let mut sink = Scripted::default();
    let config = PublishConfig::default();
    let error = publish(&mut source, &mut sink, &config, never(), |_| {}).await.unwrap_err();
    assert!(matches!(error, PublishError::Source { .. }), "{error}");
    assert_eq!((sink.values, sink.flushed), (vec![1.0], true));
}

#[tokio::test(start_paused = true)]
async fn sink_that_never_acknowledges_is_given_up_after_the_drain_time() {
    let (_dir, mut source) = csv(FIVE_ROWS);
    let mut sink = Scripted { flush_hangs: true, ..Scripted::default() };
    let config = PublishConfig { drain: Duration::from_secs(3600), ..PublishConfig::default() };
    let error = publish(&mut source, &mut sink, &config, never(), |_| {}).await.unwrap_err();
    assert!(matches!(error, PublishError::NotDrained { .. }), "{error}");
}

#[tokio::test]
async fn senseless_rate_is_refused() {
    let (_dir, mut source) = csv(FIVE_ROWS);
    let config = PublishConfig { rate: Some(0.0), ..PublishConfig::default() };
    let run = publish(&mut source, &mut Scripted::default(), &config, never(), |_| {}).await;
    assert!(matches!(run.unwrap_err(), PublishError::Setting(_)));
}
