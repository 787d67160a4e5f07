//! Times and windows of `/api/v1/gpus/{id}/telemetry`

use serde_json::json;

use crate::api::column;
use crate::world::{T0_MS, World, sample};

const PATH: &str = "/api/v1/gpus/GPU-1/telemetry";

/// Ten samples, a second apart from 20:42:34 on; the value is the second.
async fn world() -> World {
    let world = World::new().await;
    let samples: Vec<_> =
        (0..10).map(|n| sample("GPU-1", T0_MS + n * 1_000, "util", n as f64)).collect();
    world.insert(&samples).await;
    world
}

async fn values(world: &World, query: &str) -> Vec<i64> {
    let page = world.get(&format!("{PATH}?{query}")).await.expect(200).json();
    let values: Vec<i64> =
        column(&page["items"], "value").iter().map(|value| value.as_i64().unwrap()).collect();
    assert_eq!(page["total"], values.len());
    values
}

#[tokio::test]
async fn both_ends_of_the_window_are_included() {
    let world = world().await;
    let end = "end_time=2025-07-18T20:42:39Z";
    assert_eq!(values(&world, &format!("start_time=2025-07-18T20:42:37Z&{end}")).await, [3, 4, 5]);
    assert_eq!(values(&world, &format!("start_time=2025-07-18T20:42:39Z&{end}")).await, [5]);
    assert_eq!(values(&world, end).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(values(&world, "start_time=2025-07-18T20:42:42Z").await, [8, 9]);
    // One millisecond less on either side leaves the end out.
    let start = "start_time=2025-07-18T20:42:37.001Z";
    let end = "end_time=2025-07-18T20:42:38.999Z";
    assert_eq!(values(&world, &format!("{start}&{end}")).await, [4]);
    assert_eq!(values(&world, "start_time=2025-07-18T20:42:43.0000001Z").await, [0; 0]);
    assert_eq!(values(&world, "end_time=2025-07-18T20:42:33.999999999Z").await, [0; 0]);
    // And a known GPU without samples in the window is no error.
    assert_eq!(values(&world, "start_time=now-1m").await, [0; 0]);
    world.end().await;
}

#[tokio::test]
async fn every_form_of_a_time_means_the_same() {
    let world = world().await;
    for start in [
        "2025-07-18T20:42:42Z",
        "2025-07-18T20:42:42.000Z",
        "2025-07-18T22:42:42%2B02:00",
        // A plus that nobody encoded.
        "2025-07-18T22:42:42+02:00",
        "2025-07-18%2022:42:42%2002:00",
        "2025-07-18T13:12:42-07:30",
        "1752871362",
        "1752871362.0",
        "1752871362000",
    ] {
        assert_eq!(values(&world, &format!("start_time={start}")).await, [8, 9], "{start}");
    }
    assert_eq!(values(&world, "end_time=2025-07-18T20:42:36Z&window=1s").await, [1, 2]);
    assert_eq!(values(&world, "start_time=1752871362&window=1s").await, [8, 9]);
    assert_eq!(values(&world, "window=5200w").await.len(), 10);
    assert_eq!(values(&world, "start_time=now-5200w&end_time=-1m").await.len(), 10);
    world.end().await;
}

#[tokio::test]
async fn times_and_windows_that_mean_nothing_are_400() {
    let world = world().await;
    for (query, params) in [
        ("start_time=2025-07-18T20:42:34", json!(["start_time"])),
        ("end_time=2025-07-18", json!(["end_time"])),
        ("start_time=yesterday&end_time=5e3", json!(["start_time", "end_time"])),
        ("start_time=", json!(["start_time"])),
        ("start_time=2025-07-18T20:42:35Z&end_time=2025-07-18T20:42:34Z", json!(["start_time"])),
        ("start_time=now&end_time=now-1s", json!(["start_time"])),
        ("window=5", json!(["window"])),
        ("window=-5m", json!(["window"])),
        ("start_time=1&end_time=2&window=1s", json!(["window"])),
        ("start_time=1&start_time=2", json!(["start_time"])),
        ("start_time=99999999999999999999", json!(["start_time"])),
    ] {
        let reply = world.get(&format!("{PATH}?{query}")).await.expect(400);
        assert_eq!(json!(reply.wrong_params()), params, "{query}");
    }
    let zoneless = world.get(&format!("{PATH}?start_time=2025-07-18T20:42:34")).await;
    assert!(zoneless.json()["detail"].as_str().unwrap().contains("zone"));
    world.end().await;
}

#[tokio::test]
async fn only_a_closed_window_has_a_tag_and_is_asked_for_again_by_it() {
    let world = world().await;
    let closed = format!("{PATH}?end_time=2025-07-18T20:42:39Z");
    for open in [PATH.to_owned(), format!("{PATH}?window=5m"), format!("{PATH}?end_time=-1m")] {
        let reply = world.get(&open).await.expect(200);
        assert_eq!(reply.header("etag"), None, "{open}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let first = world.get(&closed).await.expect(200);
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    assert!(first.header("vary").unwrap().contains("Accept-Encoding"));
    let again = world.get_with(&closed, &[("if-none-match", &tag)]).await.expect(304);
    assert!(again.body.is_empty());
    assert_eq!(again.header("etag"), Some(tag.as_str()));
    world.get_with(&closed, &[("if-none-match", "\"other\"")]).await.expect(200);
    let csv = world.get(&format!("{closed}&format=csv")).await.expect(200);
    assert_ne!(csv.header("etag"), Some(tag.as_str()));
    // A late sample changes the answer, and so its tag.
    world.insert(&[sample("GPU-1", T0_MS + 1, "util", 50.0)]).await;
    let changed = world.get_with(&closed, &[("if-none-match", &tag)]).await.expect(200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    world.end().await;
}
