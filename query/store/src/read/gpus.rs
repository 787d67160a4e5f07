//! What is known of each GPU, from the `gpus` aggregate table.

use clickhouse::Row;
use serde::Deserialize;

use super::statement::Statement;
use super::{Direction, Reader};
use crate::error::StoreError;

/// One GPU as of its newest sample.
#[derive(Clone, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct Gpu {
    pub gpu_uuid: String,
    pub hostname: String,
    pub gpu_index: u32,
    pub device: String,
    pub model: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// Time of the oldest and newest sample, milliseconds since 1970.
    pub first_seen: i64,
    pub last_seen: i64,
}

/// Which GPUs; an empty list admits all.
#[derive(Clone, Debug, Default)]
pub struct GpuFilter {
    pub hostnames: Vec<String>,
    pub models: Vec<String>,
    pub namespaces: Vec<String>,
    pub pods: Vec<String>,
    /// Newest sample at or after this, milliseconds since 1970.
    pub active_since_ms: Option<i64>,
}

/// Which of them, in the order of their uuids.
#[derive(Clone, Debug)]
pub struct GpuPage {
    pub direction: Direction,
    /// Only GPUs beyond this uuid in the direction of the order.
    pub after: Option<String>,
    pub limit: u32,
    pub offset: u32,
}

const GPUS: &str = "(SELECT g.gpu_uuid AS gpu_uuid, argMaxMerge(g.hostname) AS hostname, \
     argMaxMerge(g.gpu_index) AS gpu_index, argMaxMerge(g.device) AS device, \
     argMaxMerge(g.model) AS model, argMaxMerge(g.namespace) AS namespace, \
     argMaxMerge(g.pod) AS pod, argMaxMerge(g.container) AS container, \
     min(g.first_seen) AS first_seen, max(g.last_seen) AS last_seen \
     FROM gpus AS g GROUP BY g.gpu_uuid)";

impl GpuFilter {
    fn statement(&self) -> Statement {
        let mut statement = Statement::default();
        let lists = [
            ("has({hostnames:Array(String)}, hostname)", "hostnames", &self.hostnames),
            ("has({models:Array(String)}, model)", "models", &self.models),
            ("has({namespaces:Array(String)}, namespace)", "namespaces", &self.namespaces),
            ("has({pods:Array(String)}, pod)", "pods", &self.pods),
        ];
        for (condition, name, values) in lists {
            if !values.is_empty() {
                statement.condition(condition, name, values.as_slice());
            }
        }
        if let Some(since_ms) = self.active_since_ms {
            statement.condition(
                "last_seen >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')",
                "since",
                since_ms,
            );
        }
        statement
    }
}

impl Reader {
    /// GPUs in the order of their uuids.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn gpus(&self, filter: &GpuFilter, page: &GpuPage) -> Result<Vec<Gpu>, StoreError> {
        let mut statement = filter.statement();
        let (beyond, order) = match page.direction {
            Direction::Ascending => ("gpu_uuid > {after:String}", "ASC"),
            Direction::Descending => ("gpu_uuid < {after:String}", "DESC"),
        };
        if let Some(after) = &page.after {
            statement.condition(beyond, "after", after.as_str());
        }
        statement.parameter("limit", u64::from(page.limit));
        statement.parameter("offset", u64::from(page.offset));
        let sql = format!(
            "SELECT ?fields FROM {GPUS}{} ORDER BY gpu_uuid {order} \
             LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
            statement.filter()
        );
        let rows = statement.query(self, &sql).fetch_all().await;
        rows.map_err(|error| self.store.error(&error))
    }

    /// How many GPUs there are.
    ///
    /// # Errors
    /// As [`gpus`](Self::gpus).
    pub async fn gpu_count(&self, filter: &GpuFilter) -> Result<u64, StoreError> {
        let statement = filter.statement();
        let sql = format!("SELECT count() FROM {GPUS}{}", statement.filter());
        let count = statement.query(self, &sql).fetch_one().await;
        count.map_err(|error| self.store.error(&error))
    }

    /// The GPU of this uuid.
    ///
    /// # Errors
    /// As [`gpus`](Self::gpus).
    pub async fn gpu(&self, uuid: &str) -> Result<Option<Gpu>, StoreError> {
        let mut statement = Statement::default();
        statement.condition("gpu_uuid = {uuid:String}", "uuid", uuid);
        self.one_gpu(statement).await
    }

    /// The GPU last seen as number `index` of a host. A replaced GPU's slot is its successor's.
    ///
    /// # Errors
    /// As [`gpus`](Self::gpus).
    pub async fn gpu_in_slot(&self, hostname: &str, index: u32) -> Result<Option<Gpu>, StoreError> {
        let mut statement = Statement::default();
        statement.condition("hostname = {hostname:String}", "hostname", hostname);
        statement.condition("gpu_index = {index:UInt32}", "index", u64::from(index));
        self.one_gpu(statement).await
    }

    async fn one_gpu(&self, statement: Statement) -> Result<Option<Gpu>, StoreError> {
        let sql = format!(
            "SELECT ?fields FROM {GPUS}{} ORDER BY last_seen DESC, gpu_uuid LIMIT 1",
            statement.filter()
        );
        let row = statement.query(self, &sql).fetch_optional().await;
        row.map_err(|error| self.store.error(&error))
    }
}
