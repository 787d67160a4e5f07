//! What a generated fleet promises.

use std::collections::{BTreeMap, BTreeSet};

use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{ShardOf, Source, SourceError, Step, Timestamps};

use crate::drain::{NOW_MS, Sampled, drain};

fn config() -> GenerateConfig {
    GenerateConfig { real_time: false, ..GenerateConfig::default() }
}

fn samples(config: GenerateConfig, samples_max: usize) -> Vec<Sampled> {
    let (found, failure) = drain(&mut GenerateSource::new(config).unwrap(), samples_max);
    assert!(failure.is_none());
    found
}

/// Values of each GPU by metric, for the last of `rounds`.
fn snapshot(seed: u64, rounds: u64) -> Vec<BTreeMap<String, f64>> {
    let duration_ms = Some(rounds * 1000);
    let found = samples(GenerateConfig { seed, duration_ms, ..config() }, usize::MAX);
    assert_eq!(found.len() as u64, rounds * 2470);
    let last = &found[found.len() - 2470..];
    last.chunks(10)
        .map(|gpu| gpu.iter().map(|s| (s.metric["DCGM_FI_DEV_".len()..].into(), s.value)).collect())
        .collect()
}

#[test]
fn same_seed_gives_the_same_samples_and_another_seed_others() {
    let seeded = |seed| samples(GenerateConfig { seed, hosts: 4, ..config() }, 2000);
    assert_eq!(seeded(7), seeded(7));
    assert_ne!(seeded(7), seeded(8));
}

/// Changing what a seed means changes `samples/`, so it is written down.
#[test]
fn first_samples_of_seed_1_are_known() {
    let found = samples(config(), 10);
    let values: Vec<f64> = found.iter().map(|sample| sample.value).collect();
    assert_eq!(found[0].uuid, "GPU-81fa7195-f504-4d28-9101-ab6a1d9e8108");
    let expected = [97.0, 73.0, 0.0, 0.0, 60.0, 550.897, 48_469.0, 32_538.0, 1980.0, 2619.0];
    assert_eq!(values, expected);
}

#[test]
fn default_fleet_is_31_hosts_of_8_with_one_gpu_missing() {
    let found = samples(config(), 2470);
    let uuids: BTreeSet<&str> = found.iter().map(|s| s.uuid.as_str()).collect();
    let hosts: BTreeSet<&str> = found.iter().map(|s| s.hostname.as_str()).collect();
    let places: BTreeSet<(&str, u32)> =
        found.iter().map(|s| (s.hostname.as_str(), s.gpu_index)).collect();
    let metrics: BTreeSet<&str> = found.iter().map(|s| s.metric.as_str()).collect();
    assert_eq!((uuids.len(), hosts.len(), places.len(), metrics.len()), (247, 31, 247, 10));
    let sample = &found[17];
    assert_eq!(sample.device, format!("nvidia{}", sample.gpu_index));
    assert_eq!(sample.labels["instance"], format!("{}:9400", sample.hostname));
    assert!(sample.uuid.starts_with("GPU-") && sample.uuid.len() == 40);
}

#[test]
fn values_lie_in_the_ranges_of_real_cards_and_agree_with_each_other() {
    for seed in 1..4 {
        for gpu in snapshot(seed, 20) {
            let of = |metric: &str| gpu[metric];
            assert_eq!(of("FB_USED") + of("FB_FREE"), 81_007.0);
            assert_eq!(of("MEM_CLOCK"), 2619.0);
            assert!((60.0..700.0).contains(&of("POWER_USAGE")), "{gpu:?}");
            assert!((20.0..=90.0).contains(&of("GPU_TEMP")), "{gpu:?}");
            assert!((0.0..=100.0).contains(&of("GPU_UTIL")), "{gpu:?}");
            assert!((0.0..=100.0).contains(&of("MEM_COPY_UTIL")), "{gpu:?}");
            if of("FB_USED") == 4.0 {
                assert_eq!((of("GPU_UTIL"), of("SM_CLOCK")), (0.0, 345.0), "{gpu:?}");
            }
            if of("GPU_UTIL") >= 90.0 {
                assert!(of("SM_CLOCK") >= 1900.0 && of("FB_USED") > 500.0, "{gpu:?}");
            }
        }
    }
}

/// The real snapshot has 48 % of its GPUs at work, 39 % free and 13 % held; at work the median
/// power is 494 W, the median temperature 52 degrees and the median copy load 42 %.
#[test]
fn fleet_looks_like_a_real_one() {
    let gpus: Vec<_> = (1..7).flat_map(|seed| snapshot(seed, 12)).collect();
    let share = |of: &dyn Fn(&BTreeMap<String, f64>) -> bool| {
        gpus.iter().filter(|gpu| of(gpu)).count() as f64 / gpus.len() as f64
    };
    let median = |metric: &str, of: &dyn Fn(&BTreeMap<String, f64>) -> bool| {
        let mut values: Vec<f64> =
            gpus.iter().filter(|gpu| of(gpu)).map(|gpu| gpu[metric]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let busy = |gpu: &BTreeMap<String, f64>| gpu["GPU_UTIL"] > 0.0;
    let free = |gpu: &BTreeMap<String, f64>| gpu["FB_USED"] == 4.0;
    let held = |gpu: &BTreeMap<String, f64>| !busy(gpu) && !free(gpu);
    let found = [share(&busy), share(&free), share(&held)];
    eprintln!("busy, free, held: {found:?}");
    for metric in ["POWER_USAGE", "GPU_TEMP", "MEM_COPY_UTIL", "GPU_UTIL", "FB_USED"] {
        let medians = [median(metric, &busy), median(metric, &free), median(metric, &held)];
        eprintln!("{metric}: {medians:?}");
    }
    assert!((0.38..0.58).contains(&found[0]) && (0.30..0.50).contains(&found[1]), "{found:?}");
    assert!((0.06..0.20).contains(&found[2]), "{found:?}");
    assert!((440.0..540.0).contains(&median("POWER_USAGE", &busy)));
    assert!((66.0..80.0).contains(&median("POWER_USAGE", &free)));
    assert!((46.0..58.0).contains(&median("GPU_TEMP", &busy)));
    assert!((26.0..33.0).contains(&median("GPU_TEMP", &free)));
    assert!((35.0..50.0).contains(&median("MEM_COPY_UTIL", &busy)));
    assert!(median("GPU_UTIL", &busy) >= 95.0);
}

#[test]
fn jobs_come_and_go() {
    let duration_ms = Some(6 * 3_600_000);
    let hourly = GenerateConfig { interval_ms: 600_000, duration_ms, ..config() };
    let found = samples(GenerateConfig { metrics: 1, ..hourly }, usize::MAX);
    let mut busy: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for sample in &found {
        busy.entry(&sample.uuid).or_default().push(sample.value > 0.0);
    }
    let changed = busy.values().filter(|states| states.windows(2).any(|w| w[0] != w[1])).count();
    assert!(changed > 100, "{changed} of 247 changed in six hours");
    let share = found.iter().filter(|s| s.value > 0.0).count() as f64 / found.len() as f64;
    assert!((0.35..0.60).contains(&share), "{share}");
}

#[test]
fn samples_are_spaced_by_the_interval_and_stamped_by_the_rule() {
    for (timestamps, expected) in
        [(Timestamps::Now, [NOW_MS, NOW_MS]), (Timestamps::Original, [5000, 5250])]
    {
        let config = GenerateConfig {
            hosts: 1,
            missing_gpus: 7,
            metrics: 1,
            interval_ms: 250,
            start_ms: Some(5000),
            timestamps,
            ..config()
        };
        // At most half may be missing.
        assert!(GenerateSource::new(config.clone()).is_err());
        let found = samples(GenerateConfig { gpus_per_host: 1, missing_gpus: 0, ..config }, 2);
        let times = [found[0].ts_ms, found[1].ts_ms];
        assert_eq!(
            (times, [found[0].source_ts_ms, found[1].source_ts_ms]),
            (expected, [5000, 5250])
        );
    }
}

#[test]
fn real_time_announces_when_each_round_is_due() {
    let mut source = GenerateSource::new(GenerateConfig {
        hosts: 1,
        gpus_per_host: 1,
        missing_gpus: 0,
        metrics: 1,
        rows: Some(2),
        ..GenerateConfig::default()
    })
    .unwrap();
    let mut steps = Vec::new();
    for _ in 0..5 {
        let step = source.next(NOW_MS).unwrap();
        let is_point = matches!(step, Step::Point(_));
        steps.push(if is_point { "point".to_owned() } else { format!("{step:?}") });
    }
    let due = |us: u64| format!("Due {{ elapsed_us: {us} }}");
    assert_eq!(steps, [due(0), "point".into(), due(1_000_000), "point".into(), "End".into()]);
}

#[test]
fn shards_of_a_fleet_are_disjoint_and_whole() {
    let whole = samples(config(), 2470);
    let mut parts: Vec<Sampled> = (0..3)
        .flat_map(|index| {
            let shard = ShardOf::new(index, 3).unwrap();
            samples(GenerateConfig { shard, duration_ms: Some(1000), ..config() }, usize::MAX)
        })
        .collect();
    let key = |s: &Sampled| (s.hostname.clone(), s.gpu_index, s.metric.clone());
    parts.sort_by_key(key);
    let mut expected = whole;
    expected.sort_by_key(key);
    assert_eq!(parts, expected);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (bad, name) in [
        (GenerateConfig { hosts: 0, ..config() }, "hosts"),
        (GenerateConfig { gpus_per_host: 65, ..config() }, "gpus per host"),
        (GenerateConfig { metrics: 0, ..config() }, "metrics"),
        (GenerateConfig { hosts: 100_000, gpus_per_host: 64, ..config() }, "GPUs in all"),
        (GenerateConfig { missing_gpus: 200, ..config() }, "missing GPUs"),
        (GenerateConfig { interval_ms: 0, ..config() }, "interval in ms"),
    ] {
        let error = GenerateSource::new(bad).err().unwrap();
        assert!(matches!(error, SourceError::Setting { setting, .. } if setting == name), "{name}");
    }
}
