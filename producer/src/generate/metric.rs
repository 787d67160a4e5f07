//! The metrics of a generated GPU, in the names and units of dcgm-exporter.

use super::gpu::{Gpu, MEMORY_MIB};

/// The first ten are those of a default exporter; the others follow when more are asked for, and
/// beyond the last any number of loads made up from the GPU's.
const NAMES: [&str; 24] = [
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_ENC_UTIL",
    "DCGM_FI_DEV_DEC_UTIL",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
    "DCGM_FI_DEV_MEMORY_TEMP",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_XID_ERRORS",
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
    "DCGM_FI_PROF_SM_ACTIVE",
    "DCGM_FI_PROF_SM_OCCUPANCY",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "DCGM_FI_PROF_DRAM_ACTIVE",
    "DCGM_FI_PROF_PCIE_TX_BYTES",
    "DCGM_FI_PROF_PCIE_RX_BYTES",
];

pub(crate) fn name(metric: usize) -> String {
    match NAMES.get(metric) {
        Some(name) => (*name).to_owned(),
        None => format!("LANECAST_LOAD_{}", metric - NAMES.len()),
    }
}

/// The value of one metric, rounded as the driver rounds it.
pub(crate) fn value(metric: usize, gpu: &Gpu) -> f64 {
    let busy = gpu.utilization / 100.0;
    match metric {
        0 => gpu.utilization.round(),
        1 => gpu.copy.round(),
        // Encoder, decoder, errors and remapped rows: nothing in a healthy training fleet.
        2 | 3 | 12..=15 => 0.0,
        4 => gpu.temperature_c.round(),
        5 => decimals(gpu.power_w, 1000.0),
        6 => gpu.memory_mib.round(),
        7 => MEMORY_MIB - gpu.memory_mib.round(),
        8 => gpu.sm_clock_mhz,
        9 => 2619.0,
        10 => (gpu.temperature_c * 1.08 + 6.0).round(),
        11 => gpu.energy_mj.round(),
        16 => (busy * 240_000.0 * gpu.intensity).round(),
        17 => decimals(busy, 1e6),
        18 => decimals(busy * 0.86, 1e6),
        19 => decimals(busy * 0.41, 1e6),
        20 => decimals(busy * 0.55 * gpu.intensity, 1e6),
        21 => decimals(gpu.copy / 100.0, 1e6),
        22 => (busy * 1.1e9 * gpu.intensity).round(),
        23 => (busy * 2.7e9 * gpu.intensity).round(),
        more => decimals(gpu.utilization * (1.0 - (more % 37) as f64 / 50.0), 100.0),
    }
}

fn decimals(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_name() {
        let names: std::collections::BTreeSet<String> = (0..1000).map(name).collect();
        assert_eq!(names.len(), 1000);
    }
}
