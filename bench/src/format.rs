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

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Left,
    Right,
}

/// The head and the rows, in columns as wide as what is in them, behind `indent` blanks.
#[must_use]
pub fn columns(head: &[(&str, Column)], rows: &[Vec<String>], indent: usize) -> String {
    let titles: Vec<String> = head.iter().map(|(title, _)| (*title).to_owned()).collect();
    let lines: Vec<&Vec<String>> = [&titles].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for cells in &lines {
        let mut line = " ".repeat(indent);
        for ((cell, width), (_, column)) in cells.iter().zip(&widths).zip(head) {
            match column {
                Column::Left => line.push_str(&format!("{cell:<width$}  ")),
                Column::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
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

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let head = [("NAME", Column::Left), ("N", Column::Right)];
        let rows =
            [vec!["µ".to_owned(), "1,234".to_owned()], vec!["longer".to_owned(), "7".to_owned()]];
        assert_eq!(columns(&head, &rows, 1), " NAME        N\n µ       1,234\n longer      7\n");
    }
}
