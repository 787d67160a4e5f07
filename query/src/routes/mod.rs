//! What each operation answers.

pub(crate) mod documents;
pub(crate) mod gpu;
pub(crate) mod gpus;
pub(crate) mod probes;
pub(crate) mod series;
pub(crate) mod telemetry;

use hyper::header::{HeaderName, HeaderValue, LINK};
use lanecast_store::read::{Direction, Gpu};

use crate::params::gpu_id::GpuId;
use crate::params::window::Ends;
use crate::params::{ParameterError, Sort, table};
use crate::problem::{Kind, Problem};
use crate::service::{Asked, Failure, Service};

impl From<Sort> for Direction {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Ascending => Self::Ascending,
            Sort::Descending => Self::Descending,
        }
    }
}

impl Asked<'_> {
    /// The GPU that the path names.
    fn gpu_id(&self) -> Result<GpuId, ParameterError> {
        GpuId::parse(self.id.expect("the router gives an id to every path that has one"))
    }

    /// The window that the question is about.
    fn ends(&self) -> Result<Ends, ParameterError> {
        Ends::resolve(
            self.arguments.time(&table::START_TIME),
            self.arguments.time(&table::END_TIME),
            self.arguments.span(&table::WINDOW),
            self.now,
        )
    }

    /// A `Link` header that leads to the next page: this request with another cursor.
    fn next_link(&self, cursor: &str) -> (HeaderName, HeaderValue) {
        let others = self
            .uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter(|pair| !matches!(pair.split('=').next(), Some("cursor" | "page")));
        let mut target = format!("<{}?", escaped(self.uri.path()));
        for pair in others {
            target.push_str(&escaped(pair));
            target.push('&');
        }
        target.push_str("cursor=");
        target.push_str(cursor);
        target.push_str(">; rel=\"next\"");
        let value = HeaderValue::from_str(&target).expect("escaped, and so visible ASCII");
        (LINK, value)
    }
}

/// A part of a URI as a header may hold it: hyper takes raw UTF-8 in a path or query, which is
/// percent-encoded here, as are the characters that would end the link.
fn escaped(part: &str) -> String {
    let mut escaped = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

impl Service {
    /// Looks up a GPU: by uuid first, since an id in the wild may have the form of a slot.
    async fn find(&self, id: &GpuId) -> Result<Gpu, Failure> {
        if let Some(gpu) = self.reader.gpu(&id.uuid).await? {
            return Ok(gpu);
        }
        if let Some(slot) = &id.slot
            && let Some(gpu) = self.reader.gpu_in_slot(&slot.hostname, slot.index).await?
        {
            return Ok(gpu);
        }
        let detail = "no sample of such a GPU is stored; /api/v1/gpus lists those that are";
        Err(Problem::new(Kind::UnknownGpu, detail).into())
    }
}
