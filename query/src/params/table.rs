//! Every parameter, declared once.

use super::{Kind, Parameter, Place};
use crate::limits;

const fn query(
    name: &'static str,
    kind: Kind,
    about: &'static str,
    example: &'static str,
) -> Parameter {
    Parameter { name, place: Place::Query, kind, repeat: false, about, example }
}

const TEXT: Kind = Kind::Text { chars_max: limits::TEXT_CHARS_MAX };

pub(crate) static ID: Parameter = Parameter {
    name: "id",
    place: Place::Path,
    kind: TEXT,
    repeat: false,
    about: "The GPU: its uuid, or `hostname:index` for the GPU last seen in that slot. A bare \
            index is refused, since every host has it.",
    example: "GPU-3f1c9a2e-7b54-4c1d-9f0e-2a6d8b5c4e10",
};

pub(crate) static LIMIT: Parameter =
    query("limit", Kind::Whole { min: 1, max: limits::PAGE_ROWS_MAX }, "Rows in one page.", "100");

pub(crate) static PAGE: Parameter = query(
    "page",
    Kind::Whole { min: 1, max: limits::PAGE_DEPTH_MAX },
    "Number of the page, from 1. `page * limit` may be 100,000 at most; use `cursor` to go \
     further.",
    "1",
);

pub(crate) static SORT: Parameter = query(
    "sort",
    Kind::Choice { of: &["asc", "desc"] },
    "Direction of the order; ascending unless given.",
    "asc",
);

/// Without an example: a cursor belongs to one question.
pub(crate) static CURSOR: Parameter = query(
    "cursor",
    Kind::Text { chars_max: limits::CURSOR_CHARS_MAX as u64 },
    "`next_cursor` of the page before. Goes with the same path, filters and sort, and not with \
     `page`. A window relative to now stays where the first page put it.",
    "",
);

pub(crate) static START_TIME: Parameter = query(
    "start_time",
    Kind::Time,
    "First moment of the window, included. RFC 3339 with a zone, unix seconds or milliseconds, \
     `now`, `now-1h` or `-15m`.",
    "2025-07-18T20:42:00Z",
);

pub(crate) static END_TIME: Parameter = query(
    "end_time",
    Kind::Time,
    "Last moment of the window, included. Forms as for `start_time`.",
    "2025-07-18T20:43:00Z",
);

pub(crate) static SERIES_END_TIME: Parameter = query(
    "end_time",
    Kind::Time,
    "End of the window, not included. Forms as for `start_time`.",
    "2025-07-18T21:42:00Z",
);

pub(crate) static WINDOW: Parameter = query(
    "window",
    Kind::Span,
    "Length of the window: before `end_time`, after `start_time`, or before now with neither. \
     Units ms, s, m, h, d, w.",
    "5m",
);

pub(crate) static METRIC: Parameter = Parameter {
    name: "metric",
    place: Place::Query,
    kind: TEXT,
    repeat: true,
    about: "Only these metrics.",
    example: "DCGM_FI_DEV_GPU_UTIL",
};

pub(crate) static FORMAT: Parameter = query(
    "format",
    Kind::Format,
    "Format of the answer; goes before the `Accept` header. In all but json the next page is in \
     the `Link` header alone.",
    "json",
);

pub(crate) static SERIES_FORMAT: Parameter = query(
    "format",
    Kind::Format,
    "Format of the answer; goes before the `Accept` header. ndjson and csv have a line for each \
     point.",
    "json",
);

pub(crate) static INCLUDE: Parameter = query(
    "include",
    Kind::Choice { of: &["labels"] },
    "`labels` adds `labels_raw`, all labels of the sample as the exporter wrote them.",
    "labels",
);

pub(crate) static COUNT: Parameter = query(
    "count",
    Kind::Choice { of: &["none"] },
    "`none` leaves out the count of all rows; `total` is null then.",
    "none",
);

const fn filter(name: &'static str, about: &'static str, example: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, kind: TEXT, repeat: true, about, example }
}

pub(crate) static HOST: Parameter = filter("host", "Only GPUs of these hosts.", "gpu-node-031");
pub(crate) static MODEL: Parameter = filter("model", "Only these models.", "NVIDIA H100 80GB HBM3");
pub(crate) static NAMESPACE: Parameter = filter("namespace", "Only these namespaces.", "training");
pub(crate) static POD: Parameter = filter("pod", "Only these pods.", "llm-0");

pub(crate) static ACTIVE_SINCE: Parameter = query(
    "active_since",
    Kind::Time,
    "Only GPUs with a sample at or after this moment. Forms as for `start_time`.",
    "-5m",
);

pub(crate) static FIELDS: Parameter =
    query("fields", Kind::Choice { of: &["ids"] }, "`ids` leaves of each GPU only its id.", "ids");

pub(crate) static STEP: Parameter = query(
    "step",
    Kind::Span,
    "Width of a bucket. Units as for `window`. Not with `max_points`.",
    "1m",
);

pub(crate) static MAX_POINTS: Parameter = query(
    "max_points",
    Kind::Whole { min: 2, max: limits::POINTS_MAX },
    "Without `step`: the buckets get the finest of the usual widths (1s, 2s, 5s, ... 1d) with \
     which there are so many of them at most; 300 unless given.",
    "300",
);

pub(crate) const AGGREGATES: &[&str] = &[
    "avg", "min", "max", "last", "sum", "count", "rate", "p50", "p51", "p52", "p53", "p54", "p55",
    "p56", "p57", "p58", "p59", "p60", "p61", "p62", "p63", "p64", "p65", "p66", "p67", "p68",
    "p69", "p70", "p71", "p72", "p73", "p74", "p75", "p76", "p77", "p78", "p79", "p80", "p81",
    "p82", "p83", "p84", "p85", "p86", "p87", "p88", "p89", "p90", "p91", "p92", "p93", "p94",
    "p95", "p96", "p97", "p98", "p99",
];

pub(crate) static AGG: Parameter = query(
    "agg",
    Kind::Choice { of: AGGREGATES },
    "What a point says of the samples in its bucket; `avg` unless given. `p50` to `p99` are exact \
     percentiles. `rate` is the increase of a counter in a second: between two samples it is what \
     the later has more, or after a reset all that the later has, and belongs to the later's \
     bucket.",
    "avg",
);

pub(crate) const FILLS: &[&str] = &["null", "zero", "previous", "none"];

pub(crate) static FILL: Parameter = query(
    "fill",
    Kind::Choice { of: FILLS },
    "What stands for a bucket without samples: `null`, which charts show as a gap, unless given; \
     `zero`; `previous`, the value before it within the answer; or `none`, which leaves out the \
     buckets in which no series has one.",
    "null",
);
