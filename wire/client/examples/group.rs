//! Works through a topic as a member of a consumer group. Start it several times: members share
//! the chunks, and the chunks of one that dies go to the others.
//!
//! ```text
//! cargo run -p lanecast-client --example group -- 127.0.0.1:9080 greetings workers
//! ```

use std::io::Write;
use std::time::Duration;

use lanecast_client::{
    AckError, Chunk, Client, ClientConfig, Delivery, GroupOptions, Mode, StartPosition, Subscriber,
    SubscriberConfig,
};
use lanecast_wire::batch;
use lanecast_wire::generic::GenericView;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr = arguments.next().unwrap_or_else(|| "127.0.0.1:9080".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "greetings".to_owned());
    let group = arguments.next().unwrap_or_else(|| "workers".to_owned());

    let client = Client::connect(ClientConfig::new(addr, "example-group")).await?;
    let options = GroupOptions { chunk_records: 1_000, ..GroupOptions::new(group) };
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(topic, Mode::Group(options))
    };
    let mut subscriber = Subscriber::open(&client, config).await?;
    loop {
        let Delivery::Chunk(chunk) = subscriber.next().await? else { continue };
        // The bounds of a chunk never change: whoever stores its effect under this name, stores it
        // once, however often the chunk comes.
        let name = format!("{}/{}/{}-{}", chunk.topic, chunk.partition, chunk.first, chunk.last);
        let settled = match work(&chunk) {
            Ok(bytes) => {
                writeln!(std::io::stdout(), "{name}: {bytes} bytes, attempt {}", chunk.attempt)?;
                chunk.ack().await
            }
            Err(reason) => chunk.nack(Duration::from_secs(1), &reason).await,
        };
        match settled {
            Ok(()) => {}
            // Somebody else has it, or it comes again.
            Err(AckError::LeaseLost | AckError::Unknown) => eprintln!("{name}: lease lost"),
            Err(error @ (AckError::Refused { .. } | AckError::Closed)) => return Err(error.into()),
        }
    }
}

/// Payload bytes of the chunk's messages.
fn work(chunk: &Chunk) -> Result<usize, String> {
    let mut bytes = 0;
    for (header, batch) in chunk.batches() {
        let view = GenericView::open(batch::body(&batch), header.record_count)
            .map_err(|error| error.to_string())?;
        bytes += view.iter().map(|message| message.payload.len()).sum::<usize>();
    }
    Ok(bytes)
}
