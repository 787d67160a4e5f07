//! The shapes of answers as JSON Schema (2020-12, as OpenAPI 3.1 uses it). Every shape is closed:
//! a member that is not here fails the tests that hold answers against it.

use serde_json::{Map, Value, json};

use crate::encode::column::COLUMNS;

/// All shapes by name.
pub(crate) fn components() -> Value {
    json!({
        "GpuList": gpu_list(),
        "GpuListed": gpu_listed(),
        "GpuReference": object(&[("id", uuid())], &[]),
        "Gpu": gpu(),
        "LatestValue": latest_value(),
        "SampleList": page(json!({"type": "array", "items": reference("Sample")}), &[]),
        "Sample": sample(),
        "SeriesList": series_list(),
        "Series": series(),
        "Probe": probe(),
        "Problem": problem(),
        "ParameterError": object(
            &[
                ("param", text("The parameter.", "limit")),
                ("reason", text("What is wrong.", "must be a whole number from 1 to 10000")),
            ],
            &[],
        ),
    })
}

fn gpu_list() -> Value {
    let ids = json!({"type": "array", "items": uuid(), "description": "The ids alone."});
    let gpus = json!({
        "type": "array",
        "items": {"anyOf": [reference("GpuListed"), reference("GpuReference")]},
        "description": "The same GPUs; with `fields=ids` only their ids.",
    });
    page(ids, &[("gpus", gpus)])
}

fn identity() -> Vec<(&'static str, Value)> {
    vec![
        ("id", uuid()),
        ("hostname", text("Host of the GPU.", "gpu-node-031")),
        ("gpu_index", whole("Number of the GPU within its host.", 0)),
        ("device", text("Device of the GPU.", "nvidia0")),
        ("model_name", text("Model of the GPU.", "NVIDIA H100 80GB HBM3")),
        ("first_seen", time("Time of its oldest sample.")),
        ("last_seen", time("Time of its newest sample.")),
        (
            "stale",
            json!({"type": "boolean", "examples": [false],
                   "description": "Has it been silent for longer than is usual?"}),
        ),
    ]
}

fn gpu_listed() -> Value {
    object(&identity(), &[])
}

fn gpu() -> Value {
    let mut members = identity();
    members.extend([
        ("container", text("Container that used the GPU last; empty if none.", "")),
        ("pod", text("Pod that used the GPU last; empty if none.", "")),
        ("namespace", text("Namespace of the pod; empty if none.", "")),
        ("latest", json!({"type": "array", "items": reference("LatestValue")})),
    ]);
    object(&members, &[])
}

fn latest_value() -> Value {
    let value = json!({"type": ["number", "null"], "examples": [97.0],
                       "description": "The newest value; null if it is not a finite number."});
    object(
        &[
            ("metric_name", text("Name of the metric.", "DCGM_FI_DEV_GPU_UTIL")),
            ("value", value),
            ("timestamp", time("Time of the sample.")),
        ],
        &[],
    )
}

fn sample() -> Value {
    let members: Vec<_> = COLUMNS.iter().map(|column| (column.name(), column.schema())).collect();
    object(&members, &["labels_raw"])
}

fn series_list() -> Value {
    let timestamps = json!({"type": "array", "items": time("Start of the bucket."),
                            "description": "The buckets, in the order of time."});
    let resolution = json!({"type": "string", "enum": ["raw", "1m", "1h"], "examples": ["1m"],
                            "description": "What the values were made from."});
    object(
        &[
            ("step", text("Width of a bucket, as the parameter takes it.", "1m")),
            ("resolution", resolution),
            ("timestamps", timestamps),
            ("series", json!({"type": "array", "items": reference("Series")})),
        ],
        &[],
    )
}

fn series() -> Value {
    let values = json!({"type": "array", "items": {"type": ["number", "null"], "examples": [97.5]},
                        "description": "One for each of `timestamps`."});
    object(
        &[
            ("metric", text("Name of the metric.", "DCGM_FI_DEV_GPU_UTIL")),
            ("agg", text("What the values say of the samples in a bucket.", "avg")),
            ("values", values),
        ],
        &[],
    )
}

fn probe() -> Value {
    let status = json!({"type": "string", "enum": ["ok", "ready"], "examples": ["ok"]});
    object(&[("status", status)], &[])
}

fn problem() -> Value {
    let errors = json!({"type": "array", "items": reference("ParameterError"),
                        "description": "Each parameter that is wrong."});
    object(
        &[
            ("type", text("Name of the kind of problem.", "urn:lanecast:problem:not-found")),
            ("title", text("The kind of problem in words.", "There is nothing at this path")),
            ("status", json!({"type": "integer", "minimum": 400, "maximum": 599})),
            ("detail", text("What is wrong this time.", "limit: must be a whole number")),
            ("instance", text("Path of the request.", "/api/v1/gpus")),
            ("errors", errors),
            ("request_id", text("Name of the request in the service's log.", "5f3a9c01-17")),
        ],
        &["errors"],
    )
}

/// A page of a list: what both original services' clients read, and a cursor.
fn page(items: Value, more: &[(&'static str, Value)]) -> Value {
    let mut members = vec![
        (
            "total",
            json!({"type": ["integer", "null"], "minimum": 0, "examples": [1],
                   "description": "All rows, not only this page; null with `count=none`."}),
        ),
        ("page", json!({"type": "integer", "minimum": 1, "examples": [1]})),
        ("limit", json!({"type": "integer", "minimum": 1, "examples": [100]})),
        ("items", items),
    ];
    members.extend(more.iter().cloned());
    members.push((
        "next_cursor",
        json!({"type": ["string", "null"], "examples": [null],
               "description": "The next page's `cursor`; null on the last page."}),
    ));
    object(&members, &[])
}

/// A closed object whose members are all there but for those named in `optional`.
fn object(members: &[(&str, Value)], optional: &[&str]) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<_> =
        members.iter().map(|(name, _)| *name).filter(|name| !optional.contains(name)).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn text(about: &str, example: &str) -> Value {
    json!({"type": "string", "description": about, "examples": [example]})
}

fn whole(about: &str, example: u32) -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": u32::MAX,
           "description": about, "examples": [example]})
}

fn time(about: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": about,
           "examples": ["2025-07-18T20:42:34.000Z"]})
}

fn uuid() -> Value {
    text("The GPU: its uuid.", "GPU-3f1c9a2e-7b54-4c1d-9f0e-2a6d8b5c4e10")
}

/// An example of a shape, put together from the examples of its parts.
pub(crate) fn example(name: &str) -> Value {
    let components = components();
    build(&components[name], &components)
}

/// Shapes do not refer to themselves, so this ends.
fn build(schema: &Value, components: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return build(&components[name], components);
    }
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return build(first, components);
    }
    match schema["type"].as_str() {
        Some("array") => json!([build(&schema["items"], components)]),
        Some("object") => {
            let members = schema["properties"].as_object().into_iter().flatten();
            let built = members.map(|(name, part)| (name.clone(), build(part, components)));
            Value::Object(built.collect())
        }
        Some(_) | None => Value::Null,
    }
}
