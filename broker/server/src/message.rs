//! What goes over a ring between two executors.

use lanecast_core::{Migrant, ShardMessage};

use crate::connection::Connection;

/// Its tag is in that of the core's message: it is moved as one.
pub(crate) enum Message {
    Core(ShardMessage),
    Connection(Box<Moving>),
}

/// A client's connection on its way to the executor that has its partition.
pub(crate) struct Moving {
    pub(crate) connection: Connection,
    pub(crate) migrant: Box<Migrant>,
}

const _: () = assert!(size_of::<Message>() == size_of::<ShardMessage>());
