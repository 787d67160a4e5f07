//! Answers of any bytes to a question for a page of samples: read to their end, or refused; no panic,
//! and no more memory than the page's bounds allow.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _outcome_either_way_is_fine = lanecast_store::read::exercise(data);
});
