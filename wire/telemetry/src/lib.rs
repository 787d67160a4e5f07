//! Columnar batches of GPU telemetry: how samples are gathered, archived, checked and read.
//!
//! A source interns who a sample belongs to in a [`SeriesCatalog`] and pushes [`Sample`]s into a
//! [`TelemetryBuilder`], which a producer seals into batches. The body names each identity, metric
//! and string once and holds five columns beside (drawn in `columns.rs`). The same bytes cross the
//! sockets and rest on disk; a consumer opens them as a [`TelemetryView`], which checks everything
//! once and then reads in place.
//!
//! ```
//! use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder, TelemetryView};
//! use lanecast_wire::builder::BodyBuilder;
//!
//! let mut catalog = SeriesCatalog::new();
//! let identity = Identity { uuid: "GPU-1", hostname: "node-1", ..Identity::default() };
//! let series = catalog.series(&identity)?;
//! let metric = catalog.metric("DCGM_FI_DEV_GPU_TEMP")?;
//!
//! let mut builder = TelemetryBuilder::empty();
//! let (ts_ms, source_ts_ms) = (1_752_871_354_000, 1_752_871_353_000);
//! builder.push(&Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms, value: 41.0 })?;
//! let sealed = builder.seal();
//!
//! let view = TelemetryView::open(&sealed.body, sealed.record_count)?;
//! assert_eq!(view.identity(0), identity);
//! assert_eq!(view.iter().next().map(|row| row.value), Some(41.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod builder;
mod catalog;
mod columns;
mod identity;
pub mod labels;
pub mod limits;
mod view;

pub use builder::{Sample, TelemetryBuilder};
pub use catalog::{MetricId, SeriesCatalog, SeriesId};
pub use identity::Identity;
pub use view::{InvalidBatch, Row, TelemetryView, exercise};
