//! What a broker tells on its admin port, as far as a bench has to know it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde::Deserialize;

use crate::Error;
use crate::limits::ANSWER_MAX;

#[derive(Debug, Deserialize)]
pub struct Stats {
    pub shards: Vec<ShardStats>,
    pub topics: Vec<TopicStats>,
}

#[derive(Debug, Deserialize)]
pub struct ShardStats {
    /// Since the start.
    pub connections_accepted: u64,
}

#[derive(Debug, Deserialize)]
pub struct TopicStats {
    pub name: String,
    pub partitions: Vec<PartitionStats>,
}

#[derive(Debug, Deserialize)]
pub struct PartitionStats {
    pub shard: usize,
}

impl Stats {
    /// Asks the broker whose admin port this is.
    ///
    /// # Errors
    /// It does not answer, or with something else.
    pub fn ask(admin: SocketAddr) -> Result<Self, Error> {
        let answer =
            get(admin, "/stats").map_err(Error::io(format!("asking {admin} for /stats")))?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or(("", &answer));
        serde_json::from_str(body).map_err(|error| Error::Protocol {
            system: "lanecast",
            detail: format!("/stats: {error}: {body}"),
        })
    }

    /// Connections that each shard has accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.connections_accepted).collect()
    }
}

/// HTTP/1.0: the answer ends with the connection, and is never chunked.
fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
