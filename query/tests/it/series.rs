//! What `/api/v1/gpus/{id}/series` shows.

use serde_json::{Value, json};

use crate::world::{Sample, T0_MS, World, sample};

const PATH: &str = "/api/v1/gpus/GPU-1/series";

/// The minute in which `T0_MS` lies, and the hour.
const MINUTE_MS: i64 = T0_MS - T0_MS % 60_000;
const HOUR_MS: i64 = T0_MS - T0_MS % 3_600_000;

/// Samples of one metric of GPU-1, milliseconds after the minute.
fn samples(metric: &str, of: &[(i64, f64)]) -> Vec<Sample> {
    of.iter().map(|(ms, value)| sample("GPU-1", MINUTE_MS + ms, metric, *value)).collect()
}

async fn get(world: &World, query: &str) -> Value {
    world.get(&format!("{PATH}?{query}")).await.expect(200).json()
}

/// The values of the only series, after a look at the window of `minutes` from the minute on.
async fn values(world: &World, minutes: i64, query: &str) -> Value {
    let end_ms = MINUTE_MS + minutes * 60_000;
    let answer = get(world, &format!("start_time={MINUTE_MS}&end_time={end_ms}&{query}")).await;
    assert_eq!(answer["series"].as_array().unwrap().len(), 1, "{answer}");
    answer["series"][0]["values"].clone()
}

#[tokio::test]
async fn answer_has_every_field_of_the_contract() {
    let world = World::new().await;
    let mut all = samples("temp", &[(1_000, 40.0), (31_000, 41.0)]);
    all.extend(samples("util", &[(0, 10.0), (29_999, 20.0), (30_000, 50.0)]));
    world.insert(&all).await;
    let answer = get(&world, &format!("start_time={MINUTE_MS}&window=1m&step=30s")).await;
    let expected = json!({
        "step": "30s",
        "resolution": "raw",
        "timestamps": ["2025-07-18T20:42:00.000Z", "2025-07-18T20:42:30.000Z"],
        "series": [
            {"metric": "temp", "agg": "avg", "values": [40, 41]},
            {"metric": "util", "agg": "avg", "values": [15, 50]},
        ],
    });
    assert_eq!(answer, expected);
    let one = get(&world, "metric=temp&metric=other&step=1m&agg=max").await;
    let expected = json!({
        "step": "1m",
        "resolution": "1m",
        "timestamps": ["2025-07-18T20:42:00.000Z"],
        "series": [{"metric": "temp", "agg": "max", "values": [41]}],
    });
    assert_eq!(one, expected);
    world.end().await;
}

#[tokio::test]
async fn buckets_are_half_open_aligned_and_whole_whatever_the_window() {
    let world = World::new().await;
    world.insert(&samples("util", &[(0, 1.0), (19_999, 2.0), (20_000, 4.0), (59_999, 8.0)])).await;
    for (start_ms, end_ms, first, sums) in [
        (0, 60_000, "20:42:00", json!([3, 4, 8])),
        // The end is not in the window; one millisecond more is.
        (0, 20_000, "20:42:00", json!([3])),
        (0, 20_001, "20:42:00", json!([3, 4])),
        // Within a bucket: the bucket is whole.
        (19_000, 19_001, "20:42:00", json!([3])),
        (59_998, 59_999, "20:42:40", json!([8])),
    ] {
        let (start_ms, end_ms) = (MINUTE_MS + start_ms, MINUTE_MS + end_ms);
        let query = format!("start_time={start_ms}&end_time={end_ms}&step=20s&agg=sum");
        let answer = get(&world, &query).await;
        assert_eq!(answer["timestamps"][0], format!("2025-07-18T{first}.000Z"), "{query}");
        assert_eq!(answer["series"][0]["values"], sums, "{query}");
    }
    let moment = get(&world, &format!("start_time={MINUTE_MS}&end_time={MINUTE_MS}")).await;
    assert_eq!((&moment["timestamps"], &moment["series"]), (&json!([]), &json!([])));
    // Days and weeks begin at midnight UTC; a week on the weekday of 1970-01-01.
    let day = get(&world, "step=1d").await;
    assert_eq!(day["timestamps"], json!(["2025-07-18T00:00:00.000Z"]));
    let week = get(&world, "step=1w").await;
    assert_eq!(week["timestamps"], json!(["2025-07-17T00:00:00.000Z"]));
    world.end().await;
}

#[tokio::test]
async fn a_missing_end_of_the_window_is_that_of_the_samples() {
    let world = World::new().await;
    world.insert(&samples("util", &[(500, 1.0), (2_500, 3.0)])).await;
    world.insert(&[sample("GPU-2", MINUTE_MS + 9_000, "util", 9.0)]).await;
    for (query, values) in [
        ("step=1s".to_owned(), json!([1, null, 3])),
        (format!("step=1s&start_time={}", MINUTE_MS + 2_000), json!([3])),
        (format!("step=1s&end_time={}", MINUTE_MS + 2_000), json!([1, null])),
        (String::new(), json!([1, null, 3])),
    ] {
        assert_eq!(get(&world, &query).await["series"][0]["values"], values, "{query}");
    }
    let after = get(&world, &format!("start_time={}", MINUTE_MS + 60_000)).await;
    assert_eq!(after["series"], json!([]));
    // By its slot, too.
    let slot = world.get("/api/v1/gpus/host-a:0/series?step=1s").await.expect(200).json();
    assert_eq!(slot["series"][0]["values"], json!([9]));
    world.end().await;
}

#[tokio::test]
async fn every_aggregate_says_what_its_name_does() {
    let world = World::new().await;
    let of: Vec<(i64, f64)> =
        (0..101).map(|n| (n * 500, f64::from((n * 37 % 101) as i32))).collect();
    world.insert(&samples("util", &of)).await;
    for (agg, value) in [
        ("avg", json!(50)),
        ("min", json!(0)),
        ("max", json!(100)),
        ("last", json!(of[100].1 as i64)),
        ("sum", json!(5_050)),
        ("count", json!(101)),
        ("p50", json!(50)),
        ("p90", json!(90)),
        ("p95", json!(95)),
        ("p99", json!(99)),
    ] {
        // Of samples, and of a roll-up where there is one.
        for step in ["51s", "1m", "1h"] {
            let answer = get(&world, &format!("step={step}&agg={agg}&fill=none")).await;
            let shown: Vec<_> = answer["series"][0]["values"].as_array().unwrap().clone();
            if step != "51s" {
                assert_eq!(shown, std::slice::from_ref(&value), "{agg} {step}");
                let rolled_up = if agg.starts_with('p') { "raw" } else { step };
                assert_eq!(answer["resolution"], rolled_up, "{agg}");
            }
            assert_eq!(answer["series"][0]["agg"], agg);
        }
    }
    // Between two samples: a share of both.
    world.insert(&samples("two", &[(0, 10.0), (1, 20.0)])).await;
    assert_eq!(values(&world, 1, "metric=two&step=1m&agg=p75").await, json!([17.5]));
    world.end().await;
}

#[tokio::test]
async fn roll_ups_say_the_same_as_samples() {
    let world = World::new().await;
    let mut state = 12_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    // Whole numbers, whose sums are the same in any order; in several inserts, out of order.
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut batch = Vec::new();
        for _ in 0..700 {
            let metric = ["a", "b"][random(2) as usize];
            let ts = HOUR_MS + random(5 * 3_600_000) as i64;
            batch.push(sample("GPU-1", ts, metric, random(1_000) as f64));
        }
        world.insert(&batch).await;
        all.extend(batch);
    }
    // No two of a series in one millisecond, of which either may be the last.
    all.sort_by_key(|sample| (sample.ts, sample.metric.clone()));
    assert!(
        all.windows(2).all(|pair| (pair[0].ts, &pair[0].metric) != (pair[1].ts, &pair[1].metric))
    );
    let (start_ms, end_ms) = (HOUR_MS + 1_234_567, HOUR_MS + 4 * 3_600_000 + 7_654);
    for agg in ["avg", "min", "max", "last", "sum", "count"] {
        for (step, minutes) in [("1m", 1), ("7m", 7), ("90m", 90), ("1h", 60), ("2h", 120)] {
            let window = format!("start_time={start_ms}&end_time={end_ms}&agg={agg}");
            let rolled_up = get(&world, &format!("{window}&step={step}")).await;
            let table = if minutes % 60 == 0 { "1h" } else { "1m" };
            assert_eq!(rolled_up["resolution"], table, "{agg} {step}");
            let step_ms = minutes * 60_000;
            let first_ms = start_ms / step_ms * step_ms;
            let points = (end_ms - 1) / step_ms - start_ms / step_ms + 1;
            let expected = by_hand(&all, agg, first_ms, step_ms, points);
            assert_eq!(rolled_up["series"], expected, "{agg} {step}");
        }
    }
    world.end().await;
}

/// The series as they should be, put together from the samples in the order of time.
fn by_hand(samples: &[Sample], agg: &str, first_ms: i64, step_ms: i64, points: i64) -> Value {
    let series = ["a", "b"].map(|metric| {
        let values = (0..points).map(|bucket| {
            let start_ms = first_ms + bucket * step_ms;
            let within = |sample: &&Sample| {
                sample.metric == metric && (start_ms..start_ms + step_ms).contains(&sample.ts)
            };
            let of: Vec<f64> = samples.iter().filter(within).map(|sample| sample.value).collect();
            let last = *of.last()?;
            let (sum, count) = (of.iter().sum::<f64>(), of.len() as f64);
            Some(match agg {
                "avg" => sum / count,
                "min" => of.iter().copied().fold(f64::INFINITY, f64::min),
                "max" => of.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                "last" => last,
                "sum" => sum,
                "count" => count,
                other => panic!("{other}"),
            })
        });
        let json = |value: Option<f64>| match value {
            Some(value) if value.fract() == 0.0 => json!(value as i64),
            value => json!(value),
        };
        json!({"metric": metric, "agg": agg, "values": values.map(json).collect::<Vec<_>>()})
    });
    json!(series)
}

#[tokio::test]
async fn rate_goes_on_over_resets_and_gaps() {
    let world = World::new().await;
    world
        .insert(&samples(
            "energy",
            &[
                // One sample before the window, and one too far from it.
                (-1_200_000, 5_000.0),
                (-10_000, 100.0),
                (10_000, 300.0),
                (20_000, 400.0),
                // The exporter began anew: 50 since.
                (30_000, 50.0),
                // The same record twice.
                (30_000, 50.0),
                (70_000, 450.0),
                // After ten minutes of silence nobody knows.
                (670_000, 1_000.0),
                (680_000, 1_010.0),
            ],
        ))
        .await;
    let rate = values(&world, 12, "agg=rate&step=1m").await;
    let first = (200.0 + 100.0 + 50.0) / 40.0;
    let expected: Vec<Option<f64>> = (0..12)
        .map(|n| [(0, first), (1, 10.0), (11, 1.0)].iter().find(|p| p.0 == n).map(|p| p.1))
        .collect();
    let shown: Vec<Option<f64>> = rate.as_array().unwrap().iter().map(Value::as_f64).collect();
    assert_eq!(shown, expected);
    // A bucket says the same in any window.
    let start_ms = MINUTE_MS + 60_000;
    let later = get(&world, &format!("start_time={start_ms}&window=1m&agg=rate&step=1m")).await;
    assert_eq!(later["series"][0]["values"], json!([10]));
    // A longer step reaches further, here to the sample that was too far before.
    let coarse = values(&world, 20, "agg=rate&step=20m").await;
    let (gained, elapsed) = (100.0 + 200.0 + 100.0 + 50.0 + 400.0 + 550.0 + 10.0, 1_880.0);
    assert_eq!(coarse.as_array().unwrap()[1..], [Value::Null]);
    assert!((coarse[0].as_f64().unwrap() - gained / elapsed).abs() < 1e-9, "{coarse}");
    world.end().await;
}

#[tokio::test]
async fn samples_of_one_millisecond_all_count() {
    let world = World::new().await;
    let twice = samples("util", &[(0, 1.0), (0, 1.0), (0, 4.0)]);
    world.insert(&twice).await;
    for (agg, value) in [("count", 3), ("sum", 6), ("avg", 2), ("max", 4)] {
        for step in ["1s", "1m", "1h"] {
            let answer = get(&world, &format!("step={step}&agg={agg}")).await;
            assert_eq!(answer["series"][0]["values"], json!([value]), "{agg} {step}");
        }
    }
    let last = get(&world, "agg=last&step=1s").await["series"][0]["values"][0].clone();
    assert!(last == json!(1) || last == json!(4), "{last}");
    world.end().await;
}

#[tokio::test]
async fn buckets_without_samples_are_filled_as_asked() {
    let world = World::new().await;
    let mut all = samples("a", &[(1_000, 1.0), (3_000, 3.0)]);
    all.extend(samples("b", &[(3_500, 7.0), (4_000, f64::NAN)]));
    world.insert(&all).await;
    let window = format!("start_time={MINUTE_MS}&window=6s&step=1s");
    for (fill, a, b) in [
        ("", json!([null, 1, null, 3, null, null]), json!([null, null, null, 7, null, null])),
        (
            "&fill=null",
            json!([null, 1, null, 3, null, null]),
            json!([null, null, null, 7, null, null]),
        ),
        ("&fill=zero", json!([0, 1, 0, 3, 0, 0]), json!([0, 0, 0, 7, 0, 0])),
        ("&fill=previous", json!([null, 1, 1, 3, 3, 3]), json!([null, null, null, 7, 7, 7])),
        ("&fill=none", json!([1, 3]), json!([null, 7])),
    ] {
        let answer = get(&world, &format!("{window}{fill}")).await;
        assert_eq!(answer["series"][0]["values"], a, "{fill}");
        assert_eq!(answer["series"][1]["values"], b, "{fill}");
        assert_eq!(answer["timestamps"].as_array().unwrap().len(), a.as_array().unwrap().len());
    }
    world.end().await;
}

#[tokio::test]
async fn points_are_as_many_as_asked_for_at_most() {
    let world = World::new().await;
    world.insert(&samples("util", &[(0, 1.0), (3_599_000, 2.0)])).await;
    for (query, step, points) in [
        ("", "15s", 240),
        ("max_points=60", "1m", 60),
        ("max_points=59", "2m", 30),
        ("max_points=3", "30m", 3),
        ("max_points=2", "1h", 2),
        ("max_points=10000", "1s", 3_600),
    ] {
        // Of an hour, on its minute.
        let answer = get(&world, query).await;
        assert_eq!(answer["step"], step, "{query}");
        assert!(answer["timestamps"].as_array().unwrap().len().abs_diff(points) <= 1, "{query}");
    }
    world.end().await;
}

#[tokio::test]
async fn formats_say_the_same_and_no_other_is_promised() {
    let world = World::new().await;
    let odd = "a, \"b\"";
    let mut all = samples(odd, &[(0, 1.5), (2_000, 2.0)]);
    all.extend(samples("util", &[(0, 97.0)]));
    world.insert(&all).await;
    let target = format!("{PATH}?step=1s&agg=max");
    let csv = world.get_with(&target, &[("accept", "text/csv")]).await.expect(200);
    assert_eq!(
        csv.text(),
        "timestamp,metric,agg,value\r\n\
         2025-07-18T20:42:00.000Z,\"a, \"\"b\"\"\",max,1.5\r\n\
         2025-07-18T20:42:01.000Z,\"a, \"\"b\"\"\",max,\r\n\
         2025-07-18T20:42:02.000Z,\"a, \"\"b\"\"\",max,2\r\n\
         2025-07-18T20:42:00.000Z,util,max,97\r\n\
         2025-07-18T20:42:01.000Z,util,max,\r\n\
         2025-07-18T20:42:02.000Z,util,max,\r\n"
    );
    let ndjson = world.get(&format!("{target}&format=ndjson&fill=none")).await.expect(200).text();
    let lines: Vec<Value> =
        ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    let second =
        json!({"timestamp": "2025-07-18T20:42:02.000Z", "metric": odd, "agg": "max", "value": 2});
    assert_eq!(lines[1], second);
    world.get(&format!("{target}&format=arrow")).await.expect(406);
    let arrow = [("accept", "application/vnd.apache.arrow.stream")];
    world.get_with(&target, &arrow).await.expect(406);
    // A window that is closed may be kept, one that is not may not.
    assert!(csv.header("etag").is_some());
    let open = world.get(&format!("{PATH}?window=1h")).await.expect(200);
    assert_eq!(open.header("etag"), None);
    world.end().await;
}

#[tokio::test]
async fn nothing_to_show_is_empty_and_an_unknown_gpu_is_404() {
    let world = World::new().await;
    world.insert(&samples("util", &[(0, 1.0)])).await;
    for query in
        ["window=1h", "metric=none", "start_time=0&window=1h", "metric=none&agg=rate&fill=zero"]
    {
        let answer = get(&world, query).await;
        assert_eq!((&answer["timestamps"], &answer["series"]), (&json!([]), &json!([])), "{query}");
    }
    for query in ["", "?window=1h", "?start_time=5&end_time=5"] {
        for id in ["GPU-9", "host-z:0"] {
            world.get(&format!("/api/v1/gpus/{id}/series{query}")).await.expect(404);
        }
    }
    world.get("/api/v1/gpus/3/series").await.expect(400);
    world.end().await;
}

#[tokio::test]
async fn hostile_parameters_are_answered_and_change_nothing() {
    let world = World::new().await;
    world.insert(&samples("util", &[(0, 1.0)])).await;
    for (query, param) in [
        ("metrics=util", "metrics"),
        ("limit=5", "limit"),
        ("step=0s", "step"),
        ("step=1", "step"),
        ("step=-1m", "step"),
        ("step=1m%27%29%20OR%201%3D1", "step"),
        ("step=1m&max_points=5", "max_points"),
        ("step=1m&step=1m", "step"),
        ("max_points=0", "max_points"),
        ("max_points=1", "max_points"),
        ("max_points=10001", "max_points"),
        ("agg=p100", "agg"),
        ("agg=p49", "agg"),
        ("agg=p5", "agg"),
        ("agg=AVG", "agg"),
        ("agg=median", "agg"),
        ("fill=linear", "fill"),
        ("step=1ms&start_time=0", "step"),
        ("step=1s&window=100d", "step"),
        ("start_time=2&end_time=1", "start_time"),
        ("start_time=1&end_time=2&window=1s", "window"),
        ("metric=", "metric"),
    ] {
        let reply = world.get(&format!("{PATH}?{query}")).await.expect(400);
        assert_eq!(reply.wrong_params(), [param], "{query}");
    }
    let many = vec!["metric=m"; 65].join("&");
    world.get(&format!("{PATH}?{many}")).await.expect(400);
    // All of time, in every way.
    for agg in ["avg", "p99", "rate"] {
        for window in [
            "start_time=0",
            "start_time=1900-01-01T00:00:00Z&end_time=2299-12-31T23:59:59Z",
            "window=36600d",
        ] {
            let answer = get(&world, &format!("{window}&agg={agg}&fill=none")).await;
            let found = answer["series"].as_array().unwrap().len();
            assert_eq!(found, usize::from(agg != "rate"), "{window} {agg}");
        }
        let year = format!("step=36600d&start_time=1900-01-01T00:00:00Z&agg={agg}");
        get(&world, &year).await;
    }
    let odd = "metric=it%27s%20%5C%20%7Ba:String%7D%20?%20]&metric=util%27%29%20OR%201%3D1%20--";
    assert_eq!(get(&world, odd).await["series"], json!([]));
    // More series than an answer may have must be named.
    let many: Vec<_> = (0..65).map(|n| sample("GPU-3", T0_MS, &format!("m{n}"), 1.0)).collect();
    world.insert(&many).await;
    let reply = world.get("/api/v1/gpus/GPU-3/series").await.expect(400);
    assert_eq!(reply.wrong_params(), ["metric"]);
    world.get("/api/v1/gpus/GPU-3/series?metric=m1&metric=m64").await.expect(200);
    world.end().await;
}
