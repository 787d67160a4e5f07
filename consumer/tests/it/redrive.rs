//! Sending back letters when the broker's answers and the letters' log have holes. The records are no
//! letters, which makes no difference for what is asked of the broker.

use bytes::Bytes;
use lanecast_client::{Client, ClientConfig};
use lanecast_consumer::{Redriven, redrive};

use crate::broker::{Broker, TOPIC};
use crate::testing::{APPEND_TIME_MS, Batch};

fn three(base_offset: u64) -> Bytes {
    Batch { base_offset, times: &[APPEND_TIME_MS; 3], ..Batch::default() }.bytes()
}

async fn redriven(broker: &Broker) -> Redriven {
    let client = Client::connect(ClientConfig::new(&broker.addr, "test")).await.unwrap();
    redrive(&client, TOPIC).await.unwrap()
}

#[tokio::test]
async fn an_acknowledgement_whose_answer_is_lost_holds_up_nothing() {
    let broker = Broker::start().await;
    broker.add_chunk(&[three(0)]);
    broker.add_chunk(&[three(3)]);
    broker.lose_the_answer_to_ack();
    assert_eq!(redriven(&broker).await.foreign, 6);
    assert_eq!(broker.look(|state| (state.acked.len(), state.nacked.len())), (2, 0));
}

#[tokio::test]
async fn lost_letters_hold_up_none_of_the_others() {
    let broker = Broker::start().await;
    broker.add_chunk(&[three(0)]);
    broker.add_chunk(&[three(6)]);
    broker.end_at(12);
    assert_eq!(redriven(&broker).await.foreign, 6);
    assert_eq!(broker.look(|state| (state.acked.len(), state.nacked.len())), (2, 0));
}
