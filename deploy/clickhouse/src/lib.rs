//! ClickHouse's HTTP interface over libchdb.
