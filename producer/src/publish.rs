//! The loop between a source and a sink.
//!
//! ```text
//!          next                push (waits while the sink is full)
//!  source ------> stamped ------------------------------------------> sink
//!    |  sample is not due, input is silent: pause, and let the sink be idle meanwhile
//!    |  end, or asked to stop: flush, for as long as the drain time allows
//! ```

use core::pin::pin;
use core::time::Duration;
use std::time::{Instant, SystemTime};

use lanecast_telemetry::Sample;
use serde::Serialize;

use crate::limits;
use crate::pace::Pacer;
use crate::report::Report;
use crate::sink::{Pushed, Sink};
use crate::source::{Source, SourceError, Step};

/// How fast to publish, and how to end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublishConfig {
    /// Samples per second, paced in an open loop; none is as fast as the sink takes them.
    pub rate: Option<f64>,
    /// How long to wait for the last acknowledgements.
    pub drain: Duration,
    /// How often progress is told.
    pub progress_interval: Duration,
}

impl Default for PublishConfig {
    fn default() -> Self {
        PublishConfig {
            rate: None,
            drain: Duration::from_secs(limits::DRAIN_SECONDS_DEFAULT),
            progress_interval: Duration::from_millis(250),
        }
    }
}

/// Why a run ended early. What had been pushed before was flushed unless the sink failed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError<E: core::error::Error + 'static> {
    #[error("the source failed after {} rows", report.rows_read)]
    Source { report: Box<Report>, source: SourceError },
    #[error(
        "publishing failed after {} of {} rows were acknowledged",
        report.rows_acknowledged, report.rows_published
    )]
    Sink { report: Box<Report>, source: E },
    #[error(
        "{} of {} rows were acknowledged within the drain time of {drain:?}",
        report.rows_acknowledged, report.rows_published
    )]
    NotDrained { report: Box<Report>, drain: Duration },
    #[error(transparent)]
    Setting(SourceError),
}

/// How a burst ended.
enum Burst {
    /// Go on at once.
    More,
    PauseUntil {
        elapsed_us: u64,
    },
    PauseFor(Duration),
    End,
}

/// How often a silent input is asked again.
const QUIET_PAUSE: Duration = Duration::from_millis(5);

/// Publishes all that `source` gives, until it ends or `stop` completes, and waits until it is
/// acknowledged. `progress` is told now and then how far it is.
///
/// # Errors
/// The source or the sink failed, or the sink did not acknowledge in time; each with the report up
/// to there.
pub async fn publish<S: Source, K: Sink>(
    source: &mut S,
    sink: &mut K,
    config: &PublishConfig,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(&Report),
) -> Result<Report, PublishError<K::Error>> {
    let mut run = Run {
        pacer: Pacer::new(config.rate).map_err(PublishError::Setting)?,
        source,
        sink,
        started: Instant::now(),
        published: 0,
        refused: 0,
    };
    let mut stop = pin!(stop);
    let mut told = run.started;
    let mut stopped = false;
    let mut failure = None;
    loop {
        // A sink without room keeps the burst waiting, which must not keep the stop waiting.
        let burst = tokio::select! {
            biased;
            burst = run.burst() => burst,
            () = stop.as_mut() => {
                stopped = true;
                break;
            }
        };
        match burst {
            Ok(Burst::End) => break,
            Ok(burst) => {
                stopped = run.pause(burst, stop.as_mut()).await.map_err(|e| run.sink_failed(e))?;
            }
            Err(BurstError::Sink(error)) => return Err(run.sink_failed(error)),
            Err(BurstError::Source(error)) => {
                failure = Some(error);
                break;
            }
        }
        if stopped {
            break;
        }
        if told.elapsed() >= config.progress_interval {
            told = Instant::now();
            progress(&run.report());
        }
    }
    match tokio::time::timeout(config.drain, run.sink.flush()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(run.sink_failed(error)),
        Err(_elapsed) => {
            let report = Box::new(run.report());
            return Err(PublishError::NotDrained { report, drain: config.drain });
        }
    }
    let report = Report { stopped, ..run.report() };
    progress(&report);
    match failure {
        Some(source) => Err(PublishError::Source { report: Box::new(report), source }),
        None => Ok(report),
    }
}

enum BurstError<E> {
    Source(SourceError),
    Sink(E),
}

struct Run<'a, S, K> {
    source: &'a mut S,
    sink: &'a mut K,
    pacer: Pacer,
    started: Instant,
    published: u64,
    refused: u64,
}

impl<S: Source, K: Sink> Run<'_, S, K> {
    /// Publishes what is due, and not more than one burst: one look at the clocks serves them all.
    async fn burst(&mut self) -> Result<Burst, BurstError<K::Error>> {
        let budget = self.pacer.budget(self.elapsed_us());
        if budget == 0 {
            return Ok(Burst::PauseUntil { elapsed_us: self.pacer.next_due_us() });
        }
        let now_ms = unix_ms();
        for _ in 0..budget {
            match self.source.next(now_ms).map_err(BurstError::Source)? {
                Step::Point(point) => {
                    self.pacer.count(1);
                    let sample = Sample {
                        catalog: self.source.catalog(),
                        series: point.series,
                        metric: point.metric,
                        ts_ms: point.ts_ms,
                        source_ts_ms: point.source_ts_ms,
                        value: point.value,
                    };
                    match self.sink.push(&sample).await.map_err(BurstError::Sink)? {
                        Pushed::Taken => self.published += 1,
                        Pushed::Refused(refused) => {
                            self.refused += 1;
                            if self.refused <= limits::REJECTS_LOGGED_MAX {
                                tracing::warn!(%refused, "sample refused");
                            }
                        }
                    }
                }
                Step::Due { elapsed_us } if elapsed_us > self.elapsed_us() => {
                    return Ok(Burst::PauseUntil { elapsed_us });
                }
                Step::Due { .. } => {}
                Step::Busy => return Ok(Burst::More),
                Step::Quiet => return Ok(Burst::PauseFor(QUIET_PAUSE)),
                Step::End => return Ok(Burst::End),
            }
        }
        Ok(Burst::More)
    }

    /// Gives way to others as the burst asks; `true` when the run is to stop.
    async fn pause(
        &mut self,
        burst: Burst,
        stop: core::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, K::Error> {
        let length = match burst {
            Burst::More => None,
            Burst::PauseUntil { elapsed_us } => {
                Some(Duration::from_micros(elapsed_us.saturating_sub(self.elapsed_us())))
            }
            Burst::PauseFor(length) => Some(length),
            Burst::End => return Ok(true),
        };
        let Some(length) = length else {
            return Ok(tokio::select! {
                biased;
                () = stop => true,
                () = tokio::task::yield_now() => false,
            });
        };
        let over = pin!(tokio::time::sleep(length));
        tokio::select! {
            biased;
            () = stop => Ok(true),
            () = over => Ok(false),
            failed = idle(self.sink) => Err(failed),
        }
    }

    fn report(&self) -> Report {
        let seconds = self.started.elapsed().as_secs_f64();
        let (source, sink) = (self.source.stats(), self.sink.stats());
        Report::new(source, sink, self.published, self.refused, seconds)
    }

    fn sink_failed(&self, source: K::Error) -> PublishError<K::Error> {
        PublishError::Sink { report: Box::new(self.report()), source }
    }

    fn elapsed_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// Lets the sink seal what has lingered, as often as it comes up; ends only in failure.
async fn idle<K: Sink>(sink: &mut K) -> K::Error {
    loop {
        if let Err(error) = sink.idle().await {
            return error;
        }
    }
}

fn unix_ms() -> i64 {
    // A clock before 1970 gives 0, which the consumer will put aside as out of range.
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis() as i64)
}
