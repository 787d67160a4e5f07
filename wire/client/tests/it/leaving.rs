//! Leases while handlers are at work, and subscriptions that are left meanwhile.

use std::sync::Arc;
use std::time::Duration;

use lanecast_client::{
    Client, CloseError, GroupOptions, Mode, ReceivedMessage, SubscribeError, Subscription,
    SubscriptionConfig,
};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::broker::{Act, Broker, group_info};
use crate::connect;
use crate::handler::{Guard, config, group};
use crate::subscriber::append;

#[tokio::test]
async fn leases_of_what_takes_long_are_extended_and_those_of_the_stuck_are_not() {
    // Of two chunks one waits behind the other, or both are with a worker.
    for workers in [1, 3] {
        let broker = Broker::start(1, |_| Act::Answer).await;
        append(&broker, 0, 1);
        append(&broker, 0, 1);
        let client = connect(&broker).await;
        let lease = Duration::from_millis(100);
        let options = GroupOptions { lease, chunks_in_flight: 2, ..GroupOptions::new("readers") };
        let gate = Arc::new(Semaphore::new(0));
        let open = |stuck_after| {
            let gate = Arc::clone(&gate);
            let subscriber = config(Mode::Group(options.clone()));
            let config = SubscriptionConfig { stuck_after, workers, ..subscriber };
            client.subscribe(config, move |_| {
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await?.forget();
                    Ok(())
                }
            })
        };
        // Stuck as soon as it is looked at.
        let stuck = open(Duration::from_nanos(1)).await.unwrap();
        broker.until(|state| state.generation == 2).await;
        let patient = open(Duration::from_secs(3_600)).await.unwrap();
        append(&broker, 0, 1);
        append(&broker, 0, 1);
        broker.poke();
        broker.until(|state| state.extended.len() >= 6).await;
        let extended = broker.state().extended.clone();
        assert!(extended.contains(&3) && extended.contains(&4), "{extended:?}");
        assert!(extended.iter().all(|generation| *generation > 2), "{extended:?}");
        drop((stuck, patient));
    }
}

#[tokio::test]
async fn leases_are_kept_while_handlers_finish() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    append(&broker, 0, 2);
    let client = connect(&broker).await;
    let options =
        GroupOptions { lease: Duration::from_millis(100), ..GroupOptions::new("readers") };
    let (gate, (sender, mut begun)) = (Arc::new(Semaphore::new(0)), mpsc::unbounded_channel());
    let handler = {
        let gate = Arc::clone(&gate);
        move |_| {
            let (gate, sender) = (Arc::clone(&gate), sender.clone());
            async move {
                sender.send(())?;
                gate.acquire().await?.forget();
                Ok(())
            }
        }
    };
    let subscription = client.subscribe(config(Mode::Group(options)), handler).await.unwrap();
    begun.recv().await.unwrap();
    begun.recv().await.unwrap();
    let leaving = tokio::spawn(subscription.unsubscribe());
    // Of those some may have been asked for before it was left, and one while it was.
    let extended = broker.state().extended.len();
    let kept = broker.until(|state| state.extended.len() >= extended + 4);
    tokio::time::timeout(Duration::from_secs(20), kept).await.expect("leases are extended");
    assert!(!leaving.is_finished(), "handlers are at work");
    gate.add_permits(2);
    let stats = leaving.await.unwrap().unwrap();
    assert_eq!((stats.delivered, stats.acked, stats.lost), (2, 2, 0));
}

/// One handler of three never ends, and the others do.
async fn with_a_stuck_handler(
    broker: &Broker,
    settings: SubscriptionConfig,
) -> (Client, Subscription, watch::Receiver<usize>) {
    broker.state().groups.insert(0, group_info("readers"));
    broker.state().topic.settings.max_attempts = 0;
    append(broker, 0, 3);
    let client = connect(broker).await;
    let (dropped, drops) = watch::channel(0);
    let handler = move |message: ReceivedMessage| {
        let guard = Guard(dropped.clone());
        async move {
            if message.offset().0 == 2 {
                let _guard = guard;
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    };
    let subscription = client.subscribe(settings, handler).await.unwrap();
    (client, subscription, drops)
}

#[tokio::test]
async fn a_handler_that_never_ends_holds_up_no_close_and_what_others_did_is_settled() {
    for mode in [Mode::Broadcast, group()] {
        let broker = Broker::start(1, |_| Act::Answer).await;
        let is_group = matches!(mode, Mode::Group(_));
        let settings =
            SubscriptionConfig { drain_patience: Duration::from_millis(200), ..config(mode) };
        let (client, subscription, mut drops) = with_a_stuck_handler(&broker, settings).await;
        let closed = tokio::time::timeout(Duration::from_secs(20), client.close()).await;
        let refused = closed.expect("patience ends").unwrap_err();
        let open = if is_group { 3 } else { 1 };
        assert!(matches!(refused, CloseError::Stalled { left, .. } if left == open), "{refused}");
        drops.wait_for(|count| *count == 3).await.unwrap();
        let stats = subscription.stats();
        assert_eq!((stats.delivered, stats.depth, stats.is_active), (2, 0, false));
        let acked: &[_] = if is_group { &[(0, 0, 1)] } else { &[] };
        assert_eq!(broker.state().acked, acked);
        broker.until(|state| state.unsubscribes == 1).await;
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_is_stuck_while_its_subscription_is_left() {
    let broker = Broker::start(1, |_| Act::Answer).await;
    let settings = SubscriptionConfig { stuck_after: Duration::from_secs(1), ..config(group()) };
    let (_client, subscription, _drops) = with_a_stuck_handler(&broker, settings).await;
    while subscription.stats().delivered < 2 {
        tokio::task::yield_now().await;
    }
    let left = tokio::time::timeout(Duration::from_secs(20), subscription.unsubscribe()).await;
    let stuck = left.expect("patience ends").unwrap_err();
    assert!(matches!(stuck, SubscribeError::Stuck { records: 1, .. }), "{stuck}");
    assert_eq!(broker.state().acked, [(0, 0, 1)]);
}
