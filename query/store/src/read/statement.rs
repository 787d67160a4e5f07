//! A statement while it is put together.

use clickhouse::query::Query;
use serde::Serialize;

use super::Reader;

/// Conditions and the parameters that they name.
#[derive(Default)]
pub(super) struct Statement {
    conditions: Vec<&'static str>,
    parameters: Vec<(&'static str, Parameter)>,
}

/// A value for a `{name:Type}` in a statement.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Parameter {
    Int(i64),
    Unsigned(u64),
    Text(String),
    Texts(Vec<String>),
}

impl From<i64> for Parameter {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Parameter {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<&str> for Parameter {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&[String]> for Parameter {
    fn from(value: &[String]) -> Self {
        Self::Texts(value.to_vec())
    }
}

impl Statement {
    pub(super) fn parameter(&mut self, name: &'static str, value: impl Into<Parameter>) {
        self.parameters.push((name, value.into()));
    }

    /// Adds a condition with its one parameter.
    pub(super) fn condition(
        &mut self,
        condition: &'static str,
        name: &'static str,
        value: impl Into<Parameter>,
    ) {
        self.conditions.push(condition);
        self.parameter(name, value);
    }

    /// The conditions as a WHERE clause, empty if there are none.
    pub(super) fn filter(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        }
    }

    /// As [`filter`](Self::filter), of the conditions so far; those to come stand alone.
    pub(super) fn take_filter(&mut self) -> String {
        let filter = self.filter();
        self.conditions.clear();
        filter
    }

    /// The query of this text with the parameters set.
    pub(super) fn query(self, reader: &Reader, sql: &str) -> Query {
        let query = reader.client.0.query(sql);
        self.parameters.into_iter().fold(query, |query, (name, value)| query.param(name, value))
    }
}
