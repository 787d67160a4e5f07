//! `/api/v1/gpus` and `/api/v1/gpus/{id}`

use serde_json::{Value, json};

use crate::api::column;
use crate::world::{Sample, T0_MS, World, sample};

/// GPU-00 .. on hosts of two, one sample each.
fn fleet(count: u32) -> Vec<Sample> {
    (0..count)
        .map(|n| Sample {
            gpu_index: n % 2,
            hostname: format!("host-{}", n / 2),
            model: if n < 2 { "A100".into() } else { "H100".into() },
            namespace: if n % 3 == 0 { "train".into() } else { String::new() },
            pod: format!("pod-{n}"),
            ..sample(&format!("GPU-{n:02}"), T0_MS + i64::from(n), "util", f64::from(n))
        })
        .collect()
}

async fn ids(world: &World, query: &str) -> Vec<String> {
    let list = world.get(&format!("/api/v1/gpus{query}")).await.expect(200).json();
    let ids: Vec<String> = serde_json::from_value(list["items"].clone()).unwrap();
    assert_eq!(json!(column(&list["gpus"], "id")), json!(ids), "both forms list the same");
    ids
}

#[tokio::test]
async fn clients_of_both_original_services_find_their_members() {
    let world = World::new().await;
    let empty = world.get("/api/v1/gpus").await.expect(200).json();
    assert_eq!(
        empty,
        json!({"total": 0, "page": 1, "limit": 1000, "items": [], "gpus": [],
                             "next_cursor": null})
    );
    world.insert(&fleet(2)).await;
    let list = world.get("/api/v1/gpus").await.expect(200).json();
    assert_eq!(list["total"], 2);
    assert_eq!(list["items"], json!(["GPU-00", "GPU-01"]));
    assert_eq!(
        list["gpus"][1],
        json!({"id": "GPU-01", "hostname": "host-0", "gpu_index": 1, "device": "nvidia0",
               "model_name": "A100", "first_seen": "2025-07-18T20:42:34.001Z",
               "last_seen": "2025-07-18T20:42:34.001Z", "stale": true})
    );
    world.end().await;
}

#[tokio::test]
async fn list_is_sorted_paged_and_filtered() {
    let world = World::new().await;
    world.insert(&fleet(7)).await;
    assert_eq!(ids(&world, "?limit=3").await, ["GPU-00", "GPU-01", "GPU-02"]);
    assert_eq!(ids(&world, "?limit=3&page=3").await, ["GPU-06"]);
    assert_eq!(ids(&world, "?limit=3&page=4").await, [""; 0]);
    assert_eq!(ids(&world, "?limit=2&sort=desc").await, ["GPU-06", "GPU-05"]);
    assert_eq!(ids(&world, "?host=host-1").await, ["GPU-02", "GPU-03"]);
    assert_eq!(ids(&world, "?host=host-1&host=host-3").await, ["GPU-02", "GPU-03", "GPU-06"]);
    assert_eq!(ids(&world, "?model=A100").await, ["GPU-00", "GPU-01"]);
    assert_eq!(ids(&world, "?namespace=train&model=H100").await, ["GPU-03", "GPU-06"]);
    assert_eq!(ids(&world, "?pod=pod-5").await, ["GPU-05"]);
    // Included: a GPU whose newest sample is at that very moment is active since it.
    assert_eq!(ids(&world, "?active_since=1752871354005").await, ["GPU-05", "GPU-06"]);
    assert_eq!(ids(&world, "?active_since=now-1h").await, [""; 0]);
    let page = world.get("/api/v1/gpus?limit=3&page=2").await.json();
    assert_eq!((&page["total"], &page["page"], &page["limit"]), (&json!(7), &json!(2), &json!(3)));
    let filtered = world.get("/api/v1/gpus?host=host-1&limit=1").await.json();
    assert_eq!(filtered["total"], 2);
    let references = world.get("/api/v1/gpus?fields=ids&limit=2").await.json();
    assert_eq!(references["gpus"], json!([{"id": "GPU-00"}, {"id": "GPU-01"}]));
    world.end().await;
}

#[tokio::test]
async fn walk_by_cursor_loses_and_repeats_no_gpu_while_others_appear() {
    let world = World::new().await;
    let all = fleet(20);
    let (before, during): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|sample| sample.value % 2.0 == 0.0);
    world.insert(&before).await;
    for sort in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut target = format!("/api/v1/gpus?limit=3&sort={sort}");
        let mut appearing = during.chunks(3);
        loop {
            let reply = world.get(&target).await.expect(200);
            let list = reply.json();
            seen.extend(column(&list["gpus"], "id"));
            if let Some(some) = appearing.next() {
                world.insert(some).await;
            }
            let Some(cursor) = list["next_cursor"].as_str() else { break };
            target = format!("/api/v1/gpus?sort={sort}&limit=3&cursor={cursor}");
        }
        let old: Vec<Value> = before.iter().map(|sample| json!(sample.gpu_uuid)).collect();
        for id in &old {
            assert_eq!(seen.iter().filter(|seen| *seen == id).count(), 1, "{sort} {id}");
        }
        let mut sorted = seen.clone();
        sorted.sort_by_key(|id| id.as_str().unwrap().to_owned());
        sorted.dedup();
        assert_eq!(sorted.len(), seen.len(), "{sort}: some GPU twice");
    }
    world.end().await;
}

#[tokio::test]
async fn gpu_is_shown_with_its_latest_values() {
    let world = World::new().await;
    let newest = Sample {
        container: "trainer".into(),
        namespace: "ml".into(),
        ..sample("GPU-1", T0_MS + 5_000, "util", 97.0)
    };
    world
        .insert(&[
            sample("GPU-1", T0_MS, "util", 3.0),
            newest,
            sample("GPU-1", T0_MS + 1_000, "power", 412.25),
            sample("GPU-2", T0_MS, "util", 1.0),
        ])
        .await;
    let gpu = world.get("/api/v1/gpus/GPU-1").await.expect(200).json();
    assert_eq!(gpu["first_seen"], "2025-07-18T20:42:34.000Z");
    assert_eq!(gpu["last_seen"], "2025-07-18T20:42:39.000Z");
    assert_eq!((&gpu["container"], &gpu["namespace"]), (&json!("trainer"), &json!("ml")));
    assert_eq!(
        gpu["latest"],
        json!([
            {"metric_name": "power", "value": 412.25, "timestamp": "2025-07-18T20:42:35.000Z"},
            {"metric_name": "util", "value": 97.0, "timestamp": "2025-07-18T20:42:39.000Z"},
        ])
    );
    world.end().await;
}

#[tokio::test]
async fn gpu_is_stale_once_it_was_silent_for_long() {
    let world = World::new().await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    world
        .insert(&[sample("GPU-new", now_ms, "util", 1.0), sample("GPU-old", T0_MS, "util", 1.0)])
        .await;
    let list = world.get("/api/v1/gpus").await.json();
    assert_eq!(column(&list["gpus"], "stale"), [json!(false), json!(true)]);
    assert_eq!(ids(&world, "?active_since=-5m").await, ["GPU-new"]);
    world.end().await;
}

#[tokio::test]
async fn id_is_a_uuid_or_a_slot_and_never_a_bare_index() {
    let world = World::new().await;
    let on = |uuid: &str, hostname: &str, gpu_index, ts| Sample {
        hostname: hostname.into(),
        gpu_index,
        ..sample(uuid, ts, "util", 1.0)
    };
    world
        .insert(&[
            on("GPU-a", "host-1", 0, T0_MS),
            on("GPU-b", "host-1", 7, T0_MS),
            // Replaced in the same slot.
            on("GPU-c", "host-1", 7, T0_MS + 1_000),
            // An id in the wild that looks like a slot.
            on("host-1:0", "host-9", 3, T0_MS),
        ])
        .await;
    for (id, uuid) in [
        ("GPU-a", "GPU-a"),
        ("host-1:7", "GPU-c"),
        ("host-1%3A7", "GPU-c"),
        ("host-1:0", "host-1:0"),
    ] {
        let gpu = world.get(&format!("/api/v1/gpus/{id}")).await.expect(200).json();
        assert_eq!(gpu["id"], uuid);
        let list = world.get(&format!("/api/v1/gpus/{id}/telemetry")).await.expect(200).json();
        assert_eq!(list["items"][0]["uuid"], uuid);
    }
    for suffix in ["", "/telemetry"] {
        let reply = world.get(&format!("/api/v1/gpus/7{suffix}")).await.expect(400);
        assert_eq!(reply.wrong_params(), ["id"]);
        assert!(reply.text().contains("ambiguous"));
        for id in ["GPU-x", "host-1:3", "host-x:7", "gpu-a", "'%20OR%201=1"] {
            let reply = world.get(&format!("/api/v1/gpus/{id}{suffix}")).await.expect(404);
            assert_eq!(reply.json()["type"], "urn:lanecast:problem:unknown-gpu", "{id}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn ready_needs_the_schema_and_questions_before_it_are_503() {
    let world = World::without_schema(|_| {}).await;
    let reply = world.get("/readyz").await.expect(503);
    assert!(reply.header("retry-after").is_some());
    world.get("/api/v1/gpus").await.expect(503);
    world.end().await;

    let world = World::new().await;
    for path in ["/ready", "/readyz"] {
        assert_eq!(world.get(path).await.expect(200).json()["status"], "ready");
    }
    world.end().await;
}
