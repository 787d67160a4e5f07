//! Publishes lines of standard input as generic messages, and says what became of them.
//!
//! ```text
//! seq 1000 | cargo run -p lanecast-client --example publish -- 127.0.0.1:9080 greetings
//! ```

use std::collections::VecDeque;
use std::io::BufRead;

use lanecast_client::{
    Client, ClientConfig, CreateTopic, Headers, Message, ProducerConfig, Published, Receipt,
    TopicSettings,
};

/// Messages whose acknowledgement is waited for at a time.
const UNDER_WAY: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr = arguments.next().unwrap_or_else(|| "127.0.0.1:9080".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "greetings".to_owned());

    let client = Client::connect(ClientConfig::new(addr, "example-publish")).await?;
    // Finds the topic when it exists with the same settings.
    let settings = TopicSettings::default();
    client.create_topic(CreateTopic { name: topic.clone(), partitions: 0, settings }).await?;

    let publisher = client.publisher(&topic, ProducerConfig::default()).await?;
    let mut under_way: VecDeque<Receipt> = VecDeque::new();
    let mut dropped = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        // Messages of one key keep their order. Here each first word is a key.
        let key = line.split(' ').next().unwrap_or_default();
        let headers = Headers::Listed(&[("source", b"stdin")]);
        let message = Message { headers, ..Message::new(key.as_bytes(), line.as_bytes()) };
        // Waits here when the broker is slower than standard input.
        under_way.push_back(publisher.enqueue(&message).await?);
        if under_way.len() >= UNDER_WAY
            && let Some(oldest) = under_way.pop_front()
        {
            dropped += u64::from(is_dropped(&oldest).await?);
        }
    }
    for receipt in &under_way {
        dropped += u64::from(is_dropped(receipt).await?);
    }
    let stats = publisher.close().await?;
    eprintln!(
        "{} messages in {} batches acknowledged, {dropped} dropped; half of them within {:?}, 99 \
         of 100 within {:?}",
        stats.acknowledged, stats.batches, stats.latency.p50, stats.latency.p99
    );
    Ok(())
}

/// Whether a full topic dropped the message; only topics that are made so do that.
async fn is_dropped(receipt: &Receipt) -> Result<bool, lanecast_client::ProduceError> {
    Ok(matches!(receipt.acknowledged().await?, Published::Dropped { .. }))
}
