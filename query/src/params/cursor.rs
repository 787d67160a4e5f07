//! Opaque cursors: where a walk through the pages of one question stands.
//!
//! ```text
//! base64url, no padding, of
//! version  u8     1
//! kind     u8     1 = GPU list, 2 = telemetry
//! sort     u8     0 = ascending, 1 = descending
//! bounds   u8     bit 0: start follows is meant, bit 1: end is
//! page     u32    number of the page that the cursor leads to
//! filters  u64    fingerprint of the question, without its limit
//! start    i64    the window as the first page resolved it, so that `now-1h` does not move
//! end      i64    under a walk
//! position        kind 1: uuid, the rest of the text
//!                 kind 2: ts i64, partition u32, offset u64, metric, the rest of the text
//! check    u32    of everything before
//! ```
//!
//! All numbers are little-endian. The check catches a cursor cut or altered on its way, not
//! malice: a forged cursor only ever seeks within the question that it is sent with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::Sort;
use super::time::STORED_MS;
use super::window::Window;
use crate::limits;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;
const SAMPLE_BYTES: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub sort: Sort,
    /// Number of the page that starts here, so that `page` in an answer goes on counting.
    pub page: u32,
    pub filters: Fingerprint,
    pub window: Window,
    pub position: Position,
}

/// The last row that the pages before have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Gpu {
        uuid: String,
    },
    /// Partition and offset tell samples apart that share time and metric.
    Sample {
        ts_ms: i64,
        metric: String,
        partition: u32,
        offset: u64,
    },
}

/// Which question a cursor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("is not a cursor; send next_cursor of an earlier answer as it was")]
    Malformed,
    #[error("belongs to another question; a cursor goes with the same path, filters and sort")]
    OtherQuestion,
}

impl Fingerprint {
    /// Of the parts of a question; their number, order and lengths count.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(u64::from_le_bytes(first(&hash.finalize())))
    }
}

impl Cursor {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(128);
        let (kind, sort) = match (&self.position, self.sort) {
            (Position::Gpu { .. }, sort) => (1, sort),
            (Position::Sample { .. }, sort) => (2, sort),
        };
        let bounds =
            u8::from(self.window.start_ms.is_some()) | u8::from(self.window.end_ms.is_some()) << 1;
        bytes.extend_from_slice(&[VERSION, kind, u8::from(sort == Sort::Descending), bounds]);
        bytes.extend_from_slice(&self.page.to_le_bytes());
        bytes.extend_from_slice(&self.filters.0.to_le_bytes());
        bytes.extend_from_slice(&self.window.start_ms.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.window.end_ms.unwrap_or(0).to_le_bytes());
        match &self.position {
            Position::Gpu { uuid } => bytes.extend_from_slice(uuid.as_bytes()),
            Position::Sample { ts_ms, metric, partition, offset } => {
                bytes.extend_from_slice(&ts_ms.to_le_bytes());
                bytes.extend_from_slice(&partition.to_le_bytes());
                bytes.extend_from_slice(&offset.to_le_bytes());
                bytes.extend_from_slice(metric.as_bytes());
            }
        }
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// # Errors
    /// The text is nothing that [`encode`](Self::encode) wrote.
    pub(crate) fn decode(text: &str) -> Result<Self, CursorError> {
        Self::read(text).ok_or(CursorError::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > limits::CURSOR_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, stated) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        let (head, rest) = body.split_at_checked(HEAD_BYTES)?;
        let [version, kind, sort, bounds, ..] = *head else { return None };
        if stated != check(body) || version != VERSION || sort > 1 || bounds > 3 {
            return None;
        }
        let bound = |bit: u8, at: usize| {
            let ms = i64::from_le_bytes(first(&head[at..]));
            match (bounds >> bit & 1 == 1, ms) {
                (true, ms) => STORED_MS.contains(&ms).then_some(Some(ms)),
                (false, 0) => Some(None),
                (false, _) => None,
            }
        };
        let position = match kind {
            1 => Position::Gpu { uuid: text_of(rest)? },
            2 => {
                let (numbers, metric) = rest.split_at_checked(SAMPLE_BYTES)?;
                let ts_ms = i64::from_le_bytes(first(numbers));
                Position::Sample {
                    ts_ms: STORED_MS.contains(&ts_ms).then_some(ts_ms)?,
                    partition: u32::from_le_bytes(first(&numbers[8..])),
                    offset: u64::from_le_bytes(first(&numbers[12..])),
                    metric: text_of(metric)?,
                }
            }
            _ => return None,
        };
        Some(Self {
            sort: if sort == 1 { Sort::Descending } else { Sort::Ascending },
            page: u32::from_le_bytes(first(&head[4..])),
            filters: Fingerprint(u64::from_le_bytes(first(&head[8..]))),
            window: Window { start_ms: bound(0, 16)?, end_ms: bound(1, 24)? },
            position,
        })
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    first(&Sha256::digest(bytes))
}

/// The first `N` bytes; callers have checked that there are as many.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("the caller has checked the length")
}

fn text_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursors() -> impl Strategy<Value = Cursor> {
        let position = prop_oneof![
            "\\PC{0,40}".prop_map(|uuid| Position::Gpu { uuid }),
            (STORED_MS, "\\PC{0,40}", any::<u32>(), any::<u64>()).prop_map(
                |(ts_ms, metric, partition, offset)| Position::Sample {
                    ts_ms,
                    metric,
                    partition,
                    offset
                }
            ),
        ];
        let bound = || proptest::option::of(STORED_MS);
        (any::<bool>(), any::<u32>(), any::<u64>(), bound(), bound(), position).prop_map(
            |(descending, page, filters, start_ms, end_ms, position)| Cursor {
                sort: if descending { Sort::Descending } else { Sort::Ascending },
                page,
                filters: Fingerprint(filters),
                window: Window { start_ms, end_ms },
                position,
            },
        )
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_it_was(cursor in cursors()) {
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in "\\PC{0,200}") {
            prop_assert_eq!(Cursor::decode(&text), Err(CursorError::Malformed));
        }

        #[test]
        fn an_altered_cursor_is_refused(cursor in cursors(), at in any::<prop::sample::Index>()) {
            let mut text = cursor.encode().into_bytes();
            let at = at.index(text.len());
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(Cursor::decode(&text), Err(CursorError::Malformed));
        }

        #[test]
        fn a_forged_check_does_not_make_nonsense_valid(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = body.clone();
            bytes.extend_from_slice(&check(&body));
            // Whatever it says, it is read without panic and written back the same.
            if let Ok(cursor) = Cursor::decode(&URL_SAFE_NO_PAD.encode(&bytes)) {
                prop_assert_eq!(cursor.encode(), URL_SAFE_NO_PAD.encode(&bytes));
            }
        }

        #[test]
        fn a_truncated_cursor_is_refused(cursor in cursors(), cut in any::<prop::sample::Index>()) {
            let text = cursor.encode();
            let cut = cut.index(text.len());
            prop_assert_eq!(Cursor::decode(&text[..cut]), Err(CursorError::Malformed));
        }
    }

    /// Cursors outlive an upgrade of the service: a change of the format needs a new version.
    #[test]
    fn golden_cursors_read_as_they_did() {
        let golden = [
            (
                "AQEAAAIAAAB3TlmGDqmLagAAAAAAAAAAAAAAAAAAAABHUFUtMUiJBpY",
                Cursor {
                    sort: Sort::Ascending,
                    page: 2,
                    filters: Fingerprint::of(["gpus", "asc"]),
                    window: Window { start_ms: None, end_ms: None },
                    position: Position::Gpu { uuid: "GPU-1".to_owned() },
                },
            ),
            (
                "AQIBAwcAAAAt3daBrFlgMv__________kD5GH5gBAACPPkYfmAEAAAMAAADhlwEAAAAAAERDR01fRklfREVWX0dQVV9VVElM9-ZUYg",
                Cursor {
                    sort: Sort::Descending,
                    page: 7,
                    filters: Fingerprint::of(["telemetry", "desc"]),
                    window: Window { start_ms: Some(-1), end_ms: Some(1_752_871_354_000) },
                    position: Position::Sample {
                        ts_ms: 1_752_871_353_999,
                        metric: "DCGM_FI_DEV_GPU_UTIL".to_owned(),
                        partition: 3,
                        offset: 104_417,
                    },
                },
            ),
        ];
        for (text, cursor) in golden {
            assert_eq!(cursor.encode(), text);
            assert_eq!(Cursor::decode(text), Ok(cursor));
        }
    }

    #[test]
    fn fingerprint_depends_on_where_parts_end() {
        assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["a", "bc"]));
        assert_ne!(Fingerprint::of(["a"]), Fingerprint::of(["a", ""]));
    }

    #[test]
    fn the_longest_metric_fits_a_cursor() {
        let chars = usize::try_from(limits::TEXT_CHARS_MAX).unwrap();
        let cursor = Cursor {
            sort: Sort::Ascending,
            page: 1,
            filters: Fingerprint(0),
            window: Window { start_ms: None, end_ms: None },
            position: Position::Sample {
                ts_ms: 0,
                metric: "\u{10ffff}".repeat(chars),
                partition: 0,
                offset: 0,
            },
        };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
    }
}
