//! Sockets and peers that behave in every way.

use std::io::Read;

use super::*;

fn sockets() -> (Sockets, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    (Sockets::new(listener).unwrap(), addr)
}

fn connected(sockets: &mut Sockets) -> ConnectionId {
    let mut found = None;
    while found.is_none() {
        sockets.poll(|event| {
            if let Event::Connected { connection } = event {
                found = Some(connection);
            }
        });
    }
    found.unwrap()
}

#[test]
fn who_does_not_read_is_cut_off_and_its_memory_is_free_at_once() {
    let (mut sockets, addr) = sockets();
    let mut deaf = TcpStream::connect(addr).unwrap();
    let first = connected(&mut sockets);
    let mut rude = TcpStream::connect(addr).unwrap();
    let second = connected(&mut sockets);
    sockets.send(first, vec![Bytes::from(vec![0; 64 * 1024 * 1024])]);
    sockets.send(second, vec![Bytes::from_static(b"refusal")]);
    sockets.flush(|_| {});
    assert!(sockets.outbound_bytes() > 0, "more than the kernel takes");
    sockets.expel(first, Offence::NotReading, "deaf", "reads nothing");
    assert_eq!(sockets.outbound_bytes(), 0);
    sockets.expel(second, Offence::Protocol, "rude", "babbles");
    let mut gone = Vec::new();
    let mut take = |event: Event<'_>| {
        if let Event::Disconnected { connection } = event {
            gone.push(connection);
        }
    };
    assert!(sockets.sweep_at().unwrap() <= Instant::now());
    sockets.sweep(Instant::now(), &mut take);
    sockets.flush(&mut take);
    assert_eq!(gone, [first, second]);
    let mut last_word = [0; 8];
    assert_eq!(rude.read(&mut last_word).unwrap(), 7, "who reads is told");
    let mut rest = Vec::new();
    assert!(deaf.read_to_end(&mut rest).is_err() || rest.len() < 64 * 1024 * 1024);
}

#[test]
fn what_is_expected_comes_in_a_buffer_of_its_own_and_not_beyond() {
    use std::io::Write;
    let (mut sockets, addr) = sockets();
    let mut peer = TcpStream::connect(addr).unwrap();
    let id = connected(&mut sockets);
    sockets.expect(id, 6);
    peer.write_all(b"frame1frame2").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let (mut received, mut gone) = (Vec::new(), false);
    while !gone {
        sockets.poll(|event| {
            gone |= matches!(event, Event::Disconnected { .. });
            assert!(!matches!(event, Event::Received { .. }), "{event:?}");
            if let Event::Filled { connection, buffer } = event {
                assert!(connection == id && buffer.capacity() == 6, "{buffer:?}");
                received.extend_from_slice(&buffer);
            }
        });
    }
    assert_eq!(received, b"frame1frame2");
    let mut peer = TcpStream::connect(addr).unwrap();
    let id = connected(&mut sockets);
    sockets.expect(id, 6);
    sockets.expect(id, 0);
    peer.write_all(b"small").unwrap();
    let mut passed = false;
    while !passed {
        sockets.poll(|event| passed = matches!(event, Event::Received { bytes: b"small", .. }));
    }
}

#[test]
fn numbers_of_connections_are_never_used_again() {
    let (mut sockets, addr) = sockets();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let peer = TcpStream::connect(addr).unwrap();
        let id = connected(&mut sockets);
        assert!(seen.insert(id), "{id:?} came again");
        drop(peer);
        let mut gone = false;
        while !gone {
            sockets.poll(|event| gone |= matches!(event, Event::Disconnected { .. }));
        }
        // What comes late for the old one reaches nobody.
        sockets.send(id, vec![Bytes::from_static(b"late")]);
        sockets.close(id);
    }
    assert_eq!((sockets.open(), sockets.outbound_bytes()), (0, 0));
}

#[test]
fn a_connection_that_is_not_read_keeps_its_bytes_and_its_place() {
    use std::io::Write;
    let (mut sockets, addr) = sockets();
    let mut peer = TcpStream::connect(addr).unwrap();
    let id = connected(&mut sockets);
    sockets.set_reading(id, false);
    peer.write_all(b"patience").unwrap();
    for _ in 0..100 {
        assert!(!sockets.poll(|event| panic!("{event:?}")));
    }
    sockets.set_reading(id, true);
    let mut received = Vec::new();
    while received.len() < 8 {
        sockets.poll(|event| {
            if let Event::Received { bytes, .. } = event {
                received.extend_from_slice(bytes);
            }
        });
    }
    assert_eq!(received, b"patience");
}
