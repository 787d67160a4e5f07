//! Arrow answers, as another implementation of Arrow reads them: ClickHouse's.

use bytes::Bytes;
use clickhouse::Row;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Reply, send};
use crate::world::{Sample, T0_MS, World, sample};

const PATH: &str = "/api/v1/gpus/GPU-1/telemetry";
const MEDIA_TYPE: &str = "application/vnd.apache.arrow.stream";

#[derive(Row, Deserialize)]
struct Described {
    name: String,
    kind: String,
}

/// Columns are found by their names, so that one which the stream lacks has its default.
async fn prepare(world: &World) {
    let table = "CREATE TABLE pages (timestamp DateTime64(3, 'UTC'), \
                 source_timestamp DateTime64(3, 'UTC'), metric_name String, value Float64, \
                 id String, uuid String, gpu_id UInt32, device String, model_name String, \
                 hostname String, container String, pod String, namespace String, \
                 labels_raw String) ENGINE = Memory";
    world.store.client().query(table).execute().await.unwrap();
}

/// Lets ClickHouse read a page into the table.
async fn load(world: &World, page: &Reply) {
    assert_eq!(page.header("content-type"), Some(MEDIA_TYPE));
    let sql = "INSERT INTO pages FORMAT ArrowStream";
    let mut insert = world.store.client().insert_formatted_with(sql);
    insert.send(page.body.clone()).await.unwrap();
    insert.end().await.unwrap();
}

/// What the table has now, as items of the JSON answer.
async fn loaded(world: &World) -> Vec<Value> {
    let sql = "SELECT * FROM pages ORDER BY timestamp, metric_name, id";
    let query = world.store.client().query(sql).with_setting("date_time_output_format", "iso");
    let mut lines = query.fetch_bytes("JSONEachRow").unwrap();
    let lines = lines.collect().await.unwrap();
    let lines = String::from_utf8(lines.to_vec()).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn full(n: i64) -> Sample {
    Sample {
        source_ts: T0_MS - n,
        gpu_index: 3,
        hostname: "höst, \"a\"".into(),
        pod: "llm-0".into(),
        labels: vec![("driver".into(), "535".into())],
        topic_partition: 2,
        topic_offset: n as u64,
        ..sample("GPU-1", T0_MS + n, "util", n as f64 + 0.5)
    }
}

#[tokio::test]
async fn pages_of_a_walk_have_what_the_items_of_json_have() {
    let world = World::new().await;
    let samples: Vec<_> = (0..7).map(full).collect();
    world.insert(&samples).await;
    prepare(&world).await;
    let mut target = format!("{PATH}?include=labels&limit=3&format=arrow");
    let mut pages = 0;
    loop {
        let page = world.get(&target).await.expect(200);
        load(&world, &page).await;
        pages += 1;
        if pages == 1 {
            // Before the cursor, and so on no page of this walk; and after it.
            world.insert(&[full(-5), full(7)]).await;
        }
        let Some(link) = page.header("link") else { break };
        target = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(pages, 3);
    let shown = format!("{PATH}?include=labels&start_time={T0_MS}");
    let json = world.get(&shown).await.expect(200).json();
    assert_eq!(Value::from(loaded(&world).await), json["items"]);
    world.end().await;
}

#[tokio::test]
async fn types_are_those_of_the_document() {
    let world = World::new().await;
    world.insert(&[full(0), Sample { value: f64::NAN, ..full(1) }]).await;
    let page = world.get_with(PATH, &[("accept", MEDIA_TYPE)]).await.expect(200);
    let hex: String = page.body.iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = format!(
        "SELECT arrayJoin(arrayZip(mapKeys(types), mapValues(types))) AS pair, pair.1 AS name, \
         pair.2 AS kind FROM (SELECT map('timestamp', toTypeName(timestamp), 'value', \
         toTypeName(value), 'metric_name', toTypeName(metric_name), 'gpu_id', \
         toTypeName(gpu_id), 'nan', toString(isNaN(value))) AS types \
         FROM format(ArrowStream, unhex('{hex}')) ORDER BY id DESC LIMIT 1)"
    );
    let sql = format!("SELECT name, kind FROM ({sql}) ORDER BY name");
    let found: Vec<Described> = world.store.client().query(&sql).fetch_all().await.unwrap();
    let found: Vec<_> =
        found.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
    let expected = [
        ("gpu_id", "UInt32"),
        ("metric_name", "String"),
        ("nan", "1"),
        ("timestamp", "DateTime64(3, 'UTC')"),
        ("value", "Float64"),
    ];
    assert_eq!(found, expected);
    world.end().await;
}

#[tokio::test]
async fn empty_page_is_a_stream_and_an_unknown_gpu_a_problem() {
    let world = World::new().await;
    world.insert(&[full(0)]).await;
    prepare(&world).await;
    let page = world.get(&format!("{PATH}?window=1m&format=arrow")).await.expect(200);
    load(&world, &page).await;
    assert_eq!(loaded(&world).await, Vec::<Value>::new());
    let unknown = world.get("/api/v1/gpus/GPU-2/telemetry?format=arrow").await.expect(404);
    assert_eq!(unknown.header("content-type"), Some("application/problem+json"));
    world.end().await;
}

#[tokio::test]
async fn validators_codings_and_head_are_as_in_other_formats() {
    let world = World::new().await;
    let samples: Vec<_> = (0..3_000).map(full).collect();
    world.insert(&samples).await;
    let target = format!("{PATH}?limit=3000&end_time=2025-07-19T00:00:00Z");
    let json = world.get(&target).await.expect(200);
    let target = format!("{target}&format=arrow");
    let page = world.get(&target).await.expect(200);
    let tag = page.header("etag").unwrap();
    assert_ne!(Some(tag), json.header("etag"));
    world.get_with(&target, &[("if-none-match", tag)]).await.expect(304);

    let packed = world.get_with(&target, &[("accept-encoding", "zstd, gzip")]).await.expect(200);
    assert_eq!(packed.header("content-encoding"), Some("zstd"));
    assert_ne!(packed.header("etag"), Some(tag));
    assert!(packed.body.len() * 5 < page.body.len());
    assert_eq!(zstd::decode_all(&packed.body[..]).unwrap(), page.body);

    let head = send(world.server.addr(), Method::HEAD, &target, &[], Bytes::new()).await;
    let head = head.expect(200);
    assert!(head.body.is_empty());
    for name in ["content-length", "content-type", "etag", "link"] {
        assert_eq!(head.header(name), page.header(name), "{name}");
    }

    // Several batches in one stream.
    prepare(&world).await;
    load(&world, &page).await;
    let rows = loaded(&world).await;
    assert_eq!(rows.len(), 3_000);
    assert_eq!(rows[2_999]["value"], json!(2_999.5));
    world.end().await;
}
