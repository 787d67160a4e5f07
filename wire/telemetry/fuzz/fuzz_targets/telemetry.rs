//! Telemetry bodies of any bytes: a view that can be read to its end, or refused, no panic. Label
//! text of any kind: read or refused, and never longer than what it was read from.
#![no_main]

use lanecast_telemetry::labels::LabelSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _outcome_either_way_is_fine = lanecast_telemetry::exercise(data);
    let Ok(text) = core::str::from_utf8(data) else { return };
    let mut labels = LabelSet::default();
    if labels.parse(text).is_ok() {
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= text.len());
    }
});
