use super::*;

fn sealed() -> SealedBody {
    let mut builder = GenericBuilder::empty();
    let headers: [(&str, &[u8]); 2] = [("trace", b"1"), ("", b"")];
    for index in 0..3_u8 {
        let message = Message {
            id: u128::from(index),
            key: &[index],
            headers: Headers::Listed(&headers[..usize::from(index)]),
            payload: &[index; 9],
            timestamp_ms: -i64::from(index),
        };
        builder.push(&message).unwrap();
    }
    let sealed = builder.seal();
    assert_eq!((builder.record_count(), builder.body_bytes()), (0, size_of::<ArchivedColumns>()));
    sealed
}

#[test]
fn messages_are_read_back() {
    let sealed = sealed();
    assert_eq!((sealed.min_time_ms, sealed.max_time_ms), (-2, 0));
    let view = GenericView::open(&sealed.body, 3).unwrap();
    let messages: Vec<_> = view.iter().collect();
    assert_eq!(messages.len(), 3);
    let last = messages[2];
    assert_eq!((last.id, last.key, last.payload), (2, &[2][..], &[2; 9][..]));
    assert_eq!(last.headers, Headers::Listed(&[("trace", b"1"), ("", b"")]));
    assert!(messages[0].headers.is_empty());
}

#[test]
fn the_size_is_known_before_sealing() {
    let mut builder = GenericBuilder::empty();
    for index in 0..100_u8 {
        builder.push(&Message::new(&[index], &vec![index; usize::from(index)])).unwrap();
    }
    let expected = builder.body_bytes();
    assert_eq!(builder.seal().body.len(), expected);
}

#[test]
fn messages_over_a_limit_are_refused_and_leave_the_builder_as_it_was() {
    let mut builder = GenericBuilder::empty();
    let long = vec![0; MESSAGE_BYTES_MAX];
    let headers = vec![("n", &b""[..]); MESSAGE_HEADERS_MAX + 1];
    let wrong = [
        Message::new(b"", &long),
        Message::new(&long[..=MESSAGE_KEY_BYTES_MAX], b""),
        Message { headers: Headers::Listed(&headers), ..Message::new(b"", b"") },
    ];
    let before = builder.body_bytes();
    for message in wrong {
        assert!(builder.push(&message).is_err());
    }
    assert_eq!((builder.record_count(), builder.body_bytes()), (0, before));
}

#[test]
fn mutated_bodies_are_refused_or_read_without_panic() {
    let sealed = sealed();
    for bit in 0..sealed.body.len() * 8 {
        let mut body = sealed.body.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        if let Ok(view) = GenericView::open(&body, 3) {
            let bytes: usize = view
                .iter()
                .map(|message| {
                    message.payload.len()
                        + message
                            .headers
                            .iter()
                            .map(|(name, value)| name.len() + value.len())
                            .sum::<usize>()
                })
                .sum();
            assert!(bytes <= body.len());
        }
    }
    assert!(GenericView::open(&sealed.body, 2).is_err());
    assert!(GenericView::open(&[], 0).is_err());
}
