//! sendfile(2) of a file to a socket: what a broker that looked at nothing could give to a subscriber that
//! reads from the start. One thread sends and another receives.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::limits::RECEIVE_BYTES;
use crate::server::{choose_congestion_control, dial};
use crate::{Error, Sample, cpu};

/// Where the bytes are when the sending begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageCache {
    /// On the disk alone.
    Cold,
    /// In memory, all of them.
    Warm,
}

/// What one call sends at most.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// Sends all of `path` over loopback; the sender is on the first core, the receiver on the last.
///
/// # Errors
/// The file cannot be read, or there is no socket.
pub fn sendfile(path: &Path, page_cache: PageCache) -> Result<Sample, Error> {
    let failed = || Error::io(format!("sending {} with sendfile", path.display()));
    let file = File::open(path).map_err(failed())?;
    let bytes = file.metadata().map_err(failed())?.len();
    // Read from the disk once in any case: it gives what was just written at a third of its speed the
    // first time, and a broker that was just started has read its log to recover it.
    file.sync_all().map_err(failed())?;
    let forget = || rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    forget().map_err(|errno| failed()(errno.into()))?;
    std::io::copy(&mut &file, &mut std::io::sink()).map_err(failed())?;
    if page_cache == PageCache::Cold {
        forget().map_err(|errno| failed()(errno.into()))?;
    }
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
    let receiver = dial(listener.local_addr().map_err(failed())?)?;
    let (sender, _) = listener.accept().map_err(failed())?;
    choose_congestion_control(&sender);
    let cores = cpu::cores();
    let start = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let send = || {
            cpu::stay_on(&cores[..1]);
            send_all(&file, &sender, bytes)
        };
        let receive = || {
            cpu::stay_on(&cores[cores.len() - 1..]);
            receive_all(&receiver, bytes)
        };
        let (send, receive) = (scope.spawn(send), scope.spawn(receive));
        let over = "neither side panics";
        (send.join().expect(over), receive.join().expect(over))
    });
    let stages = vec![("sendfile".to_owned(), sent?), ("client".to_owned(), received?)];
    Ok(Sample { records: 0, bytes, elapsed: start.elapsed(), cpu: stages, ..Sample::default() })
}

fn send_all(file: &File, socket: &TcpStream, bytes: u64) -> Result<Duration, Error> {
    let mut at = 0;
    while at < bytes {
        let sent = rustix::fs::sendfile(socket, file, Some(&mut at), PIECE_BYTES)
            .map_err(|errno| Error::io("sendfile")(errno.into()))?;
        if sent == 0 {
            let short = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::io("sendfile: the file became shorter")(short));
        }
    }
    Ok(cpu::of_this_thread())
}

fn receive_all(socket: &TcpStream, bytes: u64) -> Result<Duration, Error> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut received = 0;
    while received < bytes {
        // It looks again at once, as the load generator does.
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => {
                let closed = std::io::ErrorKind::UnexpectedEof.into();
                return Err(Error::io("receiving a file: its sender has gone")(closed));
            }
            Ok((_, count)) => received += count as u64,
            Err(Errno::AGAIN | Errno::INTR) => std::hint::spin_loop(),
            Err(errno) => return Err(Error::io("receiving a file")(errno.into())),
        }
    }
    Ok(cpu::of_this_thread())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_from_disk_and_from_memory() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 3_000_001]).unwrap();
        for page_cache in [PageCache::Cold, PageCache::Warm] {
            assert_eq!(sendfile(&path, page_cache).unwrap().bytes, 3_000_001);
        }
    }
}
