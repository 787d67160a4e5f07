//! The operations of the service, declared once: paths, parameters and answers. The table routes
//! requests, tells the parser which parameters are known, and is the OpenAPI document.

use hyper::Method;

use crate::encode::format::{Format, JSON_ONLY, SAMPLE_FORMATS, SERIES_FORMATS};
use crate::limits;
use crate::params::{Parameter, table};
use crate::problem::Kind;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Route {
    Gpus,
    Gpu,
    Telemetry,
    Series,
    Alive,
    Ready,
    Metrics,
    OpenapiJson,
    OpenapiYaml,
    Landing,
    SwaggerRedirect,
    SwaggerPage,
    SwaggerStart,
    SwaggerScript,
    SwaggerStyle,
    SwaggerIcon,
}

/// One operation: GET on a path.
#[derive(Debug)]
pub(crate) struct Operation {
    pub route: Route,
    /// `{id}` stands for one segment.
    pub path: &'static str,
    /// Part of the API, and so in the OpenAPI document?
    pub documented: bool,
    /// Does it need the token?
    pub guarded: bool,
    pub summary: &'static str,
    pub about: &'static str,
    pub parameters: &'static [&'static Parameter],
    /// Rows in a page unless `limit` says otherwise.
    pub page_rows: PageRows,
    pub content: Content,
    pub problems: &'static [Kind],
}

/// How many rows a page has by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageRows {
    /// There are no pages.
    None,
    Fixed(u32),
    /// `DEFAULT_PAGE_SIZE`.
    Configured,
}

impl PageRows {
    pub(crate) fn number(self, configured: u32) -> u32 {
        match self {
            Self::None => 1,
            Self::Fixed(rows) => rows,
            Self::Configured => configured,
        }
    }
}

/// What a successful answer contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The list of GPUs in JSON.
    GpuList,
    Gpu,
    /// A page of samples in one of the sample formats.
    Samples,
    /// Series in one of the series formats.
    Series,
    /// A word or a few.
    Probe,
    Text,
    Document,
}

impl Content {
    /// The formats to choose from; empty where there is only one and nothing is negotiated.
    pub(crate) fn formats(self) -> &'static [Format] {
        match self {
            Self::GpuList | Self::Gpu => JSON_ONLY,
            Self::Samples => SAMPLE_FORMATS,
            Self::Series => SERIES_FORMATS,
            Self::Probe | Self::Text | Self::Document => &[],
        }
    }
}

/// Problems that any operation may answer, before it is even looked at.
pub(crate) const COMMON_PROBLEMS: [Kind; 6] = [
    Kind::BadRequest,
    Kind::RequestTimeout,
    Kind::BodyTooLarge,
    Kind::UriTooLong,
    Kind::HeadersTooLarge,
    Kind::Internal,
];

const LIST_PROBLEMS: &[Kind] = &[
    Kind::InvalidParameter,
    Kind::UnknownParameter,
    Kind::Unauthorized,
    Kind::NotAcceptable,
    Kind::Overloaded,
    Kind::StoreUnavailable,
];

const GPU_PROBLEMS: &[Kind] = &[
    Kind::InvalidParameter,
    Kind::UnknownParameter,
    Kind::Unauthorized,
    Kind::UnknownGpu,
    Kind::NotAcceptable,
    Kind::Overloaded,
    Kind::StoreUnavailable,
];

const fn probe(route: Route, path: &'static str, summary: &'static str) -> Operation {
    Operation {
        route,
        path,
        documented: true,
        guarded: false,
        summary,
        about: "",
        parameters: &[],
        page_rows: PageRows::None,
        content: Content::Probe,
        problems: &[],
    }
}

const fn ready(path: &'static str) -> Operation {
    Operation {
        problems: &[Kind::StoreUnavailable],
        ..probe(Route::Ready, path, "Can questions be answered?")
    }
}

const fn page(route: Route, path: &'static str) -> Operation {
    Operation {
        route,
        path,
        documented: false,
        guarded: false,
        summary: "",
        about: "",
        parameters: &[],
        page_rows: PageRows::None,
        content: Content::Document,
        problems: &[],
    }
}

pub(crate) static OPERATIONS: [Operation; 19] = [
    Operation {
        route: Route::Gpus,
        path: "/api/v1/gpus",
        documented: true,
        guarded: true,
        summary: "List GPUs",
        about: "Every GPU that ever sent a sample, in the order of their ids, a page at a time. \
                `items` has the ids alone. Identity is as of a GPU's newest sample.",
        parameters: &[
            &table::LIMIT,
            &table::PAGE,
            &table::SORT,
            &table::CURSOR,
            &table::HOST,
            &table::MODEL,
            &table::NAMESPACE,
            &table::POD,
            &table::ACTIVE_SINCE,
            &table::FIELDS,
        ],
        page_rows: PageRows::Fixed(limits::GPU_PAGE_ROWS_DEFAULT),
        content: Content::GpuList,
        problems: LIST_PROBLEMS,
    },
    Operation {
        route: Route::Gpu,
        path: "/api/v1/gpus/{id}",
        documented: true,
        guarded: true,
        summary: "Show one GPU",
        about: "What is known of the GPU, and the newest value of each of its metrics.",
        parameters: &[&table::ID],
        page_rows: PageRows::None,
        content: Content::Gpu,
        problems: GPU_PROBLEMS,
    },
    Operation {
        route: Route::Telemetry,
        path: "/api/v1/gpus/{id}/telemetry",
        documented: true,
        guarded: true,
        summary: "List the telemetry of a GPU",
        about: "Samples in a window of time, both ends included, in the order of timestamp and \
                metric name, a page at a time. Without a window, all that is stored. A walk by \
                cursor neither loses nor repeats a sample while others are added. A known GPU \
                without samples in the window has an empty list.",
        parameters: &[
            &table::ID,
            &table::START_TIME,
            &table::END_TIME,
            &table::WINDOW,
            &table::LIMIT,
            &table::PAGE,
            &table::SORT,
            &table::CURSOR,
            &table::METRIC,
            &table::FORMAT,
            &table::INCLUDE,
            &table::COUNT,
        ],
        page_rows: PageRows::Configured,
        content: Content::Samples,
        problems: GPU_PROBLEMS,
    },
    Operation {
        route: Route::Series,
        path: "/api/v1/gpus/{id}/series",
        documented: true,
        guarded: true,
        summary: "Show the telemetry of a GPU as series",
        about: "One value for each metric and bucket of time. Buckets are half-open, aligned to \
                1970-01-01T00:00:00Z and named by their starts. `start_time` is in the window and \
                `end_time` is not; every bucket that the window touches is shown whole, so that a \
                value does not depend on the window. A missing start is that of the GPU's oldest \
                sample, a missing end that of its newest. `resolution` says what the answer was \
                made from: the samples (`raw`), or a roll-up (`1m`, `1h`) where that gives the \
                same answer, which is also there for times whose samples are not kept any more. \
                Metrics without a value in the window are left out; of two samples of a series \
                in one millisecond either may be the `last`. A known GPU with nothing in the \
                window has empty lists.",
        parameters: &[
            &table::ID,
            &table::METRIC,
            &table::START_TIME,
            &table::SERIES_END_TIME,
            &table::WINDOW,
            &table::STEP,
            &table::MAX_POINTS,
            &table::AGG,
            &table::FILL,
            &table::SERIES_FORMAT,
        ],
        page_rows: PageRows::None,
        content: Content::Series,
        problems: GPU_PROBLEMS,
    },
    probe(Route::Alive, "/healthz", "Is the process alive?"),
    probe(Route::Alive, "/livez", "Is the process alive?"),
    ready("/ready"),
    ready("/readyz"),
    Operation {
        content: Content::Text,
        ..probe(Route::Metrics, "/metrics", "Counts of the service, for Prometheus")
    },
    page(Route::OpenapiJson, "/openapi.json"),
    page(Route::OpenapiYaml, "/openapi.yaml"),
    page(Route::Landing, "/"),
    page(Route::SwaggerRedirect, "/swagger"),
    page(Route::SwaggerPage, "/swagger/"),
    page(Route::SwaggerPage, "/swagger/index.html"),
    page(Route::SwaggerStart, "/swagger/start.js"),
    page(Route::SwaggerScript, "/swagger/swagger-ui-bundle.js"),
    page(Route::SwaggerStyle, "/swagger/swagger-ui.css"),
    page(Route::SwaggerIcon, "/swagger/favicon-32x32.png"),
];

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Match<'a> {
    Operation {
        operation: &'static Operation,
        id: Option<&'a str>,
    },
    /// OPTIONS, on a path that exists or on `*`.
    Options,
    MethodNotAllowed(&'static Operation),
    NotFound,
}

/// Finds the operation of a request; the id is still percent-encoded.
pub(crate) fn route<'a>(method: &Method, path: &'a str) -> Match<'a> {
    let found = OPERATIONS
        .iter()
        .find_map(|operation| segments_match(operation.path, path).map(|id| (operation, id)));
    match found {
        None if *method == Method::OPTIONS && path == "*" => Match::Options,
        None => Match::NotFound,
        Some((operation, id)) => match *method {
            Method::GET | Method::HEAD => Match::Operation { operation, id },
            Method::OPTIONS => Match::Options,
            _ => Match::MethodNotAllowed(operation),
        },
    }
}

/// The id in `path`, if it has the form of `template` at all.
fn segments_match<'a>(template: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, after)) = template.split_once("{id}") else {
        return (template == path).then_some(None);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn found(path: &str) -> Option<(Route, Option<&str>)> {
        match route(&Method::GET, path) {
            Match::Operation { operation, id } => Some((operation.route, id)),
            Match::Options | Match::MethodNotAllowed(_) | Match::NotFound => None,
        }
    }

    #[test]
    fn paths_lead_to_their_operations() {
        assert_eq!(found("/api/v1/gpus"), Some((Route::Gpus, None)));
        assert_eq!(found("/api/v1/gpus/GPU-1"), Some((Route::Gpu, Some("GPU-1"))));
        assert_eq!(found("/api/v1/gpus/h:1/telemetry"), Some((Route::Telemetry, Some("h:1"))));
        assert_eq!(found("/api/v1/gpus/a%2Fb/telemetry"), Some((Route::Telemetry, Some("a%2Fb"))));
        assert_eq!(found("/api/v1/gpus/GPU-1/series"), Some((Route::Series, Some("GPU-1"))));
        assert_eq!(found("/swagger/favicon-32x32.png"), Some((Route::SwaggerIcon, None)));
        for path in [
            "",
            "/api",
            "/api/v1/gpus/",
            "/api/v1/gpus//telemetry",
            "/api/v1/gpus/a/b",
            "/api/v1/gpus/a/telemetry/",
            "/API/v1/gpus",
            "/swagger/../etc/passwd",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn other_methods_are_told_what_is_allowed() {
        assert!(matches!(route(&Method::POST, "/api/v1/gpus"), Match::MethodNotAllowed(_)));
        assert!(matches!(route(&Method::POST, "/nowhere"), Match::NotFound));
        assert!(matches!(route(&Method::OPTIONS, "/api/v1/gpus"), Match::Options));
        assert!(matches!(route(&Method::OPTIONS, "*"), Match::Options));
        assert!(matches!(route(&Method::HEAD, "/"), Match::Operation { .. }));
    }

    #[test]
    fn table_has_each_path_and_each_parameter_name_once() {
        let paths: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.path).collect();
        assert_eq!(paths.len(), OPERATIONS.len());
        for operation in &OPERATIONS {
            let names: BTreeSet<_> = operation.parameters.iter().map(|p| p.name).collect();
            assert_eq!(names.len(), operation.parameters.len(), "{}", operation.path);
            assert_eq!(operation.path.contains("{id}"), names.contains("id"), "{}", operation.path);
        }
    }
}
