//! Publishes lines of standard input as generic messages.
//!
//! ```text
//! seq 1000 | cargo run -p lanecast-client --example publish -- 127.0.0.1:9080 greetings
//! ```

use std::io::BufRead;

use lanecast_client::{Client, ClientConfig, CreateTopic, Producer, ProducerConfig, TopicSettings};
use lanecast_wire::generic::{GenericBuilder, Headers, Message};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr = arguments.next().unwrap_or_else(|| "127.0.0.1:9080".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "greetings".to_owned());

    let client = Client::connect(ClientConfig::new(addr, "example-publish")).await?;
    // Finds the topic when it exists with the same settings.
    let settings = TopicSettings::default();
    client.create_topic(CreateTopic { name: topic.clone(), partitions: 0, settings }).await?;

    let producer =
        Producer::<GenericBuilder>::open(&client, &topic, ProducerConfig::default()).await?;
    for (number, line) in (0_u128..).zip(std::io::stdin().lock().lines()) {
        let line = line?;
        // Messages of one key keep their order. Here each first word is a key.
        let key = line.split(' ').next().unwrap_or_default();
        let message = Message {
            id: number,
            headers: Headers::Listed(&[("source", b"stdin")]),
            ..Message::new(key.as_bytes(), line.as_bytes())
        };
        // Waits here when the broker is slower than standard input.
        producer.push(&message).await?;
    }
    // Everything is acknowledged when this returns.
    let stats = producer.close().await?;
    eprintln!("{} messages in {} batches acknowledged", stats.acknowledged, stats.batches);
    Ok(())
}
