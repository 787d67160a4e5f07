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
        if self.bytes.is_empty() {
            let used = take_all(received, &mut take)?;
            self.bytes.extend_from_slice(&received[used..]);
        } else {
            // A long message comes in many pieces: what is there is not copied for each.
            self.bytes.extend_from_slice(received);
            let used = take_all(&self.bytes, &mut take)?;
            self.bytes.drain(..used);
        }
        Ok(())
    }
}

/// How many bytes of it are whole messages.
fn take_all(
    bytes: &[u8],
    take: &mut impl FnMut(&[u8]) -> Result<Option<usize>, Error>,
) -> Result<usize, Error> {
    let mut all_used = 0;
    while all_used < bytes.len() {
        let Some(used) = take(&bytes[all_used..])? else { break };
        all_used += used;
    }
    Ok(all_used)
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
