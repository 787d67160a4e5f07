//! The columns of a telemetry item, declared once for JSON, NDJSON, CSV, Arrow and the OpenAPI
//! document.

use lanecast_store::read::SampleRow;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Timestamp,
    SourceTimestamp,
    MetricName,
    Value,
    Id,
    Uuid,
    GpuId,
    Device,
    ModelName,
    Hostname,
    Container,
    Pod,
    Namespace,
    LabelsRaw,
}

/// What all cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Time,
    Text,
    Number,
    Whole,
}

/// One field of one row.
pub(crate) enum Cell<'a> {
    Time(i64),
    Text(&'a str),
    Owned(String),
    /// A record: its partition and offset, written with a dash between.
    Record(u32, u64),
    Number(f64),
    Whole(u32),
}

/// In the order of an item; the last only with `include=labels`.
pub(crate) const COLUMNS: [Column; 14] = [
    Column::Timestamp,
    Column::SourceTimestamp,
    Column::MetricName,
    Column::Value,
    Column::Id,
    Column::Uuid,
    Column::GpuId,
    Column::Device,
    Column::ModelName,
    Column::Hostname,
    Column::Container,
    Column::Pod,
    Column::Namespace,
    Column::LabelsRaw,
];

/// The columns of an answer with or without labels.
#[must_use]
pub fn columns(labels: bool) -> &'static [Column] {
    if labels { &COLUMNS } else { &COLUMNS[..COLUMNS.len() - 1] }
}

impl Column {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::SourceTimestamp => "source_timestamp",
            Self::MetricName => "metric_name",
            Self::Value => "value",
            Self::Id => "id",
            Self::Uuid => "uuid",
            Self::GpuId => "gpu_id",
            Self::Device => "device",
            Self::ModelName => "model_name",
            Self::Hostname => "hostname",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::LabelsRaw => "labels_raw",
        }
    }

    pub(crate) fn kind(self) -> ColumnKind {
        match self {
            Self::Timestamp | Self::SourceTimestamp => ColumnKind::Time,
            Self::Value => ColumnKind::Number,
            Self::GpuId => ColumnKind::Whole,
            Self::MetricName
            | Self::Id
            | Self::Uuid
            | Self::Device
            | Self::ModelName
            | Self::Hostname
            | Self::Container
            | Self::Pod
            | Self::Namespace
            | Self::LabelsRaw => ColumnKind::Text,
        }
    }

    /// Of the kind that [`kind`](Self::kind) says.
    pub(crate) fn cell<'a>(self, row: &SampleRow<'a>) -> Cell<'a> {
        match self {
            Self::Timestamp => Cell::Time(row.ts),
            Self::SourceTimestamp => Cell::Time(row.source_ts),
            Self::MetricName => Cell::Text(row.metric),
            Self::Value => Cell::Number(row.value),
            Self::Id => Cell::Record(row.topic_partition, row.topic_offset),
            Self::Uuid => Cell::Text(row.gpu_uuid),
            Self::GpuId => Cell::Whole(row.gpu_index),
            Self::Device => Cell::Text(row.device),
            Self::ModelName => Cell::Text(row.model),
            Self::Hostname => Cell::Text(row.hostname),
            Self::Container => Cell::Text(row.container),
            Self::Pod => Cell::Text(row.pod),
            Self::Namespace => Cell::Text(row.namespace),
            Self::LabelsRaw => Cell::Owned(row.labels_raw()),
        }
    }

    /// JSON Schema of the field, with an example.
    pub(crate) fn schema(self) -> Value {
        let time = |about: &str| {
            json!({"type": "string", "format": "date-time", "description": about,
                   "examples": ["2025-07-18T20:42:34.000Z"]})
        };
        let text = |about: &str, example: &str| json!({"type": "string", "description": about, "examples": [example]});
        match self {
            Self::Timestamp => time("When the sample was processed, by which it is ordered."),
            Self::SourceTimestamp => time("What time the source gave the sample."),
            Self::MetricName => text("Name of the metric.", "DCGM_FI_DEV_GPU_UTIL"),
            Self::Value => json!({"type": ["number", "null"],
                "description": "The value; null if it is not a finite number.",
                "examples": [97]}),
            Self::Id => text("The record: its partition and offset in the topic.", "3-104417"),
            Self::Uuid => text("The GPU.", "GPU-3f1c9a2e-7b54-4c1d-9f0e-2a6d8b5c4e10"),
            Self::GpuId => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX,
                "description": "Number of the GPU within its host.", "examples": [0]}),
            Self::Device => text("Device of the GPU.", "nvidia0"),
            Self::ModelName => text("Model of the GPU.", "NVIDIA H100 80GB HBM3"),
            Self::Hostname => text("Host of the GPU.", "gpu-node-031"),
            Self::Container => text("Container that used the GPU; empty if none.", ""),
            Self::Pod => text("Pod that used the GPU; empty if none.", ""),
            Self::Namespace => text("Namespace of the pod; empty if none.", ""),
            Self::LabelsRaw => text(
                "All labels as the exporter wrote them; only with `include=labels`.",
                "gpu=\"0\",instance=\"gpu-node-031:9400\"",
            ),
        }
    }
}
