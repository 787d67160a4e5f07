//! The OpenAPI 3.1 document, made from the table that routes and parses requests.
//!
//! Paths, parameters, formats and statuses come from [`OPERATIONS`]; only the shapes of answers
//! are written down beside ([`schema`]), and the integration tests hold every answer against them.

pub(crate) mod schema;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::encode::arrow;
use crate::encode::format::Format;
use crate::limits;
use crate::params::{Kind, Parameter, Place};
use crate::problem::{self, Problem};
use crate::router::{COMMON_PROBLEMS, Content, OPERATIONS, Operation, PageRows};

/// The document for a service with this `DEFAULT_PAGE_SIZE`.
pub(crate) fn document(page_rows: u32) -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS.iter().filter(|operation| operation.documented) {
        paths.insert(operation.path.to_owned(), json!({"get": describe(operation, page_rows)}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lanecast telemetry",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "GPU telemetry over windows of time.",
            "description": "Times are RFC 3339; a time without a zone is refused. Errors are \
                            `application/problem+json` (RFC 9457). A next page is named by \
                            `next_cursor` and by `Link: rel=\"next\"`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "telemetry", "description": "What the fleet sent."},
            {"name": "service", "description": "How the service is."},
        ],
        "paths": paths,
        "components": {
            "schemas": schema::components(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The service's `AUTH_TOKEN`; not needed where it has none.",
                },
            },
        },
    })
}

/// The document as YAML.
pub(crate) fn yaml(document: &Value) -> String {
    serde_yaml_ng::to_string(document).expect("a JSON value is a YAML value")
}

fn describe(operation: &Operation, page_rows: u32) -> Value {
    let tag = if operation.guarded { "telemetry" } else { "service" };
    let mut described = Map::new();
    described.insert("operationId".into(), json!(operation_id(operation)));
    described.insert("summary".into(), json!(operation.summary));
    if !operation.about.is_empty() {
        described.insert("description".into(), json!(operation.about));
    }
    described.insert("tags".into(), json!([tag]));
    // `{}` beside the token: it is needed only where the service has one.
    let security = if operation.guarded { json!([{"token": []}, {}]) } else { json!([]) };
    described.insert("security".into(), security);
    let parameters: Vec<_> = operation
        .parameters
        .iter()
        .map(|parameter| describe_parameter(operation, parameter, page_rows))
        .collect();
    if !parameters.is_empty() {
        described.insert("parameters".into(), json!(parameters));
    }
    described.insert("responses".into(), responses(operation));
    Value::Object(described)
}

/// `/api/v1/gpus/{id}/telemetry` becomes `gpus_id_telemetry`.
fn operation_id(operation: &Operation) -> String {
    let path = operation.path.trim_start_matches("/api/v1").trim_start_matches('/');
    path.replace('/', "_").replace(['{', '}'], "")
}

fn describe_parameter(operation: &Operation, parameter: &Parameter, page_rows: u32) -> Value {
    let mut schema = value_schema(operation, &parameter.kind);
    if parameter.name == "limit" && operation.page_rows != PageRows::None {
        schema["default"] = json!(operation.page_rows.number(page_rows));
    }
    if parameter.place == Place::Path {
        // Not a bare index.
        schema["pattern"] = json!("[^0-9]");
    }
    if parameter.repeat {
        schema = json!({"type": "array", "items": schema, "maxItems": limits::REPEATS_MAX});
    }
    let mut described = json!({
        "name": parameter.name,
        "in": match parameter.place { Place::Path => "path", Place::Query => "query" },
        "required": parameter.place == Place::Path,
        "description": parameter.about,
        "schema": schema,
    });
    if parameter.repeat {
        described["style"] = json!("form");
        described["explode"] = json!(true);
    }
    if !parameter.example.is_empty() {
        let example = match parameter.kind {
            Kind::Whole { .. } => {
                json!(parameter.example.parse::<u64>().expect("tested: examples parse"))
            }
            Kind::Text { .. } | Kind::Choice { .. } | Kind::Time | Kind::Span | Kind::Format => {
                json!(parameter.example)
            }
        };
        // Beside the schema for a path, where Swagger UI fills it in; within the schema for a query,
        // where filling it in would narrow every trial.
        let example = if parameter.repeat { json!([example]) } else { example };
        match parameter.place {
            Place::Path => described["example"] = example,
            Place::Query => described["schema"]["examples"] = json!([example]),
        }
    }
    described
}

fn value_schema(operation: &Operation, kind: &Kind) -> Value {
    match kind {
        Kind::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Text { chars_max } => {
            json!({"type": "string", "minLength": 1, "maxLength": chars_max})
        }
        Kind::Choice { of } => json!({"type": "string", "enum": of}),
        Kind::Time | Kind::Span => {
            json!({"type": "string", "minLength": 1, "maxLength": limits::TIME_CHARS_MAX})
        }
        Kind::Format => {
            let names: Vec<_> =
                operation.content.formats().iter().map(|format| format.name()).collect();
            json!({"type": "string", "enum": names})
        }
    }
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    let mut ok = json!({"description": "The answer.", "content": content(operation.content)});
    if operation.page_rows != PageRows::None {
        ok["headers"] = json!({
            "Link": {
                "description": "The next page, with `rel=\"next\"`; absent on the last.",
                "schema": {"type": "string"},
            },
        });
    }
    if matches!(operation.content, Content::Samples | Content::Series) {
        ok["headers"]["ETag"] = json!({
            "description": "Only where the window is closed: it ended long enough ago.",
            "schema": {"type": "string"},
        });
        responses.insert("304".into(), json!({"description": "`If-None-Match` has the `ETag`."}));
    }
    responses.insert("200".into(), ok);
    let mut kinds: BTreeMap<u16, Vec<problem::Kind>> = BTreeMap::new();
    for kind in operation.problems.iter().chain(&COMMON_PROBLEMS) {
        kinds.entry(kind.status().as_u16()).or_default().push(*kind);
    }
    for (status, kinds) in kinds {
        responses.insert(status.to_string(), problem_response(operation, &kinds));
    }
    Value::Object(responses)
}

fn problem_response(operation: &Operation, kinds: &[problem::Kind]) -> Value {
    let titles: Vec<_> = kinds.iter().map(|kind| kind.title()).collect();
    let examples: Map<String, Value> = kinds
        .iter()
        .map(|kind| {
            let name = kind.uri().rsplit(':').next().unwrap_or_default().to_owned();
            let answer = Problem::new(*kind, kind.title()).answer(operation.path, "5f3a9c01-17");
            let value: Value =
                serde_json::from_slice(&answer.body).expect("problems are written as JSON");
            (name, json!({"value": value}))
        })
        .collect();
    json!({
        "description": format!("{}.", titles.join(". Or: ")),
        "content": {
            problem::MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": examples,
            },
        },
    })
}

fn content(content: Content) -> Value {
    let of = |name: &str| {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        json!({"schema": schema, "example": schema::example(name)})
    };
    let text = |about: &str| json!({"schema": {"type": "string", "description": about}});
    match content {
        Content::GpuList => json!({Format::Json.essence(): of("GpuList")}),
        Content::Gpu => json!({Format::Json.essence(): of("Gpu")}),
        Content::Probe => json!({Format::Json.essence(): of("Probe")}),
        Content::Text | Content::Document => json!({"text/plain": {"schema": {"type": "string"}}}),
        Content::Series => json!({
            Format::Json.essence(): of("SeriesList"),
            Format::Ndjson.essence(): text("`timestamp, metric, agg, value` of a point on each line."),
            Format::Csv.essence(): text("A line of column names, then one line for each point."),
        }),
        Content::Samples => {
            let media = content.formats().iter().map(|format| {
                let described = match format {
                    Format::Json => of("SampleList"),
                    Format::Ndjson => text("One item of `SampleList` on each line."),
                    Format::Csv => text("A line of column names, then one line for each item."),
                    Format::Arrow => json!({"schema": {
                        "type": "string", "format": "binary", "description": arrow::describe(),
                    }}),
                };
                (format.essence().to_owned(), described)
            });
            Value::Object(media.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Arguments;

    fn validator(name: &str) -> jsonschema::Validator {
        let mut root = json!({"$ref": format!("#/components/schemas/{name}")});
        root["components"] = json!({"schemas": schema::components()});
        jsonschema::draft202012::options().should_validate_formats(true).build(&root).unwrap()
    }

    #[test]
    fn every_documented_answer_example_fits_its_schema() {
        let document = document(100);
        let mut checked = 0;
        for path in document["paths"].as_object().unwrap().values() {
            for response in path["get"]["responses"].as_object().unwrap().values() {
                let Some(content) = response["content"].as_object() else { continue };
                for media in content.values() {
                    let Some(name) = media["schema"]["$ref"].as_str() else { continue };
                    let validator = validator(name.rsplit('/').next().unwrap());
                    let named = media["examples"].as_object().into_iter().flatten();
                    let examples = named.map(|(_, example)| &example["value"]);
                    for example in examples.chain(media.get("example")) {
                        let errors: Vec<_> =
                            validator.iter_errors(example).map(|e| e.to_string()).collect();
                        assert!(errors.is_empty(), "{name}: {errors:?}\n{example}");
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 30, "{checked}");
    }

    #[test]
    fn every_parameter_example_is_taken_by_the_parser() {
        for operation in &OPERATIONS {
            for parameter in operation.parameters {
                if parameter.place == Place::Path || parameter.example.is_empty() {
                    continue;
                }
                let query = format!("{}={}", parameter.name, parameter.example);
                let parsed = Arguments::parse(Some(&query), operation.parameters);
                assert!(parsed.is_ok(), "{query}: {parsed:?}");
            }
        }
    }

    #[test]
    fn document_names_every_parameter_that_the_parser_knows() {
        let document = document(123);
        for operation in OPERATIONS.iter().filter(|operation| operation.documented) {
            let described = &document["paths"][operation.path]["get"];
            let names: Vec<_> = described["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let known: Vec<_> = operation.parameters.iter().map(|p| p.name).collect();
            assert_eq!(names, known);
        }
        let telemetry = &document["paths"]["/api/v1/gpus/{id}/telemetry"]["get"]["parameters"];
        let limit = telemetry.as_array().unwrap().iter().find(|p| p["name"] == "limit").unwrap();
        assert_eq!(limit["schema"]["default"], 123);
    }

    #[test]
    fn operation_ids_are_unique() {
        let ids: std::collections::BTreeSet<_> =
            OPERATIONS.iter().filter(|operation| operation.documented).map(operation_id).collect();
        assert_eq!(ids.len(), OPERATIONS.iter().filter(|o| o.documented).count());
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let document = document(100);
        let read: Value = serde_yaml_ng::from_str(&yaml(&document)).unwrap();
        assert_eq!(read, document);
    }
}
