//! Bytes of a message that has not come in whole.

use crate::Error;

#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
}

impl Kept {
    /// Takes what came in. `take` is given what is there, and says how many bytes of it the first
    /// message has; `None`: it is not whole yet.
    pub(super) fn each(
        &mut self,
        received: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<Option<usize>, Error>,
    ) -> Result<(), Error> {
        let mut all = std::mem::take(&mut self.bytes);
        let mut rest = if all.is_empty() {
            received
        } else {
            all.extend_from_slice(received);
            &all[..]
        };
        while !rest.is_empty() {
            let Some(used) = take(rest)? else { break };
            rest = &rest[used..];
        }
        self.bytes.extend_from_slice(rest);
        Ok(())
    }
}

/// The first line without its end, and its length with it.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]), end + 1))
}

/// A decimal number and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_came_in() {
        let whole = b"one\r\ntwo\r\n\r\nthree\r\n";
        for piece in 1..whole.len() {
            let (mut kept, mut lines) = (Kept::default(), Vec::new());
            for bytes in whole.chunks(piece) {
                let take = |bytes: &[u8]| {
                    let Some((line, used)) = line(bytes) else { return Ok(None) };
                    lines.push(line.to_vec());
                    Ok(Some(used))
                };
                kept.each(bytes, take).unwrap();
            }
            let wanted: [&[u8]; 4] = [b"one", b"two", b"", b"three"];
            assert_eq!(lines, wanted, "in pieces of {piece}");
        }
    }
}
