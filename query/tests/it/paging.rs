//! Order and pages of `/api/v1/gpus/{id}/telemetry`

use serde_json::Value;

use crate::http::raw;
use crate::world::{Sample, T0_MS, World, sample};

const PATH: &str = "/api/v1/gpus/GPU-1/telemetry";

/// `seconds` moments of three metrics, inserted in no order.
fn samples(seconds: std::ops::Range<i64>) -> Vec<Sample> {
    let mut samples: Vec<_> = seconds
        .flat_map(|second| {
            ["power", "temp", "util"]
                .map(|metric| sample("GPU-1", T0_MS + second * 1_000, metric, second as f64))
        })
        .collect();
    samples.sort_by_key(|sample| (sample.topic_offset * 7) % 11);
    samples
}

fn id(sample: &Sample) -> String {
    format!("{}-{}", sample.topic_partition, sample.topic_offset)
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Walks all pages; after each, `between` may add samples.
async fn walk(
    world: &World,
    query: &str,
    mut added: impl Iterator<Item = Vec<Sample>>,
) -> Vec<String> {
    let first = format!("{PATH}?{query}");
    let mut target = first.clone();
    let mut seen = Vec::new();
    for number in 1.. {
        let reply = world.get(&target).await.expect(200);
        let page = reply.json();
        assert_eq!(page["page"], number);
        seen.extend(ids(&page));
        if let Some(more) = added.next() {
            world.insert(&more).await;
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(reply.header("link"), None);
            break;
        };
        target = format!("{first}&cursor={cursor}");
        assert_eq!(reply.header("link"), Some(format!("<{target}>; rel=\"next\"").as_str()));
    }
    seen
}

#[tokio::test]
async fn order_is_timestamp_then_metric_name_in_both_directions() {
    let world = World::new().await;
    let mut samples = samples(0..9);
    world.insert(&samples).await;
    samples.sort_by_key(|sample| (sample.ts, sample.metric.clone()));
    let mut expected: Vec<_> = samples.iter().map(id).collect();
    let all = world.get(&format!("{PATH}?limit=1000")).await.expect(200).json();
    assert_eq!(ids(&all), expected);
    assert_eq!(all["total"], 27);
    for limit in [1, 2, 4, 9, 27, 28] {
        assert_eq!(walk(&world, &format!("limit={limit}"), std::iter::empty()).await, expected);
    }
    expected.reverse();
    for limit in [1, 5, 27] {
        let query = format!("sort=desc&limit={limit}");
        assert_eq!(walk(&world, &query, std::iter::empty()).await, expected);
    }
    world.end().await;
}

#[tokio::test]
async fn walk_loses_and_repeats_nothing_while_samples_are_inserted() {
    let world = World::new().await;
    for sort in ["asc", "desc"] {
        let gap = if sort == "asc" { 0 } else { 1_000 };
        let before = samples(gap + 100..gap + 120);
        world.insert(&before).await;
        // Before, between and after what the walk has seen, on the same timestamps too.
        let added = (0..8).map(|round| {
            let mut more = samples(gap + 90 + round..gap + 91 + round);
            more.extend(samples(gap + 130 + round..gap + 131 + round));
            more.push(sample("GPU-1", T0_MS + (gap + 104 + round) * 1_000, "other", 0.0));
            more.push(sample("GPU-1", T0_MS + (gap + 104 + round) * 1_000, "aaa", 0.0));
            more
        });
        let seen = walk(&world, &format!("limit=7&sort={sort}"), added).await;
        for sample in &before {
            let times = seen.iter().filter(|seen| **seen == id(sample)).count();
            assert_eq!(times, 1, "{sort} {sample:?}");
        }
        let mut distinct = seen.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), seen.len(), "{sort}: some sample twice");
    }
    world.end().await;
}

#[tokio::test]
async fn samples_with_the_same_time_and_metric_are_all_shown_once() {
    let world = World::new().await;
    let twins: Vec<_> = (0..10).map(|n| sample("GPU-1", T0_MS, "util", f64::from(n))).collect();
    world.insert(&twins).await;
    let other_partition: Vec<_> =
        twins.iter().map(|twin| Sample { topic_partition: 1, ..twin.clone() }).collect();
    world.insert(&other_partition).await;
    let mut expected: Vec<_> = twins.iter().chain(&other_partition).map(id).collect();
    assert_eq!(walk(&world, "limit=3", std::iter::empty()).await, expected);
    expected.reverse();
    assert_eq!(walk(&world, "limit=3&sort=desc", std::iter::empty()).await, expected);
    world.end().await;
}

#[tokio::test]
async fn pages_by_number_say_where_they_are() {
    let world = World::new().await;
    world.insert(&samples(0..5)).await;
    let all = ids(&world.get(&format!("{PATH}?limit=15")).await.json());
    for (page, expected) in [(1, &all[..6]), (2, &all[6..12]), (3, &all[12..]), (4, &[])] {
        let answer = world.get(&format!("{PATH}?limit=6&page={page}")).await.expect(200).json();
        assert_eq!(ids(&answer), expected);
        assert_eq!(answer["total"], 15, "page {page}");
        assert_eq!((answer["page"].as_i64(), answer["limit"].as_i64()), (Some(page), Some(6)));
        assert_eq!(answer["next_cursor"].is_string(), page < 3);
    }
    // A walk may begin at a page by number.
    let second = world.get(&format!("{PATH}?limit=6&page=2")).await.json();
    let cursor = second["next_cursor"].as_str().unwrap();
    let third = world.get(&format!("{PATH}?limit=6&cursor={cursor}")).await.expect(200).json();
    assert_eq!(ids(&third), all[12..]);
    assert_eq!(third["page"], 3);
    world.end().await;
}

#[tokio::test]
async fn page_too_deep_is_400_and_names_the_cursor() {
    let world = World::new().await;
    for query in ["limit=10000&page=11", "page=1001", "limit=1&page=100001"] {
        let reply = world.get(&format!("{PATH}?{query}")).await.expect(400);
        assert_eq!(reply.wrong_params(), ["page"]);
    }
    let reply = world.get(&format!("{PATH}?limit=10000&page=11")).await;
    assert!(reply.json()["detail"].as_str().unwrap().contains("cursor"));
    world.end().await;
}

#[tokio::test]
async fn cursor_of_another_question_or_of_nobody_is_400() {
    let world = World::new().await;
    world.insert(&samples(0..5)).await;
    world.insert(&[sample("GPU-2", T0_MS, "util", 1.0)]).await;
    let first =
        world.get(&format!("{PATH}?limit=2&metric=util&window=1w&end_time=1752871400")).await;
    let cursor = first.expect(200).json()["next_cursor"].as_str().unwrap().to_owned();
    let same = "metric=util&window=1w&end_time=1752871400";
    // The limit may change under a walk, and so may what is shown of each row.
    world.get(&format!("{PATH}?{same}&limit=3&cursor={cursor}")).await.expect(200);
    world.get(&format!("{PATH}?{same}&include=labels&cursor={cursor}")).await.expect(200);
    for other in [
        format!("{PATH}?{same}&sort=desc&cursor={cursor}"),
        format!("{PATH}?window=1w&end_time=1752871400&cursor={cursor}"),
        format!("{PATH}?metric=temp&window=1w&end_time=1752871400&cursor={cursor}"),
        format!("{PATH}?metric=util&window=2w&end_time=1752871400&cursor={cursor}"),
        format!("{PATH}?metric=util&window=1w&end_time=1752871401&cursor={cursor}"),
        format!("/api/v1/gpus/GPU-2/telemetry?{same}&cursor={cursor}"),
        format!("/api/v1/gpus?cursor={cursor}"),
        format!("{PATH}?{same}&cursor={}", &cursor[1..]),
        format!("{PATH}?{same}&cursor=AAAA"),
        format!("{PATH}?{same}&cursor=%00%01"),
        format!("{PATH}?{same}&cursor={}", "A".repeat(5_000)),
    ] {
        let reply = world.get(&other).await.expect(400);
        assert_eq!(reply.wrong_params(), ["cursor"], "{other}");
    }
    let both = world.get(&format!("{PATH}?{same}&page=2&cursor={cursor}")).await.expect(400);
    assert_eq!(both.wrong_params(), ["page"]);
    world.end().await;
}

#[tokio::test]
async fn window_relative_to_now_stays_where_the_first_page_put_it() {
    let world = World::new().await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let old: Vec<_> =
        (0..6).map(|n| sample("GPU-1", now_ms - 60_000 + n, "util", n as f64)).collect();
    world.insert(&old).await;
    // Samples that arrive under the walk are after the `now` of its first page, and before that of
    // its second.
    let added =
        (0..2).map(|_| vec![sample("GPU-1", jiff::Timestamp::now().as_millisecond(), "util", 9.0)]);
    let seen = walk(&world, "window=5m&limit=2", added).await;
    assert_eq!(seen, old.iter().map(id).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test]
async fn next_link_is_plain_ascii_whatever_bytes_the_request_had() {
    let world = World::new().await;
    let of = |metric: &str| sample("GPU-é<1>", T0_MS, metric, 1.0);
    world.insert(&[of("é"), of("ü\"<>")]).await;
    // Raw UTF-8 in path and query, which hyper lets through.
    let target = "/api/v1/gpus/GPU-é%3C1%3E/telemetry?limit=1&metric=é&metric=ü%22%3C%3E";
    let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n");
    let answer = raw(&world.server, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let link = answer.split_once("link: <").unwrap().1.split_once(">;").unwrap().0;
    let next = world.get(link).await.expect(200).json();
    assert_eq!(next["items"][0]["metric_name"], "ü\"<>");
    world.end().await;
}
