//! What a broker is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lanecast_core::group::limits::CHUNKS_OUT_PER_GROUP_DEFAULT;
use lanecast_core::limits as core;
use lanecast_wire::message::DeliveryMode;

/// Settings of a broker on this machine.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where clients connect. Port 0 picks a free one; see [`Broker::addr`](crate::Broker::addr).
    pub bind: SocketAddr,
    /// Where probes, statistics and metrics are served over HTTP.
    pub admin_bind: SocketAddr,
    /// Everything durable is in here. Made if there is none.
    pub data_dir: PathBuf,
    /// Shards, each an executor pinned to a core. `None`: one per core that this process may use.
    pub shards: Option<u16>,
    /// Memory that the broker may use for what its clients make it hold, see
    /// [`lanecast_core::Budget`]; 0: by the number of shards. What is less than shards need is made
    /// up to that.
    pub memory_bytes: u64,
    /// Subscriptions that connections may hold, on all shards together.
    pub max_consumers: u32,
    /// Chunks of one consumer group that are out on lease at a time in each partition, at most
    /// [`lanecast_core::group::limits::CHUNKS_OUT_PER_GROUP_MAX`].
    pub group_chunks_out: u32,
    /// What one client (by the name it gives) may send, and be sent, in a second on each shard. 0:
    /// without limit. Who wants more waits.
    pub client_bytes_per_second: u64,
    pub client_records_per_second: u64,
    /// The mode of subscriptions that name none.
    pub default_mode: DeliveryMode,
    /// The credit of subscriptions that name none, in bytes per partition.
    pub default_credit_bytes: u32,
    /// Size of a data log's segment files: a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Size of the segment files of group logs and of the catalog: a multiple of 4 KiB.
    pub groups_segment_bytes: u64,
    /// How long a drain may take; then the broker stops as it is. Nothing acknowledged is lost.
    pub drain_grace: Duration,
    /// Wake every executor at least this often. Only of use to test that executors wake at all.
    pub tick: Option<Duration>,
    /// Poke executors that give no sign of life. Off only to test executors without it.
    pub watchdog: bool,
}

impl BrokerConfig {
    /// The settings of a broker that nobody configured: loopback, free ports, all cores.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        BrokerConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data_dir.into(),
            shards: None,
            memory_bytes: 0,
            max_consumers: core::CONSUMERS_DEFAULT,
            group_chunks_out: CHUNKS_OUT_PER_GROUP_DEFAULT,
            client_bytes_per_second: 0,
            client_records_per_second: 0,
            default_mode: DeliveryMode::Queue,
            default_credit_bytes: core::CREDIT_BYTES_DEFAULT,
            segment_bytes: core::SEGMENT_BYTES_DEFAULT,
            groups_segment_bytes: core::GROUPS_SEGMENT_BYTES_DEFAULT,
            drain_grace: Duration::from_secs(20),
            tick: None,
            watchdog: true,
        }
    }
}
