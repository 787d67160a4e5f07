//! Prints every generic message of a topic, from its beginning.
//!
//! ```text
//! cargo run -p lanecast-client --example subscribe -- 127.0.0.1:9080 greetings
//! ```

use std::io::Write;

use lanecast_client::{
    Client, ClientConfig, Delivery, Mode, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_wire::batch;
use lanecast_wire::generic::GenericView;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr = arguments.next().unwrap_or_else(|| "127.0.0.1:9080".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "greetings".to_owned());

    let client = Client::connect(ClientConfig::new(addr, "example-subscribe")).await?;
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(topic, Mode::Broadcast)
    };
    let mut subscriber = Subscriber::open(&client, config).await?;
    let mut out = std::io::stdout().lock();
    loop {
        match subscriber.next().await? {
            Delivery::Batches(batches) => {
                for item in batch::iter(&batches.payload) {
                    let (header, bytes) = item?;
                    if header.schema != batch::schema::GENERIC {
                        continue;
                    }
                    // The messages are read where they lie in the receive buffer.
                    let view = GenericView::open(batch::body(&bytes), header.record_count)?;
                    for (offset, message) in (header.base_offset.0..).zip(view.iter()) {
                        let payload = String::from_utf8_lossy(message.payload);
                        writeln!(out, "{}/{offset}: {payload}", batches.partition)?;
                    }
                }
                // Credit goes back to the broker when `batches` is dropped here.
            }
            Delivery::Missed { partition, first, last, reason } => {
                writeln!(out, "{partition}/{first}-{last}: not delivered: {reason:?}")?;
            }
            Delivery::Skipped { .. } => {}
            Delivery::Chunk(_) => unreachable!("chunks come to members of a group"),
        }
        out.flush()?;
    }
}
