//! Batches by what is in them, as the names of cases say it.

use crate::load::Batches;
use crate::{Error, format};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Generic {
        records: u32,
        record_bytes: usize,
    },
    /// Of a small fleet.
    Telemetry {
        rows: u32,
    },
}

pub(super) const RECORDS_OF_128_B: Size = Size::Generic { records: 512, record_bytes: 128 };
pub(super) const TELEMETRY: Size = Size::Telemetry { rows: 1000 };

/// Of 64 KiB, about what a producer sends that does not wait for batches to fill; and telemetry.
pub(super) const MEDIUM: [Size; 4] = [
    RECORDS_OF_128_B,
    Size::Generic { records: 64, record_bytes: 1024 },
    Size::Generic { records: 4, record_bytes: 16 * 1024 },
    TELEMETRY,
];

/// Of 512 KiB where records are large, about what a disk wants at once; and telemetry.
pub(super) const LARGE: [Size; 4] = [
    RECORDS_OF_128_B,
    RECORDS_OF_1_KIB,
    Size::Generic { records: 32, record_bytes: 16 * 1024 },
    TELEMETRY,
];

pub(super) const RECORDS_OF_1_KIB: Size = Size::Generic { records: 512, record_bytes: 1024 };

impl Size {
    pub(super) fn batches(self) -> Result<Batches, Error> {
        match self {
            Self::Generic { records, record_bytes } => Batches::generic(records, record_bytes),
            Self::Telemetry { rows } => Batches::telemetry(rows),
        }
    }

    /// `512 x 1 KiB`, `1000 telemetry rows`
    pub(super) fn name(self) -> String {
        match self {
            Self::Generic { records, record_bytes } => {
                format!("{records} x {}", format::bytes(record_bytes))
            }
            Self::Telemetry { rows } => format!("{rows} telemetry rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_makes_batches_and_has_a_name_of_its_own() {
        for sizes in [MEDIUM, LARGE] {
            let mut names = sizes.map(Size::name);
            for size in sizes {
                assert!(size.batches().unwrap().bytes() > 0, "{size:?}");
            }
            names.sort();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
        assert_eq!(RECORDS_OF_1_KIB.name(), "512 x 1 KiB");
    }
}
