//! A topic as a sink, as far as that goes without a broker.

use std::net::TcpListener;
use std::time::Duration;

use lanecast_client::{ClientConfig, ClientError, ProducerConfig};
use lanecast_producer::csv::CsvSource;
use lanecast_producer::generate::GenerateSource;
use lanecast_producer::{PublishConfig, Source, TopicConfig, TopicSink, publish};

/// Programs spawn the publisher on a runtime with many threads.
#[test]
fn publishing_to_a_topic_can_be_spawned() {
    fn is_send<T: Send>(_run: impl FnOnce() -> T) {}
    async fn run<S: Source + Send + 'static>(mut source: S, mut sink: TopicSink) {
        let (config, stop) = (PublishConfig::default(), core::future::pending());
        let _either_way = publish(&mut source, &mut sink, &config, stop, |_| {}).await;
    }
    is_send(|| None::<(CsvSource, TopicSink)>.map(|(source, sink)| run(source, sink)));
    is_send(|| None::<(GenerateSource, TopicSink)>.map(|(source, sink)| run(source, sink)));
}

#[tokio::test]
async fn broker_that_is_not_there_is_an_error_that_names_it() {
    // A port that was free a moment ago and that nobody is told about.
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let client = ClientConfig {
        connect_patience: Duration::from_millis(1),
        ..ClientConfig::new(addr.as_str(), "test")
    };
    let topic = "gpu-telemetry".to_owned();
    let config = TopicConfig { client, topic, create: None, producer: ProducerConfig::default() };
    let error = TopicSink::open(config).await.err().unwrap();
    assert!(matches!(error, ClientError::Connect { .. }));
    assert!(error.to_string().contains(&addr), "{error}");
}
