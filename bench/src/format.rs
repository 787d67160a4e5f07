//! Numbers for people.

/// `1.23 M`, `45.6 k`, `789`
#[must_use]
pub fn rate(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// `1.2 s`, `3.45 ms`, `67.8 us`, `910 ns`
#[must_use]
pub fn duration_ns(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.2} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.2} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.1} us", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}

/// `128 B`, `64 KiB`, `1 MiB`
#[must_use]
pub fn bytes(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => {
            format!("{} MiB", bytes >> 20)
        }
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => {
            format!("{} KiB", bytes >> 10)
        }
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([rate(1_234_567.0), rate(45_600.0), rate(789.4)], ["1.23 M", "45.6 k", "789"]);
        let times = [1.2e9, 3.45e6, 67_800.0, 910.0].map(duration_ns);
        assert_eq!(times, ["1.20 s", "3.45 ms", "67.8 us", "910 ns"]);
        assert_eq!([bytes(128), bytes(65_536), bytes(1 << 20)], ["128 B", "64 KiB", "1 MiB"]);
    }
}
