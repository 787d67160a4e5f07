//! What `/api/v1/gpus/{id}/telemetry` shows, and in which format.

use std::collections::BTreeSet;
use std::io::Read;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{column, send};
use crate::world::{Sample, T0_MS, World, sample};

const PATH: &str = "/api/v1/gpus/GPU-1/telemetry";

fn full() -> Sample {
    Sample {
        source_ts: T0_MS - 250,
        gpu_index: 3,
        device: "nvidia3".into(),
        model: "NVIDIA H100 80GB HBM3".into(),
        hostname: "gpu-node-031".into(),
        container: "trainer, main".into(),
        pod: "llm-0".into(),
        namespace: "ml \"prod\"".into(),
        labels: vec![
            ("DCGM_FI_DRIVER_VERSION".into(), "535.129.03".into()),
            ("job".into(), "dgx_dcgm_exporter".into()),
        ],
        topic_partition: 2,
        topic_offset: 104_417,
        ..sample("GPU-1", T0_MS, "DCGM_FI_DEV_GPU_UTIL", 97.5)
    }
}

#[tokio::test]
async fn item_has_every_field_of_the_contract() {
    let world = World::new().await;
    world.insert(&[full()]).await;
    let page = world.get(PATH).await.expect(200).json();
    let item = json!({
        "timestamp": "2025-07-18T20:42:34.000Z",
        "source_timestamp": "2025-07-18T20:42:33.750Z",
        "metric_name": "DCGM_FI_DEV_GPU_UTIL",
        "value": 97.5,
        "id": "2-104417",
        "uuid": "GPU-1",
        "gpu_id": 3,
        "device": "nvidia3",
        "model_name": "NVIDIA H100 80GB HBM3",
        "hostname": "gpu-node-031",
        "container": "trainer, main",
        "pod": "llm-0",
        "namespace": "ml \"prod\"",
    });
    let expected =
        json!({"total": 1, "page": 1, "limit": 100, "items": [item], "next_cursor": null});
    assert_eq!(page, expected);

    let labelled = world.get(&format!("{PATH}?include=labels")).await.expect(200).json();
    assert_eq!(
        labelled["items"][0]["labels_raw"],
        "DCGM_FI_DRIVER_VERSION=\"535.129.03\",Hostname=\"gpu-node-031\",UUID=\"GPU-1\",\
         __name__=\"DCGM_FI_DEV_GPU_UTIL\",device=\"nvidia3\",gpu=\"3\",job=\"dgx_dcgm_exporter\",\
         modelName=\"NVIDIA H100 80GB HBM3\""
    );
    world.end().await;
}

#[tokio::test]
async fn metric_filter_is_repeatable_and_takes_any_text() {
    let world = World::new().await;
    let odd = "it's \\ 100%\t{a:String} ? ]";
    let samples: Vec<_> =
        ["a", "b", "c", odd].iter().map(|metric| sample("GPU-1", T0_MS, metric, 1.0)).collect();
    world.insert(&samples).await;
    for (query, metrics) in [
        ("metric=a", json!(["a"])),
        ("metric=c&metric=a&metric=a", json!(["a", "c"])),
        ("metric=none", json!([])),
        ("metric=a'%29%20OR%201%3D1%20--", json!([])),
        ("metric=it's+%5C+100%25%09%7Ba:String%7D+%3F+%5D", json!([odd])),
        ("limit=5", json!(["a", "b", "c", odd])),
    ] {
        let page = world.get(&format!("{PATH}?{query}")).await.expect(200).json();
        assert_eq!(json!(column(&page["items"], "metric_name")), metrics, "{query}");
        assert_eq!(page["total"], metrics.as_array().unwrap().len());
    }
    // A walk goes over odd names, too.
    let first = world.get(&format!("{PATH}?limit=3&sort=desc")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{PATH}?sort=desc&limit=3&cursor={cursor}")).await.json();
    let mut seen = column(&first["items"], "metric_name");
    seen.extend(column(&rest["items"], "metric_name"));
    assert_eq!(seen, [json!(odd), json!("c"), json!("b"), json!("a")]);
    world.end().await;
}

#[tokio::test]
async fn count_can_be_left_out() {
    let world = World::new().await;
    world.insert(&[sample("GPU-1", T0_MS, "a", 1.0), sample("GPU-1", T0_MS, "b", 1.0)]).await;
    for (query, total) in [
        ("limit=1", json!(2)),
        ("limit=2", json!(2)),
        ("limit=1&count=none", Value::Null),
        ("count=none", Value::Null),
    ] {
        let page = world.get(&format!("{PATH}?{query}")).await.expect(200).json();
        assert_eq!(page["total"], total, "{query}");
    }
    world.end().await;
}

#[tokio::test]
async fn the_count_is_the_same_where_it_has_to_follow_the_page() {
    let world = World::with(|config| config.queries_in_flight_max = 1).await;
    let samples: Vec<_> = (0..7).map(|n| sample("GPU-1", T0_MS + n, "a", 1.0)).collect();
    world.insert(&samples).await;
    for (query, shown) in [("limit=3", 3), ("limit=3&page=3", 1), ("limit=7", 7), ("limit=9", 7)] {
        let page = world.get(&format!("{PATH}?{query}")).await.expect(200).json();
        assert_eq!((&page["total"], page["items"].as_array().unwrap().len()), (&json!(7), shown));
    }
    let first = world.get(&format!("{PATH}?limit=5")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{PATH}?limit=5&cursor={cursor}")).await.expect(200).json();
    assert_eq!((&rest["total"], rest["items"].as_array().unwrap().len()), (&json!(7), 2));
    world.get(&format!("{PATH}?limit=3&page=9")).await.expect(200);
    world.end().await;
}

/// A page of a short window counts in its own statement, one of a longer window in another.
#[tokio::test]
async fn the_count_is_the_same_in_short_and_in_long_windows() {
    let world = World::new().await;
    let metric = |n: i64| if n % 3 == 0 { "a" } else { "b" };
    let mut samples: Vec<_> =
        (0..12).map(|n| sample("GPU-1", T0_MS + n / 2, metric(n), n as f64)).collect();
    samples.push(sample("GPU-1", T0_MS - 1, "a", 1.0));
    samples.push(sample("GPU-1", T0_MS + 16 * 60_000, "a", 1.0));
    samples.push(sample("GPU-2", T0_MS, "a", 1.0));
    world.insert(&samples).await;
    let get = async |query: &str| world.get(&format!("{PATH}?{query}")).await.expect(200).json();
    for (window_ms, metric, total) in [
        (6, "", 12),
        (15 * 60_000, "", 12),
        (15 * 60_000 + 1, "", 12),
        (16 * 60_000, "", 13),
        (6, "&metric=a", 4),
        (16 * 60_000, "&metric=a", 5),
    ] {
        for order in ["asc", "desc"] {
            let end_ms = T0_MS + window_ms;
            let window = format!("start_time={T0_MS}&end_time={end_ms}{metric}&sort={order}");
            let counted = async |query: &str, shown: usize| {
                let page = get(&format!("{window}&{query}")).await;
                let found = (page["total"].as_u64(), page["items"].as_array().unwrap().len());
                assert_eq!(found, (Some(total), shown), "{window}&{query}");
                page["next_cursor"].as_str().map(str::to_owned)
            };
            counted("limit=100", total as usize).await;
            counted("limit=3&page=2", 3.min(total as usize - 3)).await;
            counted("limit=3&page=9", 0).await;
            let mut cursor = counted("limit=3", 3).await;
            let mut left = total as usize - 3;
            while let Some(next) = cursor {
                cursor = counted(&format!("limit=3&cursor={next}"), left.min(3)).await;
                left = left.saturating_sub(3);
            }
            assert_eq!(left, 0);
        }
    }
    world.end().await;
}

#[tokio::test]
async fn unknown_and_impossible_parameters_are_400_with_the_known_ones() {
    let world = World::new().await;
    let reply = world.get(&format!("{PATH}?limits=5&startTime=now")).await.expect(400);
    assert_eq!(reply.json()["type"], "urn:lanecast:problem:unknown-parameter");
    assert_eq!(reply.wrong_params(), ["limits", "startTime"]);
    let reason = reply.json()["errors"][0]["reason"].as_str().unwrap().to_owned();
    for known in ["start_time", "end_time", "window", "limit", "page", "sort", "cursor", "metric"] {
        assert!(reason.contains(known), "{reason}");
    }
    // What one path knows another may not.
    world.get("/api/v1/gpus?metric=a").await.expect(400);
    world.get("/api/v1/gpus/GPU-1?limit=1").await.expect(400);
    for query in
        ["limit=0", "limit=10001", "limit=x", "page=0", "sort=up", "include=all", "count=1"]
    {
        let reply = world.get(&format!("{PATH}?{query}")).await.expect(400);
        assert_eq!(reply.json()["type"], "urn:lanecast:problem:invalid-parameter");
        assert_eq!(reply.wrong_params(), [query.split('=').next().unwrap()]);
    }
    world.end().await;
}

#[tokio::test]
async fn formats_say_the_same() {
    let world = World::new().await;
    let samples: Vec<_> =
        (0..5).map(|n| Sample { ts: T0_MS + n, topic_offset: n as u64, ..full() }).collect();
    world.insert(&samples).await;
    let json = world.get(&format!("{PATH}?include=labels")).await.expect(200).json();
    let items = json["items"].as_array().unwrap();

    let ndjson = world.get(&format!("{PATH}?include=labels&format=ndjson")).await.expect(200);
    assert_eq!(ndjson.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&lines, items);

    let accept = [("accept", "text/csv")];
    let csv = world.get_with(&format!("{PATH}?include=labels"), &accept).await.expect(200);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = csv.text();
    let mut lines = text.split("\r\n");
    assert_eq!(
        lines.next().unwrap(),
        "timestamp,source_timestamp,metric_name,value,id,uuid,gpu_id,device,model_name,hostname,\
         container,pod,namespace,labels_raw"
    );
    assert!(lines.next().unwrap().starts_with(
        "2025-07-18T20:42:34.000Z,2025-07-18T20:42:33.750Z,DCGM_FI_DEV_GPU_UTIL,97.5,2-0,GPU-1,3,\
         nvidia3,NVIDIA H100 80GB HBM3,gpu-node-031,\"trainer, main\",llm-0,\
         \"ml \"\"prod\"\"\",\"DCGM_FI_DRIVER_VERSION=\"\"535.129.03\"\","
    ));
    assert_eq!(lines.count(), 5, "four more rows and the end of the last line");

    // The parameter goes before the header, and pages are linked in every format.
    let both = world.get_with(&format!("{PATH}?format=ndjson&limit=2"), &accept).await;
    let both = both.expect(200);
    assert_eq!(both.header("content-type"), Some("application/x-ndjson"));
    let link = both.header("link").unwrap();
    let next = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    let next = world.get(&next).await.expect(200).text();
    assert!(next.contains("\"id\":\"2-2\"") && next.contains("\"id\":\"2-3\""), "{next}");
    world.end().await;
}

#[tokio::test]
async fn format_that_is_not_there_is_406_with_those_that_are() {
    let world = World::new().await;
    let parquet = [("accept", "application/vnd.apache.parquet")];
    for reply in
        [world.get(&format!("{PATH}?format=parquet")).await, world.get_with(PATH, &parquet).await]
    {
        let detail = reply.expect(406).json()["detail"].as_str().unwrap().to_owned();
        for format in ["json", "ndjson", "csv", "arrow"] {
            assert!(detail.contains(format), "{detail}");
        }
    }
    let arrow = [("accept", "application/vnd.apache.arrow.stream")];
    world.get_with("/api/v1/gpus", &arrow).await.expect(406);
    world.end().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let world = World::new().await;
    let samples: Vec<_> =
        (0..2_000).map(|n| sample("GPU-1", T0_MS + n, "util", n as f64)).collect();
    world.insert(&samples).await;
    let target = format!("{PATH}?limit=2000&end_time=2025-07-19T00:00:00Z");
    let plain = world.get(&target).await.expect(200);
    assert_eq!(plain.header("content-encoding"), None);
    let packed = world.get_with(&target, &[("accept-encoding", "br, gzip")]).await.expect(200);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() * 5 < plain.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    let zstd = world.get_with(&target, &[("accept-encoding", "gzip, zstd")]).await.expect(200);
    assert_eq!(zstd.header("content-encoding"), Some("zstd"));
    assert!(zstd.body.len() * 5 < plain.body.len());
    assert_eq!(zstd::decode_all(&zstd.body[..]).unwrap(), plain.body);
    let weighed = [("accept-encoding", "zstd;q=0.2, gzip;q=0.3")];
    let weighed = world.get_with(&target, &weighed).await.expect(200);
    assert_eq!(weighed.body, packed.body);

    let tags: BTreeSet<_> =
        [&plain, &packed, &zstd].map(|reply| reply.header("etag").unwrap()).into();
    assert_eq!(tags.len(), 3, "codings have tags of their own");
    let tag = zstd.header("etag").unwrap();
    let mut headers = vec![("if-none-match", tag), ("accept-encoding", "zstd")];
    let known = world.get_with(&target, &headers).await.expect(304);
    assert_eq!((known.header("etag"), known.header("content-encoding")), (Some(tag), None));
    headers[1].1 = "gzip";
    world.get_with(&target, &headers).await.expect(200);
    let addr = world.server.addr();
    let head = send(addr, Method::HEAD, &target, &headers[..0], Bytes::new()).await.expect(200);
    assert_eq!(head.header("content-encoding"), None);
    let zstd_only = [("accept-encoding", "zstd")];
    let head = send(addr, Method::HEAD, &target, &zstd_only, Bytes::new()).await.expect(200);
    assert!(head.body.is_empty());
    for name in ["content-encoding", "content-length", "content-type", "etag"] {
        assert_eq!(head.header(name), zstd.header(name), "{name}");
    }
    world.end().await;
}

/// Samples of which a thousand make an answer of 4 MB with their labels.
fn bulky(count: i64) -> Vec<Sample> {
    let large = "x".repeat(4_000);
    (0..count)
        .map(|n| Sample {
            labels: vec![("note".into(), large.clone())],
            ..sample("GPU-1", T0_MS + n, "util", 1.0)
        })
        .collect()
}

#[tokio::test]
async fn answer_that_would_be_too_large_is_refused_and_fewer_rows_are_not() {
    let world = World::new().await;
    world.insert(&bulky(9_000)).await;
    for format in ["json", "ndjson", "csv", "arrow"] {
        let target = format!("{PATH}?include=labels&format={format}");
        let reply = world.get(&format!("{target}&limit=9000")).await.expect(400);
        assert_eq!(reply.wrong_params(), ["limit"]);
        world.get(&format!("{target}&limit=1000")).await.expect(200);
    }
    world.get(&format!("{PATH}?limit=9000")).await.expect(200);
    world.end().await;
}

#[tokio::test]
async fn clients_that_do_not_read_cannot_fill_the_memory() {
    let world = World::with(|config| config.answers_held_bytes_max = 40 << 20).await;
    world.insert(&bulky(7_000)).await;
    let target = format!("{PATH}?include=labels&limit=7000");
    // Reads the first byte of 29 MB, of which the kernel takes only some.
    let mut idle = TcpStream::connect(world.server.addr()).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: t\r\n\r\n");
    idle.write_all(request.as_bytes()).await.unwrap();
    idle.read_u8().await.unwrap();
    let refused = world.get(&target).await.expect(503);
    assert_eq!(refused.json()["type"], "urn:lanecast:problem:overloaded");
    assert!(refused.header("retry-after").is_some());
    // Small answers go on, and large ones when the client is gone.
    world.get(&format!("{PATH}?limit=10")).await.expect(200);
    drop(idle);
    while world.get(&target).await.status == 503 {}
    world.end().await;
}
