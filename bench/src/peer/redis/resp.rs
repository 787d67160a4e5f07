//! RESP2, as far as answers to XADD and XREAD go: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use crate::Error;
use crate::peer::kept::{line, number};

pub(super) const SYSTEM: &str = "redis";

/// One piece of an answer; an array's elements follow it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Array(usize),
    Bulk(&'a [u8]),
    /// A null, a number or a status: nothing that is looked at.
    Other,
}

/// The first piece, and its length. `None`: it is not whole.
pub(super) fn token(bytes: &[u8]) -> Result<Option<(Token<'_>, usize)>, Error> {
    let Some((line, used)) = line(bytes) else { return Ok(None) };
    let shown = || String::from_utf8_lossy(line).into_owned();
    let token = match line.split_first() {
        Some((b'$' | b'*', b"-1")) | Some((b'+' | b':', _)) => Token::Other,
        Some((b'-', _)) => return Err(Error::Refused { system: SYSTEM, detail: shown() }),
        Some((b'*', digits)) if let Some(elements) = number(digits) => Token::Array(elements),
        Some((b'$', digits)) if let Some(length) = number(digits) => {
            let Some(bulk) = bytes.get(used..used + length) else { return Ok(None) };
            let whole = used + length + 2;
            return Ok((bytes.len() >= whole).then_some((Token::Bulk(bulk), whole)));
        }
        Some(_) | None => return Err(Error::Protocol { system: SYSTEM, detail: shown() }),
    };
    Ok(Some((token, used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_when_they_are_whole() {
        assert_eq!(token(b"*3\r\n").unwrap(), Some((Token::Array(3), 4)));
        assert_eq!(token(b"*-1\r\n").unwrap(), Some((Token::Other, 5)));
        let bulk = b"$5\r\na\r\nbc\r\n+";
        assert_eq!(token(bulk).unwrap(), Some((Token::Bulk(b"a\r\nbc"), 11)));
        for cut in 0..11 {
            assert_eq!(token(&bulk[..cut]).unwrap(), None, "{cut}");
        }
        assert!(matches!(token(b"-OOM used\r\n"), Err(Error::Refused { .. })));
        for wrong in [&b"$x\r\n"[..], b"hello\r\n", b"\r\n"] {
            assert!(matches!(token(wrong), Err(Error::Protocol { .. })), "{wrong:?}");
        }
    }
}
