//! Sockets and peers that behave in every way.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]

use std::io::Read;

use super::*;
use crate::limits::PATIENCE_TRIED_EVERY;

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
    sockets.send(first, vec![Bytes::from(vec![0; 64 * 1024 * 1024])], false);
    sockets.send(second, vec![Bytes::from_static(b"refusal")], false);
    sockets.flush(Instant::now(), |_| {});
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
    sockets.flush(Instant::now(), &mut take);
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
        sockets.poll(|event| {
            passed = matches!(event, Event::Received { bytes: b"small", .. });
            assert!(passed, "{event:?}");
        });
    }
}

#[test]
fn the_rest_of_a_large_frame_goes_behind_what_has_come_of_it() {
    use std::io::Write;
    let (mut sockets, addr) = sockets();
    let mut peer = TcpStream::connect(addr).unwrap();
    let id = connected(&mut sockets);
    let mut begun = Vec::with_capacity(12);
    begun.extend_from_slice(b"begun-");
    let memory = begun.as_ptr();
    sockets.expect(id, 100);
    sockets.gather(id, begun);
    // Readiness that comes to nothing, as after a checksum that was wrong.
    assert_eq!(sockets.serve(id, EventFlags::IN, &mut |event| panic!("{event:?}")), 0);
    peer.write_all(b"frame1next").unwrap();
    let mut gathered = None;
    while gathered.is_none() {
        sockets.poll(|event| {
            let Event::Filled { connection, buffer } = event else { panic!("{event:?}") };
            assert!(connection == id && buffer.starts_with(b"begun-"), "{buffer:?}");
            gathered = Some(buffer);
        });
        // Not all need come at once: the core would give it back.
        if let Some(buffer) = gathered.take_if(|buffer| buffer.len() < buffer.capacity()) {
            sockets.gather(id, buffer);
        }
    }
    let buffer = gathered.unwrap();
    assert_eq!((&buffer[..], buffer.as_ptr()), (&b"begun-frame1"[..], memory));
    let mut rest = Vec::new();
    while rest.len() < 4 {
        sockets.poll(|event| {
            let Event::Filled { buffer, .. } = event else { panic!("{event:?}") };
            rest.extend_from_slice(&buffer);
        });
    }
    assert_eq!(rest, b"next", "as expected, in a buffer of its own");
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
        sockets.send(id, vec![Bytes::from_static(b"late")], false);
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

/// Bytes of the peer that come in one look.
fn hear(sockets: &mut Sockets, mut peer: &TcpStream, bytes: &[u8]) {
    use std::io::Write;
    peer.write_all(bytes).unwrap();
    let mut heard = 0;
    while heard < bytes.len() {
        sockets.poll(|event| {
            if let Event::Received { bytes, .. } = event {
                heard += bytes.len();
            }
        });
    }
}

/// A peer whose answers wait for more from now on, with one that does; and a time before all of it.
fn patient() -> (Sockets, ConnectionId, TcpStream, Instant) {
    let (mut sockets, addr) = sockets();
    let peer = TcpStream::connect(addr).unwrap();
    let (id, early) = (connected(&mut sockets), Instant::now());
    hear(&mut sockets, &peer, b"?");
    let mut tries = 0;
    while !sockets.is_patient() {
        tries += 1;
        sockets.send(id, vec![Bytes::from_static(b"!")], true);
        sockets.flush(early, |_| {});
    }
    assert_eq!(tries, PATIENCE_TRIED_EVERY);
    assert_eq!(sockets.outbound_bytes(), 1, "the others went out at once");
    (sockets, id, peer, early)
}

#[test]
fn answers_wait_for_more_for_a_moment_where_the_peer_sends_on() {
    let (mut sockets, id, peer, early) = patient();
    hear(&mut sockets, &peer, b"?");
    sockets.send(id, vec![Bytes::from_static(b"!")], true);
    sockets.flush(early, |_| {});
    assert_eq!(sockets.outbound_bytes(), 2, "they wait together");
    sockets.flush(Instant::now() + PATIENT_MAX, |_| {});
    assert_eq!((sockets.outbound_bytes(), sockets.is_patient()), (0, false));

    hear(&mut sockets, &peer, b"?");
    sockets.send(id, vec![Bytes::from_static(b"!")], true);
    sockets.flush(early, |_| {});
    assert!(sockets.is_patient(), "it paid the last time");
    sockets.flush(Instant::now() + PATIENT_MAX, |_| {});
    hear(&mut sockets, &peer, b"?");
    sockets.send(id, vec![Bytes::from_static(b"!")], true);
    sockets.flush(early, |_| {});
    assert_eq!(sockets.outbound_bytes(), 0, "the last time the peer had to wait for them");
}

#[test]
fn answers_wait_no_longer_when_something_else_goes_out_or_much_comes_in() {
    let (mut sockets, id, _peer, early) = patient();
    sockets.send(id, vec![Bytes::from_static(b"now")], false);
    sockets.flush(early, |_| {});
    assert_eq!((sockets.outbound_bytes(), sockets.is_patient()), (0, false));

    let (mut sockets, _, peer, early) = patient();
    sockets.flush(early, |_| {});
    assert_eq!(sockets.outbound_bytes(), 1);
    sockets.polled_bytes = PATIENT_BYTES_MAX + 1;
    sockets.flush(early, |_| {});
    assert_eq!(sockets.outbound_bytes(), 0);
    drop(peer);
}

#[test]
fn a_late_answer_does_not_wait_and_one_whose_peer_is_gone_is_forgotten() {
    let (mut sockets, id, peer, early) = patient();
    hear(&mut sockets, &peer, b"?");
    sockets.flush(Instant::now() + PATIENT_MAX, |_| {});
    sockets.poll(|_| {});
    sockets.send(id, vec![Bytes::from_static(b"!")], true);
    sockets.flush(early, |_| {});
    assert_eq!(sockets.outbound_bytes(), 0, "it did not come of what was heard just now");

    let (mut sockets, _, peer, early) = patient();
    drop(peer);
    while sockets.open() > 0 {
        sockets.poll(|_| {});
    }
    sockets.flush(early, |_| {});
    assert_eq!((sockets.outbound_bytes(), sockets.is_patient()), (0, false));
}

#[test]
fn a_connection_takes_all_that_it_has_to_another_executor() {
    use std::io::Write;
    let (mut here, addr) = sockets();
    let (mut there, _) = sockets();
    let mut peer = TcpStream::connect(addr).unwrap();
    let id = connected(&mut here);
    // More than the kernel takes, and a wish for buffers of its own.
    const BYTES: usize = 32 * 1024 * 1024;
    here.send(id, vec![Bytes::from(vec![7; BYTES])], false);
    here.flush(Instant::now(), |_| {});
    here.expect(id, 6);
    let waiting = here.outbound_bytes();
    assert!(waiting > 0);
    let connection = here.release(id).unwrap();
    assert_eq!((here.outbound_bytes(), here.open()), (0, 0));
    assert!(here.release(id).is_none(), "it is gone");
    // What is said to it now comes too late.
    here.send(id, vec![Bytes::from_static(b"late")], false);
    here.set_reading(id, false);
    here.flush(Instant::now(), |event| panic!("{event:?}"));
    peer.write_all(b"frame1frame2").unwrap();
    assert!(!here.poll(|event| panic!("{event:?}")), "nobody here watches it");

    let (id, outbound_bytes) = there.adopt(connection).unwrap();
    assert_eq!((outbound_bytes, there.outbound_bytes(), there.open()), (waiting, waiting, 1));
    let reader = std::thread::spawn(move || {
        let mut received = vec![0; BYTES];
        peer.read_exact(&mut received).unwrap();
        assert!(received.iter().all(|byte| *byte == 7));
    });
    let (mut received, mut sent) = (Vec::new(), 0);
    while sent < waiting || received.len() < 12 {
        there.poll(|event| match event {
            Event::Filled { connection, buffer } => {
                assert!(connection == id && buffer.capacity() == 6, "{buffer:?}");
                received.extend_from_slice(&buffer);
            }
            other => panic!("{other:?}"),
        });
        there.flush(Instant::now(), |event| match event {
            Event::Sent { connection, bytes } => {
                assert_eq!(connection, id);
                sent += bytes;
            }
            other => panic!("{other:?}"),
        });
    }
    reader.join().unwrap();
    assert_eq!((&received[..], sent), (&b"frame1frame2"[..], waiting));
}

#[test]
fn what_waits_to_be_written_is_written_by_the_next_executor() {
    for patient in [false, true] {
        let (mut here, addr) = sockets();
        let (mut there, _) = sockets();
        let mut peer = TcpStream::connect(addr).unwrap();
        let id = connected(&mut here);
        here.send(id, vec![Bytes::from_static(b"answer")], patient);
        let connection = here.release(id).unwrap();
        here.flush(Instant::now(), |event| panic!("{event:?}"));
        there.adopt(connection).unwrap();
        assert!(there.has_to_write());
        there.flush(Instant::now(), |_| {});
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
}

#[test]
fn a_connection_that_closes_stays_until_it_has() {
    let (mut sockets, addr) = sockets();
    let _peer = TcpStream::connect(addr).unwrap();
    let id = connected(&mut sockets);
    sockets.close(id);
    assert!(sockets.release(id).is_none());
    assert_eq!(sockets.open(), 1);
}
