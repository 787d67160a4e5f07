//! The identities of a generated fleet. Names and uuids are made up from the seed.

use lanecast_telemetry::{Identity, SeriesCatalog, SeriesId};
use lanecast_wire::builder::RecordRefused;

use super::GenerateConfig;
use super::random::Random;

/// Series of every GPU in order, and where each host begins.
pub(crate) struct Fleet {
    pub(crate) series: Vec<SeriesId>,
    /// First GPU of each host, and the end of the last.
    pub(crate) host_starts: Vec<u32>,
}

const MODEL: &str = "NVIDIA H100 80GB HBM3";
const DRIVER: &str = "550.90.07";

impl Fleet {
    pub(crate) fn new(
        config: &GenerateConfig,
        catalog: &mut SeriesCatalog,
    ) -> Result<Self, RecordRefused> {
        let missing = missing_gpus(config);
        let mut fleet = Fleet { series: Vec::new(), host_starts: vec![0] };
        for host in 0..config.hosts {
            let hostname = format!("gpu-node-{:03}", host + 1);
            let instance = format!("{hostname}:9400");
            let labels = [
                ("DCGM_FI_DRIVER_VERSION", DRIVER),
                ("instance", instance.as_str()),
                ("job", "dcgm_exporter"),
            ];
            for gpu_index in 0..config.gpus_per_host {
                let place =
                    u64::from(host) * u64::from(config.gpus_per_host) + u64::from(gpu_index);
                if missing.contains(&place) {
                    continue;
                }
                let identity = Identity {
                    uuid: &uuid(config.seed, place),
                    device: &format!("nvidia{gpu_index}"),
                    model: MODEL,
                    hostname: &hostname,
                    gpu_index,
                    labels: &labels,
                    ..Identity::default()
                };
                fleet.series.push(catalog.series(&identity)?);
            }
            fleet.host_starts.push(fleet.series.len() as u32);
        }
        Ok(fleet)
    }
}

/// Places of GPUs that are out for repair, sorted.
fn missing_gpus(config: &GenerateConfig) -> Vec<u64> {
    let places = u64::from(config.hosts) * u64::from(config.gpus_per_host);
    let mut random = Random::new(config.seed, 0x6d69_7373);
    let mut missing = Vec::new();
    while (missing.len() as u64) < u64::from(config.missing_gpus) {
        let place = random.next() % places;
        if !missing.contains(&place) {
            missing.push(place);
        }
    }
    missing.sort_unstable();
    missing
}

/// In the form of NVIDIA's, `GPU-` and a version 4 UUID.
fn uuid(seed: u64, place: u64) -> String {
    let mut random = Random::new(seed, place.wrapping_add(0x7575_6964));
    let (high, low) = (random.next(), random.next());
    format!(
        "GPU-{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 48) & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}
