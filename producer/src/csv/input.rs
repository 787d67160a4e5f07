//! Opens what is read: a file or standard input, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::mpsc;

use flate2::bufread::MultiGzDecoder;
use serde::Serialize;

use crate::limits;
use crate::source::SourceError;

/// Where the text of a CSV source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    File(PathBuf),
    Stdin,
}

impl core::fmt::Display for Input {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Input::File(path) => path.display().fmt(f),
            Input::Stdin => f.write_str("standard input"),
        }
    }
}

/// Bytes of an input after decompression. Reading gives `WouldBlock` while standard input is
/// silent, so that a publisher goes on sealing batches meanwhile.
pub(crate) type Bytes = Box<dyn Read + Send>;

impl Input {
    pub(crate) fn open(&self) -> Result<Bytes, SourceError> {
        match self {
            Input::File(path) => {
                let open = |source| SourceError::Open { path: path.clone(), source };
                let file = File::open(path).map_err(open)?;
                decompressed(BufReader::with_capacity(256 * 1024, file)).map_err(open)
            }
            Input::Stdin => Ok(stdin()),
        }
    }

    pub(crate) fn can_be_read_again(&self) -> bool {
        match self {
            Input::File(_) => true,
            Input::Stdin => false,
        }
    }
}

/// gzip is known by its first two bytes, whatever the file is called.
fn decompressed(mut input: impl BufRead + Send + 'static) -> io::Result<Bytes> {
    if input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(input)));
    }
    Ok(Box::new(input))
}

/// A thread blocks on standard input; it ends with the input or when its reader is gone.
fn stdin() -> Bytes {
    let (sender, chunks) = mpsc::sync_channel(limits::STDIN_CHUNKS_MAX);
    std::thread::spawn(move || {
        let mut input = match decompressed(BufReader::new(io::stdin())) {
            Ok(input) => input,
            Err(error) => {
                // Without a reader nobody is left who would want to know.
                let _ = sender.send(Err(error));
                return;
            }
        };
        loop {
            let mut chunk = vec![0; limits::STDIN_CHUNK_BYTES];
            let read = match input.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map(|count| {
                    chunk.truncate(count);
                    chunk
                }),
            };
            let last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
            if sender.send(read).is_err() || last {
                return;
            }
        }
    });
    Box::new(Chunks { chunks, current: Vec::new(), taken: 0 })
}

/// What the thread has read so far.
struct Chunks {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    current: Vec<u8>,
    taken: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.current.len() {
            let next = match self.chunks.try_recv() {
                Ok(chunk) => chunk?,
                // What was read stays read, however long the silence is.
                Err(mpsc::TryRecvError::Empty) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(mpsc::TryRecvError::Disconnected) => Vec::new(),
            };
            self.current = next;
            self.taken = 0;
        }
        let left = &self.current[self.taken..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text of every read up to the end, `None` where there was nothing to read.
    fn reads(chunks: &mut Chunks, count: usize) -> Vec<Option<String>> {
        let mut buffer = [0; 4];
        let read = |_| match chunks.read(&mut buffer) {
            Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        };
        (0..count).map(read).collect()
    }

    #[test]
    fn silence_on_standard_input_neither_repeats_nor_ends_what_was_read() {
        let (sender, receiver) = mpsc::sync_channel(4);
        let mut chunks = Chunks { chunks: receiver, current: Vec::new(), taken: 0 };
        assert_eq!(reads(&mut chunks, 1), [None]);
        sender.send(Ok(b"abcdef".to_vec())).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(reads(&mut chunks, 4), [text("abcd"), text("ef"), None, None]);
        sender.send(Ok(b"g".to_vec())).unwrap();
        assert_eq!(reads(&mut chunks, 2), [text("g"), None]);
        drop(sender);
        assert_eq!(reads(&mut chunks, 2), [text(""), text("")]);
    }
}
