//! One block, one INSERT, one token.

use bytes::Bytes;

use crate::block::COLUMNS;
use crate::error::StoreError;
use crate::limits;
use crate::{InsertToken, Store};

/// Sends the block whole.
///
/// What the settings are for: an asynchronous insert would be answered before it is stored and
/// forgets the token's meaning; without the view setting a retried token doubles every roll-up;
/// and the block settings keep one chunk one block, which is what a token stands for.
pub(crate) async fn run(
    store: &Store,
    token: &InsertToken,
    block: Bytes,
) -> Result<(), StoreError> {
    let answer = store.insert_timeout();
    let mut insert = store
        .client()
        .insert_formatted_with(statement(store))
        .with_setting("async_insert", "0")
        .with_setting("insert_deduplicate", "1")
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        .with_setting("insert_deduplication_token", token.to_string())
        .with_setting("max_insert_block_size", limits::BLOCK_ROWS_MAX.to_string())
        .with_setting("min_insert_block_size_rows", limits::BLOCK_ROWS_MAX.to_string())
        .with_setting("min_insert_block_size_bytes", "0")
        .with_setting("max_partitions_per_insert_block", limits::BLOCK_PARTITIONS_MAX.to_string())
        .with_timeouts(Some(limits::INSERT_SEND_TIMEOUT.min(answer)), Some(answer));
    insert.send(block).await.map_err(|error| store.error(&error))?;
    insert.end().await.map_err(|error| store.error(&error))
}

fn statement(store: &Store) -> String {
    let mut sql = format!("INSERT INTO {}.telemetry (", store.database());
    for (index, column) in COLUMNS.iter().enumerate() {
        if index > 0 {
            sql.push_str(", ");
        }
        sql.push_str(column.name);
    }
    sql.push_str(") FORMAT Native");
    sql
}
