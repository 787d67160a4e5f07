//! Sources of telemetry and the loop that publishes them.
//!
//! A [`Source`] gives samples: [`csv::CsvSource`] from a file or standard input,
//! [`generate::GenerateSource`] from a made-up fleet. A [`Sink`] takes them: a topic of a broker
//! ([`TopicSink`]), or a [`CsvFile`]. [`publish`] moves samples from one to the
//! other, at a rate if asked, with the sink's back-pressure, and drains when it ends or is stopped.
//! Source, pace and sink know nothing of each other, and each is tested without the others.

pub mod csv;
mod csv_file;
pub mod generate;
pub mod limits;
mod pace;
mod publish;
mod report;
mod shard;
mod sink;
mod source;
mod stamp;
mod topic;

pub use csv_file::{CsvFile, CsvFileConfig, CsvLayout};
pub use publish::{PublishConfig, PublishError, publish};
pub use report::Report;
pub use shard::ShardOf;
pub use sink::{Pushed, Sink, SinkStats};
pub use source::{Point, RejectReason, Rejections, Source, SourceError, SourceStats, Step};
pub use stamp::Timestamps;
pub use topic::{NewTopic, TopicConfig, TopicSink};
